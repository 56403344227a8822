package tasklog

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway/spillway/functions"
)

func appendN(t testing.TB, l *Log, n int) {
	t.Helper()
	for range n {
		if _, err := l.Append(t.Context(), "", submission(newID())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTailFromTheMiddle(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	appendN(t, l, 5)
	var got []uint64
	ctx, cancel := context.WithCancel(t.Context())
	err := l.Tail(ctx, 3, func(_ context.Context, rs []functions.Record) error {
		for _, r := range rs {
			got = append(got, r.Seq)
		}
		if len(got) == 2 {
			cancel()
		}
		return nil
	})
	if err != nil || len(got) != 2 || got[0] != 4 || got[1] != 5 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestTailReturnsTheHandlersError(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	appendN(t, l, 1)
	want := errors.New("disk full")
	if err := l.Tail(t.Context(), 0, func(context.Context, []functions.Record) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// TestTailMissesNoWakeUp publishes one message at a time, the load under which
// pull iterators stall, and wants each well before a heartbeat could save it. Two
// may be late: a machine that stands still for a moment looks the same.
func TestTailMissesNoWakeUp(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	p := project(t, l)
	appendN(t, l, 1)
	late := 0
	for range 2000 { // well over the pull batch
		seq, err := l.Append(t.Context(), "", submission(newID()))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := p.WaitApplied(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d >= pullSilence {
			t.Logf("message %d came after %v", seq, d)
			if late++; late > 2 {
				t.Fatalf("%d messages came late", late)
			}
		}
	}
}

// TestTailReadsBulk reads more than a pull holds, by count and by bytes.
func TestTailReadsBulk(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	events := make([]functions.Event, maxBatch)
	for i := range events {
		events[i] = submission(newID())
		events[i].Sub.Params = []byte(`"` + strings.Repeat("p", 1500) + `"`)
	}
	const n = 40 // 20 MB: five times the bytes of a pull
	for range n {
		if _, err := l.Append(t.Context(), "", events...); err != nil {
			t.Fatal(err)
		}
	}
	appendN(t, l, 3*pullBatch)
	p := project(t, l)
	if err := p.WaitApplied(t.Context(), n+3*pullBatch); err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if p.seen[e.Task] != n {
			t.Fatalf("task %s was seen %d times, want %d", e.Task, p.seen[e.Task], n)
		}
	}
}

func TestTailOutlivesServerRestart(t *testing.T) {
	cfg := ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "secret"}
	s := startServerWith(t, cfg)
	l := openWith(t, Config{URL: s.ClientURL(), Token: "secret"})
	cfg.Listen = strings.TrimPrefix(s.ClientURL(), "nats://")
	p := project(t, l)
	for range 3 {
		appendN(t, l, 10)
		s.Shutdown()
		s = startServerWith(t, cfg)
	}
	appendN(t, l, 10)
	if err := p.WaitApplied(t.Context(), 40); err != nil {
		t.Fatal(err)
	}
}

// TestTailOutlivesLostConsumer: servers forget consumers that live in memory.
func TestTailOutlivesLostConsumer(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	p := project(t, l)
	for n := uint64(1); n <= 3; n++ {
		appendN(t, l, 1)
		if err := p.WaitApplied(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		s, err := l.js.Stream(t.Context(), streamName)
		if err != nil {
			t.Fatal(err)
		}
		names := s.ConsumerNames(t.Context())
		for name := range names.Name() {
			if err := l.js.DeleteConsumer(t.Context(), streamName, name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestUnreadableEventKeepsItsSequence(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	appendN(t, l, 1)
	for _, bad := range []string{"", "{", "\n", "null\n{}", "{}\nxx"} {
		if _, err := l.js.PublishMsg(t.Context(), &nats.Msg{Subject: "tl.sub", Data: []byte(bad)}); err != nil {
			t.Fatal(err)
		}
	}
	appendN(t, l, 1)
	p := project(t, l)
	if err := p.WaitApplied(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if len(p.tasks) != 2 {
		t.Errorf("%d tasks, want 2", len(p.tasks))
	}
}

func wantGap(t *testing.T, l *Log, after uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := l.Tail(ctx, after, func(context.Context, []functions.Record) error { return nil })
	if !errors.Is(err, ErrGap) {
		t.Errorf("tail after %d: %v, want a gap", after, err)
	}
}

func TestGapWhenTheLogWentBack(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	appendN(t, l, 3)
	wantGap(t, l, 4)
}

// TestGapWhenTheDefinitionIsLost: without syncing, a power cut can take the
// stream itself; opening makes an empty one.
func TestGapWhenTheDefinitionIsLost(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	appendN(t, l, 3)
	if err := l.js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
	wantGap(t, l, 3) // not even a stream
	if err := l.ensureStream(t.Context(), Config{}, -1); err != nil {
		t.Fatal(err)
	}
	wantGap(t, l, 3)
}

func TestGapSeenWhileTailing(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	appendN(t, l, 3)
	p := newProjection()
	done := make(chan error, 1)
	go func() { done <- l.Tail(t.Context(), 0, p.apply) }()
	if err := p.WaitApplied(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if err := l.js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrGap) {
		t.Errorf("got %v", err)
	}
}

// TestGapOnHole makes the log as an operator's tool or a repair could.
func TestGapOnHole(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	cfg := logConfig(1, time.Hour, -1)
	cfg.DenyDelete, cfg.DenyPurge = false, false
	if err := l.js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
	s, err := l.js.CreateStream(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 5)
	if err := s.DeleteMsg(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	wantGap(t, l, 0)
	wantGap(t, l, 2)
	if err := s.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	wantGap(t, l, 0) // the log begins too late
}

func TestLogDeniesDeletion(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	appendN(t, l, 2)
	s, err := l.js.Stream(t.Context(), streamName)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("a message can be deleted")
	}
	if err := s.Purge(t.Context()); err == nil {
		t.Error("the log can be purged")
	}
}
