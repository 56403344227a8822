package taskdb

import (
	"container/heap"
	"context"
	"slices"
)

// waiter wants to know when seq has been applied.
type waiter struct {
	seq  uint64
	done chan struct{}
	at   int // its index in the heap; -1 once it has left
}

// waiters is a heap with the lowest sequence first, so that a batch wakes those
// it concerns and nobody else.
type waiters []*waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].seq < w[j].seq }
func (w waiters) Swap(i, j int)      { w[i], w[j] = w[j], w[i]; w[i].at, w[j].at = i, j }
func (w *waiters) Push(x any)        { v := x.(*waiter); v.at = len(*w); *w = append(*w, v) }
func (w *waiters) Pop() any {
	last := (*w)[len(*w)-1]
	*w = slices.Delete(*w, len(*w)-1, len(*w))
	last.at = -1
	return last
}

// WaitApplied returns once everything up to seq is in the database, or when ctx
// ends, with its cause.
func (db *DB) WaitApplied(ctx context.Context, seq uint64) error {
	if db.Applied() >= seq {
		return nil
	}
	w := &waiter{seq: seq, done: make(chan struct{})}
	db.mu.Lock()
	if db.Applied() >= seq { // it came between the two looks
		db.mu.Unlock()
		return nil
	}
	heap.Push(&db.waiters, w)
	db.mu.Unlock()

	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		db.mu.Lock()
		defer db.mu.Unlock()
		if w.at < 0 { // woken at the same moment
			return nil
		}
		heap.Remove(&db.waiters, w.at)
		return context.Cause(ctx)
	}
}

// wake is called with mu held.
func (db *DB) wake(applied uint64) {
	for len(db.waiters) > 0 && db.waiters[0].seq <= applied {
		close(heap.Pop(&db.waiters).(*waiter).done)
	}
}
