package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

func testExit(t *testing.T, b *bench) {
	before := time.Now().Add(-time.Second)
	for _, code := range []int{0, 1, 79, 255} {
		exit, _, _ := b.run(t, b.spec("exit", fmt.Sprint(code)))
		if exit.Code != code || exit.OOMKilled {
			t.Errorf("exit %d gives %+v", code, exit)
		}
		if exit.StartedAt.Before(before) || exit.FinishedAt.Before(exit.StartedAt) {
			t.Errorf("exit %d: started %v, finished %v", code, exit.StartedAt, exit.FinishedAt)
		}
	}
	id, _, _ := b.start(t, b.spec("exit", "3"), "")
	if first, again := b.wait(t, id), b.wait(t, id); first != again {
		t.Errorf("Wait twice: %+v, then %+v", first, again)
	}
}

func testOutput(t *testing.T, b *bench) {
	const n = 10_000
	var wantOut, wantErr strings.Builder
	for i := range n {
		fmt.Fprintf(&wantOut, "out %d\n", i)
		fmt.Fprintf(&wantErr, "err %d\n", i)
	}
	for range 3 {
		exit, stdout, stderr := b.run(t, b.spec("lines", fmt.Sprint(n)))
		if exit.Code != 0 {
			t.Fatalf("exit %+v", exit)
		}
		if stdout != wantOut.String() || stderr != wantErr.String() {
			t.Fatalf("got %d and %d bytes, want %d and %d", len(stdout), len(stderr), wantOut.Len(), wantErr.Len())
		}
	}
	exit, _, _ := b.run(t, b.spec("fail", "4", "the last words"))
	if exit.Code != 4 {
		t.Errorf("exit %+v", exit)
	}
	id := b.create(t, b.spec("lines", "100"))
	if err := b.Driver.Start(within(t), id, runtime.Streams{}); err != nil {
		t.Fatalf("start without streams: %v", err)
	}
	b.wait(t, id)
}

func testStdin(t *testing.T, b *bench) {
	big := strings.Repeat("0123456789abcdef", 1<<14) // over a pipe's and a socket's buffer
	for _, stdin := range []string{"", "{}", big} {
		id, stdout, _ := b.start(t, b.spec("cat"), stdin)
		if exit := b.wait(t, id); exit.Code != 0 {
			t.Errorf("exit %+v", exit)
		}
		if got := stdout.String(); got != stdin {
			t.Errorf("of %d bytes of stdin %d came back", len(stdin), len(got))
		}
	}
	id, _, _ := b.start(t, b.spec("exit", "0"), big) // which nobody reads
	b.wait(t, id)
}

func testAttach(t *testing.T, b *bench) {
	id, first, _ := b.start(t, b.spec("trap", "5"), "")
	Until(t, "the program is ready", func() bool { return first.String() == "ready\n" })
	var second, third Pane
	if err := b.Driver.Attach(within(t), id, runtime.Streams{Stdout: &second}); err != nil {
		t.Fatalf("Attach: %v", err)
	}
	Until(t, "the replay begins at the beginning", func() bool { return second.String() == "ready\n" })
	if err := b.Driver.Stop(within(t), id, 20*time.Second); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if exit := b.wait(t, id); exit.Code != 5 {
		t.Errorf("exit %+v, want 5", exit)
	}
	const want = "ready\nterminated\n"
	if err := b.Driver.Attach(within(t), id, runtime.Streams{Stdout: &third}); err != nil {
		t.Fatalf("Attach after the exit: %v", err)
	}
	b.wait(t, id)
	for i, p := range []*Pane{first, &second, &third} {
		if p.String() != want {
			t.Errorf("stream %d: %q, want %q", i, p.String(), want)
		}
	}
}

