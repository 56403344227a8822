package gateway

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway/spillway/functions"
)

// The sweep makes up for lost events: it is the one place that finds a file, or
// all the parts of one, whose client died before saying so and of which the
// store told nobody, because it cannot or because no server ran.
const (
	sweepEvery   = 30 * time.Second // unless Config.Sweep says otherwise
	sweepAtOnce  = 8                // uploads that are looked for at one moment
	sweepPages   = 500              // tasks in a page of the list
	sweepSetback = 20               // failures in a row after which the store or the log is taken to be away
)

// sweeps looks for the files of awaiting tasks, now and at every interval.
func (g *Gateway) sweeps(ctx context.Context) error {
	tick := time.NewTicker(g.cfg.Sweep)
	defer tick.Stop()
	since := time.Duration(math.MaxInt64) // the first looks for all
	for {
		began := time.Now()
		started, err := g.sweep(ctx, since)
		if n := len(started); n > 0 {
			g.log.Info("uploads found by the sweep", "started", n, "tasks", started[:min(n, 10)])
		}
		if err != nil && ctx.Err() == nil {
			g.log.Warn("sweep of uploads stopped early", "err", err)
		}
		select {
		case <-tick.C:
			since = time.Since(began)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sweep returns the tasks that it started. An upload that fails does not keep
// the others waiting, unless so many fail that nothing would succeed.
func (g *Gateway) sweep(ctx context.Context, since time.Duration) (started []functions.TaskID, err error) {
	now := g.cfg.Now()
	// A client has two intervals to say by itself that its file is there.
	q := functions.TaskQuery{States: []functions.State{functions.AwaitingUpload}, Until: now.Add(-2 * g.cfg.Sweep), Limit: sweepPages}
	var mu sync.Mutex // guards started and setbacks
	setbacks := 0
	look := func(t functions.Task) error {
		_, err := g.arrived(ctx, t, "sweep")
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			started = append(started, t.ID)
		case errors.Is(err, functions.ErrConflict): // not there, not all of it, or not what was announced
		case away(err):
			if setbacks++; setbacks >= sweepSetback {
				return fmt.Errorf("complete upload %s: %w", t.ID, err)
			}
			return nil
		default:
			g.log.Warn("upload not completed", "task", t.ID, "err", err)
		}
		setbacks = 0
		return nil
	}
	for {
		page, err := g.cfg.Tasks.List(ctx, q)
		if err != nil {
			return started, fmt.Errorf("list awaited uploads: %w", err)
		}
		work, gone := errgroup.WithContext(ctx)
		work.SetLimit(sweepAtOnce)
		for _, t := range page.Tasks {
			if gone.Err() != nil {
				break
			}
			if due(now.Sub(t.CreatedAt), since) {
				work.Go(func() error { return look(t) })
			}
		}
		if err := work.Wait(); err != nil {
			return started, err
		}
		if page.Next == "" || ctx.Err() != nil {
			return started, context.Cause(ctx)
		}
		q.Cursor = page.Next
	}
}

// away reports whether err is of the store or the log itself rather than of one
// upload.
func away(err error) bool {
	for _, class := range []error{functions.ErrInvalid, functions.ErrNotFound, functions.ErrForbidden, functions.ErrTooLarge} {
		if errors.Is(err, class) {
			return false
		}
	}
	return true
}

// due decides whether a sweep looks for an upload of some age, when the sweep
// before was since ago. Young ones are looked for each time, older ones whenever
// their age has grown by a tenth: in the day that an upload may take, that is
// some seventy times instead of three thousand.
func due(age, since time.Duration) bool {
	const young, growth = 10 * time.Minute, 1.1
	if age < young || since >= age {
		return true
	}
	step := func(age time.Duration) float64 { return math.Floor(math.Log(age.Seconds()) / math.Log(growth)) }
	return step(age) != step(age-since)
}
