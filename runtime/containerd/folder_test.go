package containerd

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// What a container reads must not depend on the agent's umask.
func TestTheContainersUserReadsItsFiles(t *testing.T) {
	f := folder(filepath.Join(t.TempDir(), "c"))
	mask := syscall.Umask(0o077)
	err := f.make()
	if err == nil {
		err = f.begin([]byte("input"), time.Now())
	}
	syscall.Umask(mask)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{f.stdin(), f.hosts()} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}
