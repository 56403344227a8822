package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/spillway/spillway/functions"
)

// waitEnd waits up to d for a task's end and returns the task as it then is.
// fresh means that the caller subscribed to end before the task existed;
// otherwise it may have ended already, and is read first.
func (g *Gateway) waitEnd(ctx context.Context, t functions.Task, end <-chan Update, fresh bool, d time.Duration) (functions.Task, error) {
	if !fresh {
		other, leave := g.Feed.ended(t.ID)
		defer leave()
		end = other
		now, err := g.cfg.Tasks.Task(ctx, t.ID)
		if err != nil {
			return t, fmt.Errorf("read task: %w", err)
		}
		t = now
	}
	if t.State.Final() || d <= 0 {
		return t, nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case u, ok := <-end:
		if ok {
			return *u.Task, nil
		}
	case <-timer.C:
	case <-ctx.Done():
		return t, context.Cause(ctx)
	}
	now, err := g.cfg.Tasks.Task(ctx, t.ID)
	if err != nil {
		return t, fmt.Errorf("read task: %w", err)
	}
	return now, nil
}
