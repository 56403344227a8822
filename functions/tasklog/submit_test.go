package tasklog

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

func TestSubmitCoalesces(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	p := project(t, l)
	const callers, each = 64, 50
	seqs := make([]uint64, callers*each)
	ids := make([]functions.TaskID, callers*each)
	var g sync.WaitGroup
	for c := range callers {
		g.Go(func() {
			for i := range each {
				n := c*each + i
				ids[n] = newID()
				seq, err := l.Submit(t.Context(), submission(ids[n]))
				if err != nil {
					t.Error(err)
				}
				seqs[n] = seq
			}
		})
	}
	g.Wait()
	last, err := l.LastSeq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last >= callers*each/2 {
		t.Errorf("%d events took %d messages", callers*each, last)
	}
	if err := p.WaitApplied(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	for n, id := range ids {
		if got := p.task(id); got.Seq != seqs[n] || p.seen[id] != 1 {
			t.Fatalf("task %s: seq %d, submitted as %d, seen %d times", id, got.Seq, seqs[n], p.seen[id])
		}
	}
}

func TestSubmitLeavesNoGoroutine(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	for range 3 {
		if _, err := l.Submit(t.Context(), submission(newID())); err != nil {
			t.Fatal(err)
		}
	}
	l.flushers.Wait()
	if l.flushing || len(l.waiting) != 0 {
		t.Error("the flusher is still on")
	}
}

func TestEventTooLarge(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	e := submission(newID())
	e.Sub.Params = []byte(`"` + strings.Repeat("x", 890<<10) + `"`)
	if _, err := l.Submit(t.Context(), e); err != nil {
		t.Errorf("an event of 890 KiB is refused: %v", err)
	}
	e.Sub.Params = []byte(`"` + strings.Repeat("x", 901<<10) + `"`)
	if _, err := l.Submit(t.Context(), e); !errors.Is(err, functions.ErrTooLarge) {
		t.Errorf("an event of 901 KiB: %v", err)
	}
	if _, err := l.Append(t.Context(), "", e); !errors.Is(err, functions.ErrTooLarge) {
		t.Errorf("an event of 901 KiB: %v", err)
	}
	half := submission(newID())
	half.Sub.Params = []byte(`"` + strings.Repeat("x", 300<<10) + `"`)
	if _, err := l.Append(t.Context(), "", half, half); !errors.Is(err, functions.ErrTooLarge) {
		t.Errorf("two events of 300 KiB: %v", err)
	}
	if _, err := l.Append(t.Context(), ""); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("no events: %v", err)
	}
}

func TestLogFull(t *testing.T) {
	l := openLog(t, startServerWith(t, ServerConfig{Dir: t.TempDir(), MaxStore: 4 << 20}))
	e := submission(newID())
	e.Sub.Params = []byte(`"` + strings.Repeat("x", 500<<10) + `"`)
	var err error
	for range 20 {
		if _, err = l.Submit(t.Context(), e); err != nil {
			break
		}
	}
	var typed *functions.Error
	if !errors.Is(err, functions.ErrUnavailable) || !errors.As(err, &typed) || typed.Code != "log_full" {
		t.Fatalf("a full log answers %v", err)
	}
	first, err := l.streamInfo(t.Context(), streamName)
	if err != nil || first.State.FirstSeq != 1 {
		t.Errorf("the full log dropped events: %+v, %v", first.State, err)
	}
}

// TestDuplicateMessageID is what a repeated publish relies on, also across a
// restart of the server.
func TestDuplicateMessageID(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir)
	l := openLog(t, s)
	e := submission(newID())
	first, err := l.Append(t.Context(), "fin-x-1", e)
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.Append(t.Context(), "fin-x-1", e)
	if err != nil || again != first {
		t.Errorf("repeated: sequence %d and %v, want %d", again, err, first)
	}
	l.Close()
	s.Shutdown()

	l = openLog(t, startServer(t, dir))
	again, err = l.Append(t.Context(), "fin-x-1", e)
	if err != nil || again != first {
		t.Errorf("repeated after a restart: sequence %d and %v, want %d", again, err, first)
	}
	if last, err := l.LastSeq(t.Context()); err != nil || last != first {
		t.Errorf("the log ends with %d, %v", last, err)
	}
}

