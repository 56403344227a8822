package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/containerd/containerdtest"
	"github.com/spillway/spillway/runtime/entry/entrytest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// archives is a source that holds archives by the images' names.
type archives map[string][]byte

func (a archives) Archive(_ context.Context, image string, _ func(runtime.PullProgress)) (io.ReadCloser, error) {
	archive, ok := a[image]
	if !ok {
		return nil, imageMissing(image, nil)
	}
	return io.NopCloser(bytes.NewReader(archive)), nil
}

// place is a containerd, and how drivers are opened on it.
type place struct {
	cfg   Config
	image string
}

// on returns a place at a socket, in a namespace that ends with the test.
func on(t testing.TB, address string) *place {
	t.Helper()
	image, archive := runtimetest.BoxImage(t)
	p := &place{image: image, cfg: Config{
		Address: address, Namespace: fmt.Sprintf("spillway-test-%d", os.Getpid()),
		StateDir: t.TempDir(), Program: entrytest.Program(t), Source: archives{image: archive},
	}}
	t.Cleanup(func() { empty(t, p.cfg) })
	return p
}

// open returns a driver that is closed with the test, with the image present.
func (p *place) open(t testing.TB) *Driver {
	t.Helper()
	d, err := New(p.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	what, err := d.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(what)
	if err := d.Pull(t.Context(), p.image, nil); err != nil {
		t.Fatalf("bring the test image: %v", err)
	}
	return d
}

// empty removes a namespace with all that is in it, and the cgroup of its
// containers.
func empty(t testing.TB, c Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	left, err := d.List(ctx, nil)
	if err != nil {
		t.Errorf("list what the test left: %v", err)
	}
	for _, c := range left {
		if err := d.Remove(ctx, c.ID); err != nil {
			t.Errorf("remove what the test left: %v", err)
		}
	}
	images, err := d.Images(ctx)
	if err != nil {
		t.Errorf("list the images that the test left: %v", err)
	}
	for _, img := range images {
		for _, name := range img.Names {
			if err := d.RemoveImage(ctx, name); err != nil {
				t.Errorf("remove an image: %v", err)
			}
		}
	}
	if err := d.engine.NamespaceService().Delete(ctx, c.Namespace); err != nil {
		t.Errorf("remove the namespace: %v", err)
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/spillway/" + c.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	groups = append(groups, "/sys/fs/cgroup/spillway/"+c.Namespace)
	for _, dir := range append(groups, "/run/containerd/runc/"+c.Namespace) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("remove what the namespace leaves: %v", err)
		}
	}
	for _, dir := range groups {
		os.Remove(filepath.Dir(dir)) // fails where others have containers
	}
}

func conform(t *testing.T, address string) {
	runtimetest.TestDriver(t, func(t *testing.T) runtimetest.Subject {
		p := on(t, address)
		return runtimetest.Subject{Driver: p.open(t), Image: p.image}
	})
}

func TestConformance(t *testing.T) {
	conform(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
}

func TestConformanceOfTwo(t *testing.T) {
	conform(t, containerdtest.Start(t, containerdtest.Built(t)).Address)
}

func TestConformanceBelowDocker(t *testing.T) {
	conform(t, containerdtest.Below(t))
}

func TestNobodyListens(t *testing.T) {
	d, err := New(Config{Address: filepath.Join(t.TempDir(), "none.sock"), StateDir: t.TempDir(), Program: "/bin/sh"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx := t.Context()
	_, probe := d.Probe(ctx)
	_, create := d.Create(ctx, runtime.Spec{Image: "a"})
	_, list := d.List(ctx, nil)
	_, usage := d.Usage(ctx, "a")
	_, image := d.Image(ctx, "a")
	_, images := d.Images(ctx)
	for name, err := range map[string]error{
		"Probe": probe, "Create": create, "List": list, "Usage": usage, "Image": image, "Images": images,
		"Pull": d.Pull(ctx, "a", nil), "Start": d.Start(ctx, "a", runtime.Streams{}), "Remove": d.Remove(ctx, "a"),
		"Stop": d.Stop(ctx, "a", 0), "Attach": d.Attach(ctx, "a", runtime.Streams{}), "RemoveImage": d.RemoveImage(ctx, "a"),
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
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := d.Wait(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v, want it to wait until its context ends", err)
	}
}
