package ends

import (
	"cmp"
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway/spillway/functions"
)

// mostTries is how many tries are made at once.
const mostTries = 16

// deliver makes the tries that are due, a few at a time.
func (t *Teller) deliver(ctx context.Context, q *queue) error {
	var tries errgroup.Group
	tries.SetLimit(mostTries)
	defer tries.Wait()
	for {
		d, ok := q.next(ctx, t.cfg.Now)
		if !ok {
			return nil
		}
		tries.Go(func() error {
			after := t.cfg.Try(ctx, d)
			if ctx.Err() != nil { // cut off: it says nothing of the other side
				return nil
			}
			if err := t.record(ctx, after); err == nil && !after.Next.IsZero() {
				q.add(after)
			}
			return nil
		})
	}
}

// record writes down what came of a try, however long that takes: without it the
// same try would be made again by the next leader.
func (t *Teller) record(ctx context.Context, d functions.Delivery) error {
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		err := t.cfg.Outbox.Put(ctx, d)
		if err == nil {
			return nil
		}
		t.cfg.Logger.Warn(t.cfg.What+": a delivery is not recorded yet", "task", d.Task, "err", err)
		if !functions.Sleep(ctx, pause) {
			return cmp.Or(ctx.Err(), err)
		}
	}
}