func testContext(t *testing.T, b *bench) {
	id := b.create(t, b.spec("trap", "0"))
	var stdout Pane
	ctx, cancel := context.WithCancel(t.Context())
	if err := b.Driver.Start(ctx, id, runtime.Streams{Stdout: &stdout}); err != nil {
		t.Fatal(err)
	}
	cancel()
	Until(t, "output comes after the start's context has ended", func() bool { return stdout.String() == "ready\n" })

	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := b.Driver.Wait(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait on a context that ends: %v, want it to say so", err)
	}
	if infos := b.list(t); len(infos) != 1 || infos[0].State != runtime.Up {
		t.Errorf("after that: %+v, want it up", infos)
	}
	if err := b.Driver.Stop(within(t), id, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if exit := b.wait(t, id); exit.Code != 0 || stdout.String() != "ready\nterminated\n" {
		t.Errorf("exit %+v, output %q", exit, stdout.String())
	}
}

func testCancelledStart(t *testing.T, b *bench) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var launch *runtime.LaunchError
	if _, err := b.Driver.Create(cancelled, b.spec("wait")); !errors.As(err, &launch) {
		t.Errorf("Create on an ended context: %v, want a LaunchError", err)
	}
	if left := b.list(t); len(left) != 0 {
		t.Errorf("Create on an ended context left %v", left)
	}
	id := b.create(t, b.spec("wait"))
	if err := b.Driver.Start(cancelled, id, runtime.Streams{}); !errors.As(err, &launch) || launch.Hung {
		t.Errorf("Start on an ended context: %v, want a LaunchError that is not hung", err)
	}
	b.remove(t, id)
	if left := b.list(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func testStop(t *testing.T, b *bench) {
	for _, c := range []struct {
		verb  []string
		grace time.Duration
		code  int
	}{
		{[]string{"trap", "7"}, 20 * time.Second, 7}, // in its own way
		{[]string{"wait"}, 20 * time.Second, 143},    // by the signal
		{[]string{"deaf"}, 300 * time.Millisecond, 137},
		{[]string{"trap", "7"}, 0, 137}, // not asked
	} {
		id, stdout, _ := b.start(t, b.spec(c.verb...), "")
		Until(t, "the program is ready", func() bool { return stdout.String() == "ready\n" })
		began := time.Now()
		for range 2 {
			if err := b.Driver.Stop(within(t), id, c.grace); err != nil {
				t.Fatalf("stop %v: %v", c.verb, err)
			}
		}
		if infos := b.list(t); len(infos) != 1 || infos[0].State != runtime.Exited {
			t.Errorf("%v after Stop: %+v, want it exited", c.verb, infos)
		}
		if exit := b.wait(t, id); exit.Code != c.code || exit.OOMKilled {
			t.Errorf("%v stopped with grace %v: %+v, want %d", c.verb, c.grace, exit, c.code)
		}
		if took := time.Since(began); c.code != 137 && took > c.grace {
			t.Errorf("%v needed the whole grace", c.verb)
		} else if c.code == 137 && took < c.grace {
			t.Errorf("%v was killed after %v, before its grace of %v", c.verb, took, c.grace)
		}
		b.remove(t, id)
	}
}

func testGone(t *testing.T, b *bench) {
	id, _, _ := b.start(t, b.spec("exit", "0"), "")
	b.wait(t, id)
	if err := b.Driver.Stop(within(t), id, time.Second); err != nil {
		t.Errorf("Stop of an exited one: %v", err)
	}
	b.remove(t, id)
	b.remove(t, id)
	if err := b.Driver.Stop(within(t), id, time.Second); err != nil {
		t.Errorf("Stop of a removed one: %v", err)
	}
	if _, err := b.Driver.Wait(within(t), id); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Wait for a removed one: %v, want not found", err)
	}
	if err := b.Driver.Attach(within(t), id, runtime.Streams{}); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Attach to a removed one: %v, want not found", err)
	}
	var launch *runtime.LaunchError
	if err := b.Driver.Start(within(t), id, runtime.Streams{}); !errors.Is(err, functions.ErrNotFound) || !errors.As(err, &launch) {
		t.Errorf("Start of a removed one: %v, want a LaunchError that is not found", err)
	}
	created := b.create(t, b.spec("exit", "0"))
	if err := b.Driver.Stop(within(t), created, time.Second); err != nil {
		t.Errorf("Stop of one that never started: %v", err)
	}
	b.remove(t, created)
}

