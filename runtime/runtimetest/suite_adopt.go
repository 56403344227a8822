package runtimetest

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway/spillway/runtime"
)

// agents are the lives of one agent, one after the other: of their drivers one
// is open at a time.
type agents struct {
	b   *bench
	now runtime.Driver
}

func (b *bench) agents(t *testing.T) *agents {
	t.Helper()
	if b.Reopen == nil {
		t.Skip("the bench makes no further driver")
	}
	a := &agents{b: b}
	t.Cleanup(func() {
		d := a.next(t)
		infos, err := d.List(within(t), b.spec().Labels)
		if err != nil {
			t.Errorf("List: %v", err)
		}
		for _, c := range infos {
			if err := d.Remove(within(t), c.ID); err != nil {
				t.Errorf("Remove: %v", err)
			}
		}
		a.leave(t)
	})
	return a
}

// leave ends the driver of the agent that is there.
func (a *agents) leave(t *testing.T) {
	t.Helper()
	if c, ok := a.now.(io.Closer); ok {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	a.now = nil
}

// next starts the next agent's driver, after the end of the one before.
func (a *agents) next(t *testing.T) runtime.Driver {
	t.Helper()
	a.leave(t)
	a.now = a.b.Reopen(t)
	return a.now
}

// testAdoptRunning: an agent ends, and the next takes up what runs.
func testAdoptRunning(t *testing.T, b *bench) {
	all := b.agents(t)
	first := all.next(t)
	id, err := first.Create(within(t), b.spec("trap", "5"))
	if err != nil {
		t.Fatal(err)
	}
	var before Pane
	if err := first.Start(within(t), id, runtime.Streams{Stdout: &before}); err != nil {
		t.Fatal(err)
	}
	Until(t, "the program is ready", func() bool { return before.String() == "ready\n" })

	second := all.next(t)
	infos, err := second.List(within(t), b.spec().Labels)
	if err != nil || len(infos) != 1 || infos[0].ID != id || infos[0].State != runtime.Up {
		t.Fatalf("List: %+v, %v, want the one, up", infos, err)
	}
	var after Pane
	if err := second.Attach(within(t), id, runtime.Streams{Stdout: &after}); err != nil {
		t.Fatalf("Attach: %v", err)
	}
	Until(t, "the replay begins at the beginning", func() bool { return after.String() == "ready\n" })
	if usage, err := second.Usage(within(t), id); err != nil {
		t.Errorf("Usage: %+v, %v", usage, err)
	}
	if err := second.Stop(within(t), id, 20*time.Second); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if exit, err := second.Wait(within(t), id); err != nil || exit.Code != 5 || exit.OOMKilled {
		t.Errorf("Wait: %+v, %v, want 5", exit, err)
	}
	if after.String() != "ready\nterminated\n" {
		t.Errorf("output %q", after.String())
	}
	if err := second.Remove(within(t), id); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if left, err := second.List(within(t), b.spec().Labels); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if left, err := all.next(t).List(within(t), b.spec().Labels); err != nil || len(left) != 0 {
		t.Errorf("the next agent still has: %v, %v", left, err)
	}
}

// testAdoptEnded: a container ends while there is no agent.
func testAdoptEnded(t *testing.T, b *bench) {
	out := t.TempDir()
	if err := os.Chmod(out, 0o777); err != nil {
		t.Fatal(err)
	}
	all := b.agents(t)
	first := all.next(t)
	spec := b.spec("late", "300ms", "7", "/task/out/over")
	spec.Mounts = []runtime.Mount{{Source: out, Target: "/task/out"}}
	id, err := first.Create(within(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(within(t), id, runtime.Streams{}); err != nil {
		t.Fatal(err)
	}
	all.leave(t)
	Until(t, "the program is over", func() bool {
		_, err := os.Stat(filepath.Join(out, "over"))
		return err == nil
	})
	time.Sleep(200 * time.Millisecond) // so that it has most likely exited; either way nothing may be lost

	for range 2 { // what was learned is not used up
		next := all.next(t)
		exit, err := next.Wait(within(t), id)
		if err != nil || exit.Code != 7 || exit.OOMKilled || exit.StartedAt.IsZero() || exit.FinishedAt.Before(exit.StartedAt) {
			t.Errorf("Wait: %+v, %v, want 7", exit, err)
		}
		if infos, err := next.List(within(t), spec.Labels); err != nil || len(infos) != 1 || infos[0].State != runtime.Exited {
			t.Errorf("List: %+v, %v, want the one, exited", infos, err)
		}
		var stdout Pane
		if err := next.Attach(within(t), id, runtime.Streams{Stdout: &stdout}); err != nil {
			t.Fatalf("Attach: %v", err)
		}
		if _, err := next.Wait(within(t), id); err != nil {
			t.Errorf("Wait: %v", err)
		}
		if stdout.String() != "ready\nlate\n" {
			t.Errorf("output %q", stdout.String())
		}
	}
}

// testAdoptLater: what runs when the next agent comes ends by itself later, and
// what never started can be started by it.
func testAdoptLater(t *testing.T, b *bench) {
	all := b.agents(t)
	first := all.next(t)
	late, err := first.Create(within(t), b.spec("late", "2s", "9"))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(within(t), late, runtime.Streams{}); err != nil {
		t.Fatal(err)
	}
	idle, err := first.Create(within(t), b.spec("cat"))
	if err != nil {
		t.Fatal(err)
	}

	second := all.next(t)
	if exit, err := second.Wait(within(t), late); err != nil || exit.Code != 9 {
		t.Errorf("Wait: %+v, %v, want 9", exit, err)
	}
	var stdout Pane
	if err := second.Start(within(t), idle, runtime.Streams{Stdin: []byte("fed by the second"), Stdout: &stdout}); err != nil {
		t.Fatalf("Start of what another agent made: %v", err)
	}
	if exit, err := second.Wait(within(t), idle); err != nil || exit.Code != 0 || stdout.String() != "fed by the second" {
		t.Errorf("Wait: %+v, %v, output %q", exit, err, stdout.String())
	}
}
