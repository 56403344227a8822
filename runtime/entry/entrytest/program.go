// Package entrytest gives tests the entry program, whether spillway's build has
// it embedded or not.
package entrytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// program builds the entry program as "make entry" does, once in a process.
var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "spillway-entry-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "entry")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "github.com/spillway/spillway/runtime/entry/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return os.ReadFile(path)
})

// Program returns the path of an entry program that is there until the test ends.
func Program(t testing.TB) string {
	t.Helper()
	binary, err := program()
	if err != nil {
		t.Fatalf("build the entry program: %v", err)
	}
	path := filepath.Join(t.TempDir(), "entry")
	if err := os.WriteFile(path, binary, 0o555); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o555); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return path
}
