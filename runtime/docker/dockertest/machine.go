package dockertest

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/spillway/spillway/runtime/docker"
)

// Open returns a driver on an engine, which ends with the test; an empty host is
// the machine's own. Without an engine the test is skipped, or fails when
// SPILLWAY_REQUIRE_DOCKER is set.
func Open(t testing.TB, host string) *docker.Driver {
	t.Helper()
	d, err := docker.New(docker.Config{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if _, err := d.Probe(t.Context()); err != nil {
		if os.Getenv("SPILLWAY_REQUIRE_DOCKER") != "" {
			t.Fatalf("no Docker engine, and SPILLWAY_REQUIRE_DOCKER is set: %v", err)
		}
		t.Skipf("SKIPPED: no Docker engine here (%v)", err)
	}
	return d
}

// Load makes an image of an archive present until the test ends.
func Load(t testing.TB, d *docker.Driver, image string, archive []byte) {
	t.Helper()
	if err := d.Load(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatalf("load the test image: %v", err)
	}
	t.Cleanup(func() {
		if err := d.RemoveImage(context.WithoutCancel(t.Context()), image); err != nil {
			t.Errorf("remove the test image: %v", err)
		}
	})
}
