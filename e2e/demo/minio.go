package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions/objects/miniotest"
)
