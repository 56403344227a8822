package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// shellImage names the image that misbehaving functions are written in: one
// static busybox and links to it. It is made once, by the first test that asks.
var shellImage = fmt.Sprintf("spillway-e2e-shell:%d", os.Getpid())

var shellArchive = sync.OnceValues(func() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("busybox is missing (deploy/setup.sh test installs it): %w", err)
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// Without an entry of its own the folder is root's alone on some engines.
	if err := w.WriteHeader(&tar.Header{Name: "bin/", Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
		return nil, err
	}
	if err := w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(binary)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	for _, applet := range []string{"sh", "ls", "wc", "dd", "sleep", "ln", "cat", "seq", "touch"} {
		if err := w.WriteHeader(&tar.Header{Name: "bin/" + applet, Linkname: "/bin/busybox", Typeflag: tar.TypeSymlink}); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
})

// needShell makes sure of shellImage in the engine at host; empty is the
// machine's own.
func needShell(t *testing.T, host string) {
	t.Helper()
	needDocker(t)
	archive, err := shellArchive()
	if err != nil {
		t.Fatal(err)
	}
	docker := func(args ...string) *exec.Cmd {
		if host != "" {
			args = append([]string{"--host", host}, args...)
		}
		return exec.Command("docker", args...)
	}
	imp := docker("import", "--change", "ENV PATH=/bin", "-", shellImage)
	imp.Stdin = bytes.NewReader(archive)
	if out, err := imp.CombinedOutput(); err != nil {
		t.Fatalf("import the shell image: %v: %s", err, out)
	}
	if host == "" {
		t.Cleanup(func() { _ = docker("rmi", "-f", shellImage).Run() })
	}
}
