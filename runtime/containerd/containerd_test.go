package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/containerd/containerdtest"
	"github.com/spillway/spillway/runtime/entry/entrytest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestMain(m *testing.M) {
	if order := os.Getenv(agentVariable); order != "" {
		fmt.Println(beAgent(order))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// archives is a source that holds archives by the images' names.
type archives map[string][]byte

func (a archives) Archive(_ context.Context, image string, _ func(runtime.PullProgress)) (io.ReadCloser, error) {
	archive, ok := a[image]
	if !ok {
		return nil, runtime.ImageMissing(image)
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
		// containerd may still clean up after a shim that was killed.
		runtimetest.Until(t, "what the namespace leaves can be removed: "+dir, func() bool {
			err := os.Remove(dir)
			return err == nil || errors.Is(err, os.ErrNotExist)
		})
	}
	for _, dir := range groups {
		os.Remove(filepath.Dir(dir)) // fails where others have containers
	}
}

func conform(t *testing.T, address string) {
	runtimetest.TestDriver(t, func(t *testing.T) runtimetest.Subject {
		p := on(t, address)
		dir, gpus := runtimetest.CDI(t)
		p.cfg.CDIDirs = []string{dir}
		return runtimetest.Subject{
			Driver: p.open(t), Image: p.image, GPU: gpus,
			Own: []string{inputTarget},
			Reopen: func(t *testing.T) runtime.Driver {
				next, err := New(p.cfg)
				if err != nil {
					t.Fatal(err)
				}
				return next
			},
		}
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

func TestProbeSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  Config
		code string
	}{
		"no entry program":            {Config{StateDir: dir, Program: filepath.Join(dir, "none")}, "entry_program_missing"},
		"an entry program without x":  {Config{StateDir: dir, Program: plain}, "entry_program_missing"},
		"no socket":                   {Config{StateDir: dir, Program: "/bin/sh", Address: filepath.Join(dir, "none.sock")}, "engine_unreachable"},
		"a file that is not a socket": {Config{StateDir: dir, Program: "/bin/sh", Address: plain}, "engine_unreachable"},
	} {
		d, err := New(c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Probe(t.Context())
		var said *functions.Error
		if !errors.As(err, &said) || said.Code != c.code || said.Hint == "" || !errors.Is(err, functions.ErrUnavailable) {
			t.Errorf("%s: %v, want %s with a hint", name, err, c.code)
		}
		d.Close()
	}
	for _, c := range []Config{{}, {StateDir: dir}, {StateDir: dir, Program: "entry"}, {StateDir: dir, Program: plain, Address: "tcp://a:1"}} {
		if _, err := New(c); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("New(%+v): %v, want invalid", c, err)
		}
	}
}

func TestTooOld(t *testing.T) {
	for version, want := range map[string]bool{
		"v1.6.20": false, "1.6.20~ds1": false, "2.4.2+unknown": false, "v2.0.0-rc.1": false, "": false, "12f3a": false,
		"v1.5.18": true, "1.4.13~ds1": true, "v0.2.9": true,
	} {
		if got := tooOld(version); got != want {
			t.Errorf("tooOld(%q) = %v, want %v", version, got, want)
		}
	}
}

func TestEgress(t *testing.T) {
	p := on(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
	spec := runtime.Spec{Image: p.image, Command: []string{"facts"}, Network: functions.NetworkEgress}
	err := launch(t.Context(), p.open(t), spec)
	var refused *runtime.LaunchError
	if !errors.As(err, &refused) || !errors.Is(err, functions.ErrInvalid) {
		t.Fatalf("egress where there is none: %v, want a LaunchError that is invalid", err)
	}
	for _, gpu := range []bool{true, false} {
		if class := runtime.ClassifyLaunch(refused.Message, refused.Hung, gpu); class != functions.Infra {
			t.Errorf("class of %q with gpu=%v: %s, want %s", refused.Message, gpu, class, functions.Infra)
		}
	}
	p.cfg.HostNetwork = true
	if exit, out := run(t, p.open(t), spec); exit.Code != 0 || !strings.Contains(out, "interfaces lo,") {
		t.Errorf("on the host's network: %+v\n%s", exit, out)
	}
}

func TestRefusals(t *testing.T) {
	p := on(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
	d := p.open(t)
	for name, spec := range map[string]runtime.Spec{
		"a name that is no name":    {Image: p.image, Name: "../etc"},
		"a user without a group":    {Image: p.image, User: "1"},
		"a label that is too long":  {Image: p.image, Labels: map[string]string{"a": strings.Repeat("x", 5000)}},
		"an image that has no name": {Image: ""},
	} {
		_, err := d.Create(t.Context(), spec)
		var refused *runtime.LaunchError
		if !errors.As(err, &refused) || !errors.Is(err, functions.ErrInvalid) || refused.Stage != runtime.StageCreate {
			t.Errorf("%s: %v, want a LaunchError that is invalid", name, err)
		}
	}
	if err := d.Remove(t.Context(), "../etc"); err != nil {
		t.Errorf("Remove of what cannot be there: %v", err)
	}
	if left, err := os.ReadDir(p.cfg.StateDir); err != nil || len(left) != 0 {
		t.Errorf("left in the state folder: %v, %v", left, err)
	}
}
