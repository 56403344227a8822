package dockertest_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker/dockertest"
)

// A crash of the engine loses no exit and no output, and repeats none.
func TestEngineCrash(t *testing.T) {
	for _, live := range []bool{true, false} {
		e := dockertest.Start(t, dockertest.Config{NoToolkit: true, LiveRestore: live})
		b := open(t, e.Host)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		id, err := b.Create(ctx, runtime.Spec{Image: b.image, Command: []string{"trap", "5"}})
		if err != nil {
			t.Fatal(err)
		}
		out := newLines()
		if err := b.Start(ctx, id, runtime.Streams{Stdout: out}); err != nil {
			t.Fatal(err)
		}
		out.expect(t, "ready\n")
		var exit runtime.Exit
		waited := make(chan error, 1)
		go func() {
			var err error
			exit, err = b.Wait(ctx, id)
			waited <- err
		}()
		e.Crash()
		if _, err := b.List(ctx, nil); !errors.Is(err, functions.ErrUnavailable) {
			t.Errorf("List while the engine is away: %v, want unavailable", err)
		}
		e.Restart()
		if live {
			if err := b.Stop(ctx, id, 20*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-waited; err != nil {
			t.Fatalf("live restore %v: Wait: %v", live, err)
		}
		if !exit.EngineAway {
			t.Errorf("live restore %v: exit %+v, want it to say that the engine was away", live, exit)
		}
		if live && (exit.Code != 5 || out.String() != "ready\nterminated\n") {
			t.Errorf("outlived the engine: exit %+v, output %q", exit, out)
		}
		if !live && (exit.Code == 0 || !strings.HasPrefix(out.String(), "ready\n")) {
			t.Errorf("ended with the engine: exit %+v, output %q", exit, out)
		}
		if err := b.Remove(ctx, id); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
}

// lines is a writer that can be waited for.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{}, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) expect(t *testing.T, want string) {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for l.String() != want {
		select {
		case <-l.more:
		case <-limit.C:
			t.Fatalf("output %q, want %q", l, want)
		}
	}
}
