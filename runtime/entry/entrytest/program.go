// Package entrytest gives tests the entry program, whether spillway's build has
// it embedded or not.
package entrytest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/runtime/buildtest"
)

// program builds the entry program as "make entry" does, once in a process.
var program = buildtest.Once("github.com/spillway/spillway/runtime/entry/program", []string{"CGO_ENABLED=0", "GOOS=linux"}, "-trimpath", "-ldflags=-s -w")

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
