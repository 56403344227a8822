// Package outputs knows which output a driver is copying, and of which container,
// so that it can wait for the end of it, or put an end to it.
package outputs

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/spillway/spillway/runtime"
)

// Set is the copyings of one driver. The zero value is ready. Its methods may be
// called from many goroutines.
type Set struct {
	mu     sync.Mutex // guards copies
	copies map[runtime.ID][]copying
}

// copying is one copying of a container's output. It ends with the container, or
// by stop.
type copying struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when everything is copied
}

func (c copying) stop() {
	c.cancel()
	<-c.done
}

// Begin notes that output of a container is copied from now on. The context that
// it returns ends when the copying is to stop; done says that it has.
func (s *Set) Begin(ctx context.Context, id runtime.ID) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancel(ctx)
	c := copying{cancel: cancel, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copies == nil {
		s.copies = map[runtime.ID][]copying{}
	}
	s.copies[id] = append(s.copies[id], c)
	return ctx, func() { cancel(); close(c.done) }
}

// Wait blocks until the output of a container is copied. whole is false when that
// took longer than limit; 0 = no limit.
func (s *Set) Wait(ctx context.Context, id runtime.ID, limit time.Duration) (whole bool, err error) {
	s.mu.Lock()
	copies := s.copies[id]
	s.mu.Unlock()
	var late <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	for _, c := range copies {
		select {
		case <-c.done:
		case <-ctx.Done():
			return false, fmt.Errorf("wait for output: %w", context.Cause(ctx))
		case <-late:
			return false, nil
		}
	}
	return true, nil
}

// Forget stops the copying for a container that is gone, and returns when it has
// stopped.
func (s *Set) Forget(id runtime.ID) {
	s.mu.Lock()
	copies := s.copies[id]
	delete(s.copies, id)
	s.mu.Unlock()
	for _, c := range copies {
		c.stop()
	}
}

// Close stops all copying, and returns when it has stopped.
func (s *Set) Close() {
	s.mu.Lock()
	copies := s.copies
	s.copies = nil
	s.mu.Unlock()
	for _, of := range copies {
		for _, c := range of {
			c.stop()
		}
	}
}
