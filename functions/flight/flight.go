// Package flight shares work that several callers want at the same time, such as
// the pull of an image.
package flight

import (
	"context"
	"sync"
)

// Group shares work by key. P is what the work reports while it goes on. The zero
// value is ready.
type Group[P any] struct {
	mu      sync.Mutex // guards the fields of every flight too
	flights map[string]*flight[P]
}

// flight is one piece of work that goes on.
type flight[P any] struct {
	cancel    context.CancelFunc
	done      chan struct{} // closed when err is set
	err       error
	listeners map[*func(P)]struct{} // one for each caller
	last      P
	reported  bool
}

// Do does the work of a key, or joins whoever does it already, and returns what
// came of it. Every caller hears the reports, one at a time, and one who joins
// late hears the latest at once; progress may be nil. When ctx ends, the caller
// leaves with its cause; the work ends when the last one has left, who waits for
// that.
func (g *Group[P]) Do(ctx context.Context, key string, progress func(P), work func(ctx context.Context, report func(P)) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if progress == nil {
		progress = func(P) {}
	}
	g.mu.Lock()
	f := g.flights[key]
	if f == nil {
		f = g.start(ctx, key, work)
	}
	f.listeners[&progress] = struct{}{}
	if f.reported {
		progress(f.last)
	}
	g.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	delete(f.listeners, &progress)
	last := len(f.listeners) == 0
	if last && g.flights[key] == f {
		delete(g.flights, key) // nobody may join work that is being given up
	}
	g.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
	return context.Cause(ctx)
}

// start begins the work; the caller holds mu.
func (g *Group[P]) start(ctx context.Context, key string, work func(context.Context, func(P)) error) *flight[P] {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight[P]{cancel: cancel, done: make(chan struct{}), listeners: map[*func(P)]struct{}{}}
	if g.flights == nil {
		g.flights = map[string]*flight[P]{}
	}
	g.flights[key] = f
	go func() {
		defer cancel()
		err := work(ctx, func(p P) { g.report(f, p) })
		g.mu.Lock()
		f.err = err
		if g.flights[key] == f {
			delete(g.flights, key)
		}
		g.mu.Unlock()
		close(f.done)
	}()
	return f
}

func (g *Group[P]) report(f *flight[P], p P) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.last, f.reported = p, true
	for l := range f.listeners {
		(*l)(p)
	}
}
