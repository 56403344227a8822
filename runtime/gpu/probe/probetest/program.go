package probetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/runtime/buildtest"
)

// program builds gpuprobe as "make gpuprobe" does, once in a process.
var program = buildtest.Once("github.com/spillway/spillway/cmd/gpuprobe",
	[]string{"CGO_ENABLED=1", "CGO_CFLAGS=-O2 -g -Wno-deprecated-declarations"},
	"-trimpath", "-buildvcs=false", "-ldflags=-s -w -extldflags=-Wl,-z,lazy")

// Program returns the path of a gpuprobe that is there until the test ends. Without
// gcc the test is skipped, or fails, as by Install.
func Program(t testing.TB) string {
	t.Helper()
	needGCC(t)
	binary, err := program()
	if err != nil {
		t.Fatalf("build gpuprobe: %v", err)
	}
	path := filepath.Join(t.TempDir(), "gpuprobe")
	if err := os.WriteFile(path, binary, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// needGCC skips a test, or fails it, where there is no C compiler.
func needGCC(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err == nil {
		return
	}
	if os.Getenv(requireVariable) != "" {
		t.Fatalf("no gcc here, and %s is set", requireVariable)
	}
	t.Skip("SKIPPED: no gcc here, which builds the GPU probe and a driver for it; Debian's package is gcc")
}