func testRemove(t *testing.T, b *bench) {
	b.remove(t, b.create(t, b.spec("wait")))

	id, stdout, _ := b.start(t, b.spec("deaf"), "")
	Until(t, "the program is ready", func() bool { return stdout.String() == "ready\n" })
	b.remove(t, id)

	id, _, _ = b.start(t, b.spec("exit", "1"), "")
	b.wait(t, id)
	b.remove(t, id)

	spec := b.spec()
	spec.Entrypoint = []string{"/no/such/program"}
	id = b.create(t, spec)
	err := b.Driver.Start(within(t), id, runtime.Streams{})
	if launch := (*runtime.LaunchError)(nil); err != nil && !errors.As(err, &launch) {
		t.Errorf("Start: %v, want a LaunchError or an exit", err)
	}
	b.remove(t, id)
	if left := b.list(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func testList(t *testing.T, b *bench) {
	spec := func(args ...string) runtime.Spec {
		s := b.spec(args...)
		s.Name = "box-" + args[0] + "-" + b.label
		s.Labels[runtime.LabelAttempt] = args[0]
		return s
	}
	b.create(t, spec("sleep", "1s"))
	up, stdout, _ := b.start(t, spec("wait"), "")
	Until(t, "the program is ready", func() bool { return stdout.String() == "ready\n" })
	ended, _, _ := b.start(t, spec("exit", "1"), "")
	b.wait(t, ended)

	want := map[string]runtime.ContainerState{"sleep": runtime.Created, "wait": runtime.Up, "exit": runtime.Exited}
	got := map[string]runtime.ContainerState{}
	for _, info := range b.list(t) {
		verb := info.Labels[runtime.LabelAttempt]
		got[verb] = info.State
		if info.Name != "box-"+verb+"-"+b.label || info.Labels[runtime.LabelTask] != "t-1" {
			t.Errorf("%s came back as %+v", verb, info)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	one, err := b.Driver.List(within(t), map[string]string{"spillway.test": b.label, runtime.LabelAttempt: "wait"})
	if err != nil || len(one) != 1 || one[0].ID != up {
		t.Errorf("List by two labels: %+v, %v, want the one", one, err)
	}
	none, err := b.Driver.List(within(t), map[string]string{"spillway.test": b.label, runtime.LabelAttempt: "nope"})
	if err != nil || len(none) != 0 {
		t.Errorf("List by a value that none has: %+v, %v", none, err)
	}
}

func testConflict(t *testing.T, b *bench) {
	spec := b.spec("wait")
	spec.Name = "twice-" + b.label
	id := b.create(t, spec)
	_, err := b.Driver.Create(within(t), spec)
	var launch *runtime.LaunchError
	if !errors.Is(err, functions.ErrConflict) || !errors.As(err, &launch) || launch.Stage != runtime.StageCreate {
		t.Errorf("second Create: %v, want a LaunchError that is a conflict", err)
	}
	b.remove(t, id)
	b.create(t, spec)
}

func testNeverStarted(t *testing.T, b *bench) {
	id := b.create(t, b.spec("exit", "0"))
	if exit, err := b.Driver.Wait(within(t), id); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("Wait: %+v, %v, want a conflict", exit, err)
	}
}

// testMany gives each exit code to one launch: all 256 of them, or with -short 50.
func testMany(t *testing.T, b *bench) {
	n, parallel := 256, b.Parallel
	if testing.Short() {
		n = 50
	}
	if parallel == 0 {
		parallel = 30
	}
	room := make(chan struct{}, parallel)
	var all sync.WaitGroup
	for i := range n {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			spec := b.spec("fail", fmt.Sprint(i), "launch", fmt.Sprint(i))
			spec.Name = fmt.Sprintf("many-%d-%s", i, b.label)
			id, err := b.Driver.Create(within(t), spec)
			if err != nil {
				t.Errorf("launch %d: %v", i, err)
				return
			}
			var stderr Pane
			if err := b.Driver.Start(within(t), id, runtime.Streams{Stderr: &stderr}); err != nil {
				t.Errorf("launch %d: %v", i, err)
				return
			}
			exit, err := b.Driver.Wait(within(t), id)
			if want := fmt.Sprintf("launch %d\n", i); err != nil || exit.Code != i || exit.OOMKilled || stderr.String() != want {
				t.Errorf("launch %d: %+v, %v, %q", i, exit, err, stderr.String())
			}
			if err := b.Driver.Remove(within(t), id); err != nil {
				t.Errorf("launch %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if left := b.list(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
