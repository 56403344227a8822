package measure

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Op does one thing and says how long its caller waited for the result; what it
// does after that, such as removing a container, is not part of the answer.
type Op func(ctx context.Context) (time.Duration, error)

// Result is what became of the calls of one Op.
type Result struct {
	Latency  *Summary      // in milliseconds; nil when none succeeded
	Failures int           // calls that failed
	Err      error         // of the first that failed
	Rate     float64       // successes per second; 0 of a serial run
	CPU      time.Duration // of the machine per success, its baseline taken off
}

// Serial is a comparison: calls alternate between the operations, so that
// whatever else the machine does meets all of them alike.
type Serial struct {
	Rounds int           // calls of each
	Warmup int           // calls of each before, which do not count
	Before func() error  // before every call, such as waiting for a quiet moment; nil = nothing
	Settle time.Duration // pause after every call, for what a daemon still does for it
}

// Run calls each operation once per round, each round beginning at another one.
// It returns their results in the order of ops.
func (s Serial) Run(ctx context.Context, ops []Op) ([]Result, error) {
	results, took := make([]Result, len(ops)), make([][]float64, len(ops))
	for round := range s.Warmup + s.Rounds {
		for k := range ops {
			i := (k + round) % len(ops)
			if s.Before != nil {
				if err := s.Before(); err != nil {
					return nil, err
				}
			}
			d, err := ops[i](ctx)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if round >= s.Warmup {
				if err == nil {
					took[i] = append(took[i], Milliseconds(d))
				}
				results[i].failed(err)
			}
			if err := pause(ctx, s.Settle); err != nil {
				return nil, err
			}
		}
	}
	for i := range results {
		results[i].Latency = Summarize(took[i])
	}
	return results, nil
}

func (r *Result) failed(err error) {
	if err == nil {
		return
	}
	r.Failures++
	if r.Err == nil {
		r.Err = err
	}
}

// giveUp is how many failures without a success end a load: a peer that cannot
// do it at all would only burn its time.
const giveUp = 20

// Load keeps so many calls of op in flight for a while, lets the last ones end,
// and counts those too. baseline is the machine's busy share without them.
func Load(ctx context.Context, inFlight int, lasting time.Duration, baseline float64, op Op) (Result, error) {
	var (
		mu     sync.Mutex // guards result and took
		wg     sync.WaitGroup
		result Result
		took   []float64
	)
	before, err := ReadCPU()
	if err != nil {
		return result, err
	}
	began := time.Now()
	for range inFlight {
		wg.Go(func() {
			for time.Since(began) < lasting && ctx.Err() == nil {
				d, err := op(ctx)
				mu.Lock()
				if err == nil {
					took = append(took, Milliseconds(d))
				}
				result.failed(err)
				hopeless := len(took) == 0 && result.Failures >= giveUp
				mu.Unlock()
				if hopeless {
					return
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	after, err := ReadCPU()
	result.Latency = Summarize(took)
	result.Rate = float64(len(took)) / time.Since(began).Seconds()
	result.CPU = PerTask(before, after, baseline, len(took))
	return result, err
}

// Milliseconds is a duration as summaries hold it.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// ErrSkip marks what cannot be measured here, for a reason that is no fault: a
// program that is not installed, a spec that this build refuses.
var ErrSkip = errors.New("skipped")
