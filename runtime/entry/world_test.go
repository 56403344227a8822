package entry_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker"
	"github.com/spillway/spillway/runtime/entry"
	"github.com/spillway/spillway/runtime/entry/entrytest"
	"github.com/spillway/spillway/runtime/entry/wire"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Docker engine with what the containers of these tests need.
type world struct {
	driver         *docker.Driver
	image          string
	program, probe string // on this machine
}

// open returns a world, or skips the test where there is no Docker engine.
func open(t testing.TB) *world {
	t.Helper()
	d, err := docker.New(docker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if _, err := d.Probe(t.Context()); err != nil {
		if os.Getenv("SPILLWAY_REQUIRE_DOCKER") != "" {
			t.Fatalf("no Docker engine, and SPILLWAY_REQUIRE_DOCKER is set: %v", err)
		}
		t.Skipf("SKIPPED: no Docker engine here (%v)", err)
	}
	image, archive := runtimetest.BoxImage(t)
	if err := d.Load(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatalf("load the test image: %v", err)
	}
	t.Cleanup(func() {
		if err := d.RemoveImage(context.WithoutCancel(t.Context()), image); err != nil {
			t.Errorf("remove the test image: %v", err)
		}
	})
	probe := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-o", probe, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the probe: %v\n%s", err, out)
	}
	return &world{driver: d, image: image, program: entrytest.Program(t), probe: probe}
}

// container is one whose entry program waits for orders.
type container struct {
	*world
	id             runtime.ID
	door           *entry.Door
	session        *entry.Session
	stdout, stderr pane // as the engine has them
}

// within bounds one step; what blocks fails a test instead of hanging it.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// hold starts a container that waits for orders, as the least of users, without
// a network, with a root that cannot be written.
func (w *world) hold(t testing.TB, o entry.Options) *container {
	t.Helper()
	c := &container{world: w}
	var err error
	if c.door, err = entry.NewDoor(filepath.Join(t.TempDir(), "door")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.door.Close(); err != nil {
			t.Error(err)
		}
	})
	c.id, err = w.driver.Create(within(t), runtime.Spec{
		Name: "spillway-entry-" + strings.ToLower(rand.Text()[:12]), Image: w.image,
		Entrypoint: entry.Command(o), User: "65532:65532", Memory: 128 * functions.MiB, Pids: 64,
		Mounts: append(c.door.Mounts(w.program), runtime.Mount{Source: w.probe, Target: "/probe", ReadOnly: true}),
		Env:    []string{"FROM=spec", "OVER=spec"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.driver.Remove(within(t), c.id); err != nil {
			t.Error(err)
		}
	})
	if err := w.driver.Start(within(t), c.id, runtime.Streams{Stdout: &c.stdout, Stderr: &c.stderr}); err != nil {
		t.Fatal(err)
	}
	if c.session, err = c.door.Accept(within(t)); err != nil {
		t.Fatalf("no entry program: %v; it said %q", err, c.stderr.String())
	}
	t.Cleanup(func() { c.session.Close() })
	return c
}

// run gives orders and returns the report and what the agent saw of the output.
func (c *container) run(t testing.TB, orders wire.Orders, stdin []byte) (wire.Report, string, string) {
	t.Helper()
	var stdout, stderr pane
	if err := c.session.Start(orders, runtime.Streams{Stdin: stdin, Stdout: &stdout, Stderr: &stderr}); err != nil {
		t.Fatal(err)
	}
	report, err := c.session.Wait(within(t))
	if err != nil {
		t.Fatalf("Wait: %v; the engine has %q", err, c.stderr.String())
	}
	return report, stdout.String(), stderr.String()
}

// exit waits for the container's own end.
func (c *container) exit(t testing.TB) runtime.Exit {
	t.Helper()
	exit, err := c.driver.Wait(within(t), c.id)
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

func argv(words ...string) wire.Orders { return wire.Orders{Argv: words} }

// until waits for a condition that some other goroutine or process brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(t); !ok(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// pane is a writer that can be read while it is written.
type pane struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (p *pane) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *pane) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}
