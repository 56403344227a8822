// Package buildtest compiles programs of this module for tests.
package buildtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
)

// Once returns a function that compiles a package's program, once in a process,
// with go build's flags and these variables beside the process's own.
func Once(importPath string, env []string, flags ...string) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		dir, err := os.MkdirTemp("", "spillway-build-*")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "program")
		build := exec.Command("go", slices.Concat([]string{"build"}, flags, []string{"-o", path, importPath})...)
		build.Env = append(os.Environ(), env...)
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, out)
		}
		return os.ReadFile(path)
	})
}
