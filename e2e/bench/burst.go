package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spillway/spillway/e2e/bench/launch"
	"github.com/spillway/spillway/e2e/bench/measure"
	"github.com/spillway/spillway/e2e/bench/results"
)

// pools are the sizes of the pools that bursts meet.
var pools = []int{4, 16}

// bursts shows what a pool of waiting containers is worth: the calls within it,
// and the cliff beyond.
func (b *bench) bursts(ctx context.Context, img *launch.Image) error {
	for _, s := range systems {
		srv, stop, err := s.start(ctx, b, "burst-"+s.runtime, img, pools...)
		if errors.Is(err, measure.ErrSkip) {
			b.add(results.Row{Set: setBurst, Name: s.runtime, Ours: true, Skipped: err.Error()})
			continue
		}
		if err != nil {
			return err
		}
		for _, pool := range pools {
			c := &caller{srv: srv, path: fmt.Sprintf("/v1/functions/pool-%d/invoke", pool)}
			if _, err := c.once(ctx); err != nil { // a pool begins with its function's first call
				return errors.Join(err, stop())
			}
			c = &caller{srv: srv, path: c.path}
			for times := 1; times <= 4; times++ {
				progress("launch: %s, %d calls at once on %d waiting containers", s.runtime, pool*times, pool)
				got, err := volleys(ctx, b.volleys, pool*times, c.once)
				if err != nil {
					return errors.Join(err, stop())
				}
				b.add(results.Row{
					Set: setBurst, Name: fmt.Sprintf("%s, %d waiting, burst %dx", s.runtime, pool, times), Ours: true, InFlight: pool * times, Note: c.launched(),
				}.Fill(got))
				c = &caller{srv: srv, path: c.path}
			}
		}
		if err := stop(); err != nil {
			return err
		}
	}
	return nil
}

// volleys makes n calls at once, in rounds with time between for a pool to fill.
func volleys(ctx context.Context, rounds, n int, op measure.Op) (measure.Result, error) {
	var (
		all  measure.Result
		took []float64
		mu   sync.Mutex // guards took and all
	)
	for range rounds {
		// Two seconds at least, then until the refill is done.
		if _, err := measure.Baseline(ctx, 2*time.Second); err != nil {
			return all, err
		}
		if _, err := measure.Quiet(ctx, 0.25, 200*time.Millisecond, 10*time.Second); err != nil {
			return all, err
		}
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				d, err := op(ctx)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					all.Failures++
					all.Err = err
					return
				}
				took = append(took, measure.Milliseconds(d))
			})
		}
		wg.Wait()
		if ctx.Err() != nil {
			return all, context.Cause(ctx)
		}
	}
	all.Latency = measure.Summarize(took)
	return all, nil
}
