package ends

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

// queue holds deliveries until they are due.
type queue struct {
	mu   sync.Mutex // guards due
	due  byTime
	news chan struct{} // holds one
}

func newQueue(all []functions.Delivery) *queue {
	q := &queue{due: all, news: make(chan struct{}, 1)}
	heap.Init(&q.due)
	return q
}

func (q *queue) add(d functions.Delivery) {
	q.mu.Lock()
	heap.Push(&q.due, d)
	q.mu.Unlock()
	select {
	case q.news <- struct{}{}:
	default:
	}
}

// next waits for the first that is due; false when ctx ends.
func (q *queue) next(ctx context.Context, now func() time.Time) (functions.Delivery, bool) {
	for {
		wait := time.Hour
		q.mu.Lock()
		if len(q.due) > 0 {
			if wait = q.due[0].Next.Sub(now()); wait <= 0 && ctx.Err() == nil {
				d := heap.Pop(&q.due).(functions.Delivery)
				q.mu.Unlock()
				return d, true
			}
		}
		q.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-q.news:
		case <-ctx.Done():
			timer.Stop()
			return functions.Delivery{}, false
		}
		timer.Stop()
	}
}

// byTime is a heap.
type byTime []functions.Delivery

func (b byTime) Len() int           { return len(b) }
func (b byTime) Less(i, j int) bool { return b[i].Next.Before(b[j].Next) }
func (b byTime) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *byTime) Push(x any)        { *b = append(*b, x.(functions.Delivery)) }
func (b *byTime) Pop() any {
	last := len(*b) - 1
	d := (*b)[last]
	*b = (*b)[:last]
	return d
}
