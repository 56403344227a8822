package docker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine returns a driver on this machine's engine with the test image loaded.
func engine(t testing.TB, c Config) (*Driver, string) {
	t.Helper()
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	what, err := d.Probe(t.Context())
	if err != nil {
		if os.Getenv("SPILLWAY_REQUIRE_DOCKER") != "" {
			t.Fatalf("no Docker engine, and SPILLWAY_REQUIRE_DOCKER is set: %v", err)
		}
		t.Skipf("SKIPPED: no Docker engine here (%v)", err)
	}
	t.Log(what)
	return d, load(t, d)
}

// load makes a test image present until the end of the test.
func load(t testing.TB, d *Driver) string {
	t.Helper()
	image, archive := runtimetest.BoxImage(t)
	if err := d.Load(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatalf("load the test image: %v", err)
	}
	t.Cleanup(func() {
		if err := d.RemoveImage(context.WithoutCancel(t.Context()), image); err != nil {
			t.Errorf("remove the test image: %v", err)
		}
	})
	return image
}

func TestConformance(t *testing.T) {
	runtimetest.TestDriver(t, func(t *testing.T) runtimetest.Subject {
		d, image := engine(t, Config{})
		return runtimetest.Subject{
			Driver: d, Image: image,
			Load: func(t *testing.T) string { return load(t, d) },
			Reopen: func(t *testing.T) runtime.Driver {
				next, err := New(Config{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { next.Close() })
				return next
			},
		}
	})
}

func TestNobodyListens(t *testing.T) {
	d, err := New(Config{Host: "unix://" + filepath.Join(t.TempDir(), "none.sock")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx := t.Context()
	_, probe := d.Probe(ctx)
	_, create := d.Create(ctx, runtime.Spec{Image: "a"})
	_, list := d.List(ctx, nil)
	for name, err := range map[string]error{
		"Probe": probe, "Create": create, "List": list,
		"Pull": d.Pull(ctx, "a", nil), "Start": d.Start(ctx, "a", runtime.Streams{}), "Remove": d.Remove(ctx, "a"),
		"Stop": d.Stop(ctx, "a", 0), "Attach": d.Attach(ctx, "a", runtime.Streams{}),
	} {
		if !errors.Is(err, functions.ErrUnavailable) {
			t.Errorf("%s: %v, want unavailable", name, err)
		}
	}
	var launch *runtime.LaunchError
	if !errors.As(create, &launch) {
		t.Fatalf("Create: %v, want a LaunchError", create)
	}
	for _, gpu := range []bool{true, false} {
		if class := runtime.ClassifyLaunch(launch.Message, launch.Hung, gpu); class != functions.Infra {
			t.Errorf("class of %q with gpu=%v: %s, want %s", launch.Message, gpu, class, functions.Infra)
		}
	}
	past, stop := context.WithDeadline(ctx, time.Now())
	defer stop()
	if _, err := d.Create(past, runtime.Spec{Image: "a"}); !errors.As(err, &launch) || launch.Hung {
		t.Errorf("Create past its deadline: %v, want a LaunchError that is not hung", err)
	} else if class := runtime.ClassifyLaunch(launch.Message, launch.Hung, true); class != functions.Infra {
		t.Errorf("class of %q: %s, want %s", launch.Message, class, functions.Infra)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := d.Wait(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v, want it to wait until its context ends", err)
	}
}

// What Save gives, Load takes: the image is the same one again.
func TestSave(t *testing.T) {
	d, image := engine(t, Config{})
	ctx := t.Context()
	before, err := d.Image(ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := d.Save(ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	saved, err := io.ReadAll(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.RemoveImage(ctx, image); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Save(ctx, image); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Save of what is gone: %v, want not found", err)
	}
	if err := d.Load(ctx, bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	if after, err := d.Image(ctx, image); err != nil || after.ID != before.ID {
		t.Errorf("after the way there and back: %+v, %v, want %+v", after, err, before)
	}
}

func TestBadAddress(t *testing.T) {
	if _, err := New(Config{Host: "nonsense"}); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("New: %v, want invalid", err)
	}
}

func TestPullNamesTheImage(t *testing.T) {
	d, _ := engine(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := d.Pull(ctx, "127.0.0.1:1/spillway/none:none", nil)
	if !errors.Is(err, functions.ErrUnavailable) && !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Pull: %v, want unavailable or not found", err)
	}
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("127.0.0.1:1/spillway/none:none")) {
		t.Errorf("Pull: %v, want it to name the image", err)
	}
	if err := d.Pull(ctx, "Not A Name", nil); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("Pull of a name that is none: %v, want invalid", err)
	}
}

func TestEgressReachesOut(t *testing.T) {
	for _, network := range []string{"", "host"} {
		d, image := engine(t, Config{EgressNetwork: network})
		ctx := t.Context()
		id, err := d.Create(ctx, runtime.Spec{Image: image, Command: []string{"facts"}, Network: functions.NetworkEgress})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Remove(context.WithoutCancel(ctx), id)
		var out bytes.Buffer
		err = d.Start(ctx, id, runtime.Streams{Stdout: &out})
		if launch := (*runtime.LaunchError)(nil); network == "" && errors.As(err, &launch) {
			// An engine without a usable bridge: the node's fault, not the function's.
			for _, gpu := range []bool{true, false} {
				if class := runtime.ClassifyLaunch(launch.Message, launch.Hung, gpu); class != functions.Infra {
					t.Errorf("class with gpu=%v: %s, want %s: %v", gpu, class, functions.Infra, err)
				}
			}
			t.Logf("no usable bridge here: %v", err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Wait(ctx, id); err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(out.Bytes(), []byte("interfaces lo,")) {
			t.Errorf("with egress by %q:\n%s", network, out.String())
		}
	}
}
