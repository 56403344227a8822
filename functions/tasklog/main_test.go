package tasklog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

func startServer(t testing.TB, dir string) *Server {
	t.Helper()
	return startServerWith(t, ServerConfig{Dir: dir})
}

func startServerWith(t testing.TB, cfg ServerConfig) *Server {
	t.Helper()
	s, err := StartServer(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	t.Cleanup(func() { once.Do(s.Shutdown) })
	return s
}

func openLog(t testing.TB, s *Server) *Log {
	t.Helper()
	return openWith(t, Config{Server: s, Name: t.Name()})
}

func openWith(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func newID() functions.TaskID { return functions.TaskID(uuid.Must(uuid.NewV7()).String()) }

func submission(id functions.TaskID) functions.Event {
	return functions.Event{
		Kind: functions.Submit, Task: id, At: time.Now().UTC(),
		Sub: &functions.Task{ID: id, Function: "thumbnail", Version: 1, State: functions.Queued, Source: "http", Event: []byte(`{"size":128,"of":"in/picture.jpg"}`)},
	}
}

// eventually polls cond until it holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute) // far more than it takes, for a machine that is busy
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// background runs f until the test ends and fails the test when f does.
func background(t testing.TB, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("background: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// projection folds the log in memory, as a server does in its database.
type projection struct {
	mu      sync.Mutex
	changed chan struct{}
	applied uint64
	epoch   uint64
	tasks   map[functions.TaskID]functions.Task
	seen    map[functions.TaskID]int // submissions
	void    int
}

func newProjection() *projection {
	return &projection{changed: make(chan struct{}), tasks: map[functions.TaskID]functions.Task{}, seen: map[functions.TaskID]int{}}
}

func (p *projection) apply(_ context.Context, records []functions.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range records {
		if r.Seq != p.applied && r.Seq != p.applied+1 || r.Seq == p.applied && r.Index == 0 {
			return fmt.Errorf("sequence %d.%d after %d", r.Seq, r.Index, p.applied)
		}
		p.applied = r.Seq
		var err error
		switch e := r.Event; e.Kind {
		case functions.Lead:
			p.epoch = r.Seq
		case functions.Submit:
			p.seen[e.Task]++
			if _, ok := p.tasks[e.Task]; !ok {
				p.tasks[e.Task], err = functions.Accept(e, r.Seq)
			}
		default:
			t, ok := p.tasks[e.Task]
			if !ok {
				err = functions.ErrStale
				break
			}
			if t, err = t.Apply(e, p.epoch, r.Seq); err == nil {
				p.tasks[e.Task] = t
			}
		}
		if errors.Is(err, functions.ErrStale) {
			p.void++
		} else if err != nil {
			return err
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

func (p *projection) WaitApplied(ctx context.Context, seq uint64) error {
	for {
		p.mu.Lock()
		applied, changed := p.applied, p.changed
		p.mu.Unlock()
		if applied >= seq {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *projection) Epoch() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch
}

func (p *projection) Applied() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applied
}

func (p *projection) task(id functions.TaskID) functions.Task {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tasks[id]
}

// project tails l into a new projection for the rest of the test.
func project(t testing.TB, l *Log) *projection {
	t.Helper()
	p := newProjection()
	background(t, func(ctx context.Context) error { return l.Tail(ctx, 0, p.apply) })
	return p
}
