package containerd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/containerd/containerdtest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// text is a writer that can be read while it is written.
type text struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// expect waits for what some process writes.
func (w *text) expect(t *testing.T, want string) {
	t.Helper()
	runtimetest.Until(t, fmt.Sprintf("output %q", want), func() bool { return w.String() == want })
}

const trapName = "outlives"

var trapCommand = []string{"trap", "5"}

// trap is a container that says ready, and when it is asked to stop terminated
// and exits with 5.
func trap(t *testing.T, d *Driver, image string) (runtime.ID, *text) {
	t.Helper()
	id, err := d.Create(t.Context(), runtime.Spec{Name: trapName, Image: image, Command: trapCommand})
	if err != nil {
		t.Fatal(err)
	}
	var out text
	if err := d.Start(t.Context(), id, runtime.Streams{Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	out.expect(t, "ready\n")
	return id, &out
}

// adopt takes up the container that trap made, with another driver, to its end.
func adopt(t *testing.T, d *Driver, id runtime.ID) {
	t.Helper()
	if found, err := d.List(t.Context(), nil); err != nil || len(found) != 1 || found[0].ID != id || found[0].State != runtime.Up {
		t.Fatalf("List: %+v, %v, want %s up", found, err, id)
	}
	var out text
	if err := d.Attach(t.Context(), id, runtime.Streams{Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	out.expect(t, "ready\n")
	if err := d.Stop(t.Context(), id, time.Minute); err != nil {
		t.Fatal(err)
	}
	exit, err := d.Wait(t.Context(), id)
	if err != nil || exit.Code != 5 || exit.EngineAway || exit.StartedAt.IsZero() || out.String() != "ready\nterminated\n" {
		t.Errorf("exit %+v, %v, output %q", exit, err, out.String())
	}
}

func TestAnotherDriverTakesUpWhatRuns(t *testing.T) {
	p := on(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
	first := p.open(t)
	id, _ := trap(t, first, p.image)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := p.open(t)
	adopt(t, second, id)
	before, err := second.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}

	// An exit is readable, and the output, as long as the container is not removed.
	third := p.open(t)
	var out text
	if err := third.Attach(t.Context(), id, runtime.Streams{Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	after, err := third.Wait(t.Context(), id)
	if err != nil || after != before || out.String() != "ready\nterminated\n" {
		t.Errorf("exit %+v, %v, output %q, want %+v", after, err, out.String(), before)
	}
	if found, err := third.List(t.Context(), nil); err != nil || len(found) != 1 || found[0].State != runtime.Exited {
		t.Errorf("List: %+v, %v, want one that has exited", found, err)
	}
	if err := third.Start(t.Context(), id, runtime.Streams{}); !errors.Is(err, functions.ErrConflict) && !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Start of one that has exited: %v, want it refused", err)
	}
	if err := third.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := third.Wait(t.Context(), id); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Wait for a removed one: %v, want not found", err)
	}
}

// agentVariable makes this test binary an agent that is to be killed: its value
// is the driver's configuration and the image.
const agentVariable = "SPILLWAY_TEST_AGENT"

type agent struct {
	Address, Namespace, StateDir, Program, Image string
}

// beAgent starts a container, says so and waits to be killed.
func beAgent(order string) error {
	var a agent
	if err := json.Unmarshal([]byte(order), &a); err != nil {
		return err
	}
	d, err := New(Config{Address: a.Address, Namespace: a.Namespace, StateDir: a.StateDir, Program: a.Program})
	if err != nil {
		return err
	}
	ctx := context.Background()
	id, err := d.Create(ctx, runtime.Spec{Name: trapName, Image: a.Image, Command: trapCommand})
	if err != nil {
		return err
	}
	var out text
	if err := d.Start(ctx, id, runtime.Streams{Stdout: &out}); err != nil {
		return err
	}
	for out.String() != "ready\n" {
		time.Sleep(5 * time.Millisecond)
	}
	os.Stdout.WriteString("agent ready\n")
	select {}
}

func TestKilledAgent(t *testing.T) {
	p := on(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
	d := p.open(t)
	order, err := json.Marshal(agent{p.cfg.Address, p.cfg.Namespace, p.cfg.StateDir, p.cfg.Program, p.image})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), agentVariable+"="+string(order))
	var said text
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	runtimetest.Until(t, "the agent is ready", func() bool { return strings.Contains(said.String(), "agent ready\n") })
	cmd.Process.Kill()
	cmd.Wait()
	adopt(t, d, trapName)
}

// A restart of containerd loses no exit and no output, and no one is told that
// the engine's return may have ended the container: it does not.
func TestRestartOfContainerd(t *testing.T) {
	for name, program := range map[string]func(testing.TB) string{"machine": containerdtest.Machine, "two": containerdtest.Built} {
		t.Run(name, func(t *testing.T) {
			engine := containerdtest.Start(t, program(t))
			p := on(t, engine.Address)
			d := p.open(t)
			id, out := trap(t, d, p.image)
			type end struct {
				exit runtime.Exit
				err  error
			}
			ended := make(chan end, 1)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			go func() {
				exit, err := d.Wait(ctx, id)
				ended <- end{exit, err}
			}()
			engine.Crash()
			if _, err := d.List(ctx, nil); !errors.Is(err, functions.ErrUnavailable) {
				t.Errorf("List while containerd is away: %v, want unavailable", err)
			}
			engine.Restart()
			runtimetest.Until(t, "containerd answers again", func() bool {
				_, err := d.Probe(ctx)
				return err == nil
			})
			if err := d.Stop(ctx, id, time.Minute); err != nil {
				t.Fatal(err)
			}
			e := <-ended
			if e.err != nil || e.exit.Code != 5 || e.exit.EngineAway || out.String() != "ready\nterminated\n" {
				t.Errorf("exit %+v, %v, output %q", e.exit, e.err, out.String())
			}
			if err := d.Remove(ctx, id); err != nil {
				t.Error(err)
			}
		})
	}
}

// A container whose shim is killed ends with it: that is said, and no exit made up.
func TestLostShim(t *testing.T) {
	engine := containerdtest.Start(t, containerdtest.Machine(t))
	p := on(t, engine.Address)
	d := p.open(t)
	id, out := trap(t, d, p.image)
	engine.KillShims()
	exit, err := d.Wait(t.Context(), id)
	if err != nil || exit.Code != codeLost || exit.OOMKilled || out.String() != "ready\n" {
		t.Errorf("exit %+v, %v, output %q", exit, err, out.String())
	}
	if found, err := d.List(t.Context(), nil); err != nil || len(found) != 1 || found[0].State != runtime.Exited {
		t.Errorf("List: %+v, %v, want one that has exited", found, err)
	}
	if err := d.Remove(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// Whoever attaches before the start sees the output, too.
func TestAttachBeforeStart(t *testing.T) {
	p := on(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
	d := p.open(t)
	id, err := d.Create(t.Context(), runtime.Spec{Image: p.image, Command: []string{"echo", "seen"}})
	if err != nil {
		t.Fatal(err)
	}
	var out text
	if err := d.Attach(t.Context(), id, runtime.Streams{Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), id, runtime.Streams{}); err != nil {
		t.Fatal(err)
	}
	if exit, err := d.Wait(t.Context(), id); err != nil || exit.Code != 0 || out.String() != "seen\n" {
		t.Errorf("%+v, %v, %q", exit, err, out.String())
	}
}

// An agent that dies between the note of an exit and the deletion of what ran
// leaves a shim that holds the log open: whoever comes next ends that.
func TestInterruptedReap(t *testing.T) {
	p := on(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
	d := p.open(t)
	id, err := d.Create(t.Context(), runtime.Spec{Image: p.image, Command: []string{"echo", "kept"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.folder(id).begin(nil, testTime); err != nil {
		t.Fatal(err)
	}
	if _, err := d.engine.TaskService().Start(d.in(t.Context()), &tasks.StartRequest{ContainerID: string(id)}); err != nil {
		t.Fatal(err)
	}
	runtimetest.Until(t, "the program has ended", func() bool {
		now, err := d.engine.TaskService().Get(d.in(t.Context()), &tasks.GetRequest{ContainerID: string(id)})
		return err == nil && now.Process.Status == task.Status_STOPPED
	})
	noted := runtime.Exit{Code: 9, StartedAt: testTime, FinishedAt: testTime}
	if _, err := d.folder(id).end(noted); err != nil {
		t.Fatal(err)
	}
	var out text
	if err := d.Attach(t.Context(), id, runtime.Streams{Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if exit, err := d.Wait(t.Context(), id); err != nil || exit != noted || out.String() != "kept\n" {
		t.Errorf("%+v, %v, %q, want %+v", exit, err, out.String(), noted)
	}
	if err := d.reaped(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := d.engine.TaskService().Get(d.in(t.Context()), &tasks.GetRequest{ContainerID: string(id)}); !errdefs.IsNotFound(native(err)) {
		t.Errorf("the task afterwards: %v, want none", err)
	}
}
