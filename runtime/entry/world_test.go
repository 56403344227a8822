package entry_test

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker"
	"github.com/spillway/spillway/runtime/docker/dockertest"
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
	d := dockertest.Open(t, "")
	image, archive := runtimetest.BoxImage(t)
	dockertest.Load(t, d, image, archive)
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
	stdout, stderr runtimetest.Pane // as the engine has them
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
	var stdout, stderr runtimetest.Pane
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
