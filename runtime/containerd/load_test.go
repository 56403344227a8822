package containerd

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/containerd/containerdtest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// What an archive brings runs under the archive's own name, with no source to
// pull it from.
func TestLoad(t *testing.T) {
	p := on(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
	name, archive := runtimetest.BoxImage(t)
	d := p.open(t)
	if _, err := d.Image(t.Context(), name); !errors.Is(err, functions.ErrNotFound) {
		t.Fatalf("before: %v, want not found", err)
	}
	for range 2 { // again changes nothing
		if err := d.Load(t.Context(), bytes.NewReader(archive)); err != nil {
			t.Fatal(err)
		}
	}
	exit, out := run(t, d, runtime.Spec{Image: name, Command: []string{"env", "BOX"}})
	if exit.Code != 0 || out != "image\n" {
		t.Errorf("it ran as %+v: %q", exit, out)
	}
	if err := d.Load(t.Context(), strings.NewReader("no archive")); err == nil {
		t.Error("what is no archive is taken")
	}
}