// TestAppendOutlivesServerRestart loses the server in the middle.
func TestAppendOutlivesServerRestart(t *testing.T) {
	cfg := ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "secret"}
	s := startServerWith(t, cfg)
	l := openWith(t, Config{URL: s.ClientURL(), Token: "secret"})
	cfg.Listen = strings.TrimPrefix(s.ClientURL(), "nats://")
	s.Shutdown()

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := l.Append(short, "fin-x-1", submission(newID()))
	if !errors.Is(err, functions.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a server: %v", err)
	}
	done := make(chan error, 2)
	go func() {
		_, err := l.Append(t.Context(), "fin-x-2", submission(newID()))
		done <- err
	}()
	go func() {
		_, err := l.Submit(t.Context(), submission(newID()))
		done <- err
	}()
	startServerWith(t, cfg)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestCancelledCallerLeavesTheBatch(t *testing.T) {
	cfg := ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "secret"}
	s := startServerWith(t, cfg)
	l := openWith(t, Config{URL: s.ClientURL(), Token: "secret"})
	cfg.Listen = strings.TrimPrefix(s.ClientURL(), "nats://")
	s.Shutdown() // so that batches wait

	ctx, cancel := context.WithCancel(t.Context())
	cancelled, kept := newID(), newID()
	first := make(chan error, 1)
	go func() { _, err := l.Submit(t.Context(), submission(newID())); first <- err }()
	eventually(t, "the first batch is on its way", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.flushing && len(l.waiting) == 0
	})
	gone, stays := make(chan error, 1), make(chan error, 1)
	go func() { _, err := l.Submit(ctx, submission(cancelled)); gone <- err }()
	go func() { _, err := l.Submit(t.Context(), submission(kept)); stays <- err }()
	eventually(t, "both wait together", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.waiting) == 1 && l.waiting[0].events == 2
	})
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled caller got %v", err)
	}
	startServerWith(t, cfg)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-stays; err != nil {
		t.Error(err)
	}
	p := project(t, l)
	eventually(t, "both events are in the log", func() bool { return p.task(kept).ID != "" && p.task(cancelled).ID != "" })
}

func TestAbandonedBatchEnds(t *testing.T) {
	s := startServerWith(t, ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "secret"})
	l := openWith(t, Config{URL: s.ClientURL(), Token: "secret"})
	s.Shutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Submit(ctx, submission(newID())); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	l.flushers.Wait() // without the log being closed
}

func TestClosedLogRefuses(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	l.Close()
	if _, err := l.Submit(t.Context(), submission(newID())); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("Submit: %v", err)
	}
	if _, err := l.Append(t.Context(), "x", submission(newID())); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("Append: %v", err)
	}
	if err := l.Tail(t.Context(), 0, newProjection().apply); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("Tail: %v", err)
	}
}

// TestFewSubjects keeps the server's memory small: ids never become subjects.
func TestFewSubjects(t *testing.T) {
	sub := submission(newID())
	other := submission(newID())
	other.Sub.Function = "transcribe"
	hostile := submission(newID())
	hostile.Sub.Function = "a.b.>"
	fin := functions.Event{Kind: functions.Finish, Task: newID()}
	for _, c := range []struct {
		want   string
		events []functions.Event
	}{
		{"tl.sub.thumbnail", []functions.Event{sub, sub}},
		{"tl.sub", []functions.Event{sub, other}},
		{"tl.sub", []functions.Event{sub, other, other}},
		{"tl.sub", []functions.Event{hostile}},
		{"tl.fin", []functions.Event{fin, fin}},
		{"tl.mix", []functions.Event{fin, sub}},
		{"tl.mix", []functions.Event{sub, other, fin}},
		{"tl.mix", []functions.Event{sub, fin, sub}},
	} {
		if got := eventSubject(c.events); got != c.want {
			t.Errorf("eventSubject = %s, want %s", got, c.want)
		}
		got := kindSubject(c.events[0].Kind, functionOf(c.events[0]))
		for _, e := range c.events[1:] {
			got = commonSubject(got, kindSubject(e.Kind, functionOf(e)))
		}
		if got != c.want {
			t.Errorf("commonSubject = %s, want %s", got, c.want)
		}
	}
}
