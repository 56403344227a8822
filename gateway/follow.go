package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway/spillway/functions"
)

// follow sends an attempt's lines as they come, then those of the next attempt,
// until the task has ended or only, when it is not 0, has.
func (g *Gateway) follow(ctx context.Context, out *logWriter, t functions.Task, only, tail int) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	updates, leave := g.Feed.Subscribe(t.ID)
	defer leave()
	live := make(chan []functions.LogLine, behind)
	var group errgroup.Group
	defer func() { stop(); _ = group.Wait() }()
	group.Go(func() error {
		err := g.cfg.NodeLogs.FollowLog(ctx, t.ID, func(lines []functions.LogLine) {
			select {
			case live <- lines:
			default: // catchUp finds them
			}
		})
		if err != nil && ctx.Err() == nil {
			g.log.Warn("live log is not followed", "task", t.ID, "err", err)
		}
		return nil
	})
	number := only
	if number == 0 {
		number = max(t.Attempt, 1)
	}
	for {
		ended, err := g.followAttempt(ctx, out, t.ID, number, tail, updates, live)
		if err != nil || ended || only != 0 {
			return err
		}
		number++
		out.after, tail = 0, 0
	}
}

// followAttempt sends one attempt's lines to its end, and says whether the task
// has ended with it.
func (g *Gateway) followAttempt(ctx context.Context, out *logWriter, id functions.TaskID, number, tail int, updates <-chan Update, live <-chan []functions.LogLine) (ended bool, err error) {
	tick := time.NewTicker(catchUp)
	defer tick.Stop()
	for {
		t, err := g.cfg.Tasks.Task(ctx, id)
		if err != nil {
			return false, fmt.Errorf("read task: %w", err)
		}
		a := attemptOf(&t, number)
		if a != nil {
			err := g.backlog(ctx, &t, a, out.after, tail, out.lines)
			switch {
			case err == nil:
				tail = 0
			case !errors.Is(err, functions.ErrUnavailable) && !errors.Is(err, functions.ErrTimeout) || t.State.Final():
				return false, err
			} // a node that does not answer now is asked again at the next tick
		}
		over := a != nil && !a.EndedAt.IsZero() || a == nil && t.Attempt >= number
		if t.State.Final() || over {
			return t.State.Final(), nil
		}
		if over, err := g.followLive(ctx, out, number, updates, live, tick.C); err != nil || over {
			return over, err
		}
	}
}

// followLive sends live lines until there is a reason to look again; over means
// that the reader has left or fell too far behind.
func (g *Gateway) followLive(ctx context.Context, out *logWriter, number int, updates <-chan Update, live <-chan []functions.LogLine, tick <-chan time.Time) (over bool, err error) {
	for {
		select {
		case lines := <-live:
			if len(lines) == 0 || lines[0].Attempt != number || lines[0].N > out.after+1 {
				return false, nil // a gap, or another attempt: read it whole
			}
			if err := out.lines(lines); err != nil {
				return false, err
			}
		case u, ok := <-updates:
			if !ok {
				return true, nil
			}
			if u.Task != nil {
				return false, nil
			}
		case <-tick:
			return false, nil
		case <-ctx.Done():
			return true, nil
		}
	}
}
