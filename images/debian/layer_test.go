package debian_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/debian"
)

func TestLayerOfRealPackages(t *testing.T) {
	source, err := debian.Open(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler))
	if errors.Is(err, functions.ErrUnavailable) {
		t.Skipf("apt does not answer here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err = source.WriteLayer(t.Context(), debian.Config{Packages: []string{"hello"}, Without: []string{"gcc-12-base"}}, &b)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	tr := tar.NewReader(&b)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		have[h.Name] = true
	}
	if !have["usr/bin/hello"] || !have["usr/share/doc/hello/copyright"] || !have["lib64"] {
		t.Errorf("the layer lacks the program, its licence or /lib64: %d files", len(have))
	}
	for name := range have {
		if strings.Contains(name, "gcc-12-base") {
			t.Errorf("%s is there", name)
		}
	}
	err = source.WriteLayer(t.Context(), debian.Config{Packages: []string{"no-such-package-anywhere"}}, io.Discard)
	if !errors.Is(err, functions.ErrUnavailable) || !strings.Contains(err.Error(), "no-such-package-anywhere") {
		t.Errorf("an unknown package: %v", err)
	}
}

func TestMachineWithoutAptIsToldSo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := debian.Open(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler))
	if !errors.Is(err, functions.ErrUnavailable) || !strings.Contains(err.Error(), "apt-get") {
		t.Errorf("got %v", err)
	}
	broken := t.TempDir()
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if err := os.WriteFile(filepath.Join(broken, tool), []byte("#!/bin/sh\necho E: no network >&2\nexit 100\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", broken)
	_, err = debian.Open(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler))
	if e, ok := errors.AsType[*functions.Error](err); !ok || e.Code != "apt_failed" || !strings.Contains(e.Message, "no network") {
		t.Errorf("got %v", err)
	}
}
