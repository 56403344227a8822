package runtimetest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// reopen returns a further driver, and what ends it as the end of its agent does.
func (b *bench) reopen(t *testing.T) (d runtime.Driver, leave func()) {
	t.Helper()
	if b.Reopen == nil {
		t.Skip("the bench makes no further driver")
	}
	d = b.Reopen(t)
	return d, func() {
		if c, ok := d.(io.Closer); ok {
			if err := c.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	}
}

// testAdoptRunning: an agent ends, and the next takes up what runs.
func testAdoptRunning(t *testing.T, b *bench) {
	first, leave := b.reopen(t)
	id, err := first.Create(within(t), b.spec("trap", "5"))
	if err != nil {
		t.Fatal(err)
	}
	var before pane
	if err := first.Start(within(t), id, runtime.Streams{Stdout: &before}); err != nil {
		t.Fatal(err)
	}
	until(t, "the program is ready", func() bool { return before.String() == "ready\n" })
	leave()

	second, leave := b.reopen(t)
	defer leave()
	infos, err := second.List(within(t), b.spec().Labels)
	if err != nil || len(infos) != 1 || infos[0].ID != id || infos[0].State != runtime.Up {
		t.Fatalf("List: %+v, %v, want the one, up", infos, err)
	}
	var after pane
	if err := second.Attach(within(t), id, runtime.Streams{Stdout: &after}); err != nil {
		t.Fatalf("Attach: %v", err)
	}
	until(t, "the replay begins at the beginning", func() bool { return after.String() == "ready\n" })
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
	if left := b.list(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := b.Driver.Wait(within(t), id); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Wait of another driver for a removed one: %v, want not found", err)
	}
}

// testAdoptEnded: a container ends while there is no agent.
func testAdoptEnded(t *testing.T, b *bench) {
	out := t.TempDir()
	if err := os.Chmod(out, 0o777); err != nil {
		t.Fatal(err)
	}
	first, leave := b.reopen(t)
	spec := b.spec("late", "300ms", "7", "/task/out/over")
	spec.Mounts = []runtime.Mount{{Source: out, Target: "/task/out"}}
	id, err := first.Create(within(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(within(t), id, runtime.Streams{}); err != nil {
		t.Fatal(err)
	}
	leave()
	until(t, "the program is over", func() bool {
		_, err := os.Stat(filepath.Join(out, "over"))
		return err == nil
	})
	time.Sleep(200 * time.Millisecond) // so that it has most likely exited; either way nothing may be lost

	for range 2 { // what was learned is not used up
		next, leave := b.reopen(t)
		exit, err := next.Wait(within(t), id)
		if err != nil || exit.Code != 7 || exit.OOMKilled || exit.StartedAt.IsZero() || exit.FinishedAt.Before(exit.StartedAt) {
			t.Errorf("Wait: %+v, %v, want 7", exit, err)
		}
		if infos, err := next.List(within(t), spec.Labels); err != nil || len(infos) != 1 || infos[0].State != runtime.Exited {
			t.Errorf("List: %+v, %v, want the one, exited", infos, err)
		}
		var stdout pane
		if err := next.Attach(within(t), id, runtime.Streams{Stdout: &stdout}); err != nil {
			t.Fatalf("Attach: %v", err)
		}
		if _, err := next.Wait(within(t), id); err != nil {
			t.Errorf("Wait: %v", err)
		}
		if stdout.String() != "ready\nlate\n" {
			t.Errorf("output %q", stdout.String())
		}
		leave()
	}
}

// testAdoptLater: what runs when the next agent comes ends by itself later, and
// what never started can be started by it.
func testAdoptLater(t *testing.T, b *bench) {
	first, leave := b.reopen(t)
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
	leave()

	second, leave := b.reopen(t)
	defer leave()
	if exit, err := second.Wait(within(t), late); err != nil || exit.Code != 9 {
		t.Errorf("Wait: %+v, %v, want 9", exit, err)
	}
	var stdout pane
	if err := second.Start(within(t), idle, runtime.Streams{Stdin: []byte("fed by the second"), Stdout: &stdout}); err != nil {
		t.Fatalf("Start of what another agent made: %v", err)
	}
	if exit, err := second.Wait(within(t), idle); err != nil || exit.Code != 0 || stdout.String() != "fed by the second" {
		t.Errorf("Wait: %+v, %v, output %q", exit, err, stdout.String())
	}
}
