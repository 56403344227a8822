package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/store"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// TestOCIWithItsStore holds the oci runtime to the contract as it is wired here,
// over the store of images that nodes have.
func TestOCIWithItsStore(t *testing.T) {
	_, crun := exec.LookPath("crun")
	_, runc := exec.LookPath("runc")
	if required := os.Getenv("SPILLWAY_REQUIRE_OCI") != ""; os.Geteuid() != 0 || (crun != nil && runc != nil) {
		if required {
			t.Fatal("SPILLWAY_REQUIRE_OCI is set, and this is not root, or has neither crun nor runc")
		}
		t.Skip("SKIPPED: needs root, and crun or runc")
	}
	log := slog.New(slog.DiscardHandler)
	cfg, again := Default(), Default()
	cfg.Data, again.Data = t.TempDir(), t.TempDir()
	runtimetest.TestDriver(t, func(t *testing.T) runtimetest.Subject {
		open := func(t *testing.T, cfg Config) runtime.Driver {
			d, _, err := openOCI(t.Context(), cfg, log)
			if errors.Is(err, functions.ErrUnavailable) {
				t.Skipf("SKIPPED: %v", err) // no entry program was built
			}
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		images, err := openImages(cfg, log)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(again.Data, "node"), 0o711); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(cfg.Data, "node", "images"), filepath.Join(again.Data, "node", "images")); err != nil {
			t.Fatal(err)
		}
		image := loadBox(t, images) // before the driver, so that it goes after it
		d := open(t, cfg)
		t.Cleanup(func() {
			if err := d.(interface{ Close() error }).Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		return runtimetest.Subject{
			Driver: d, Image: image,
			Load:   func(t *testing.T) string { return loadBox(t, images) },
			Reopen: func(t *testing.T) runtime.Driver { return open(t, again) },
		}
	})
}

// loadBox makes a test image present until the end of the test.
func loadBox(t *testing.T, images *store.Store) string {
	t.Helper()
	name, archive := runtimetest.BoxImage(t)
	if _, err := images.Load(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := images.RemoveImage(context.WithoutCancel(t.Context()), name); err != nil {
			t.Errorf("remove the test image: %v", err)
		}
	})
	return name
}
