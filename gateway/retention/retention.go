package retention

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway/spillway/functions"
)

// Tasks reads the projection of the log. Live streams the unfinished tasks.
type Tasks interface {
	Task(ctx context.Context, id functions.TaskID) (functions.Task, error)
	Live(ctx context.Context) iter.Seq2[functions.Task, error]
	WaitApplied(ctx context.Context, seq uint64) error
}

// Log takes the events that give files up.
type Log interface {
	Append(ctx context.Context, msgID string, events ...functions.Event) (seq uint64, err error)
	LastSeq(ctx context.Context) (uint64, error)
}

// Objects is the store. List goes in key order; deleting what is gone succeeds.
type Objects interface {
	List(ctx context.Context, bucket, prefix, startAfter string) iter.Seq2[functions.ObjectRef, error]
	Delete(ctx context.Context, ref functions.ObjectRef) error
}

// Config is what a Retention works with.
type Config struct {
	Tasks   Tasks
	Log     Log
	Objects Objects

	Keep   Limits
	Every  time.Duration    // between sweeps; 0 = ten minutes
	Rate   int              // deletions per second at most; 0 = 200
	Now    func() time.Time // nil = time.Now
	Logger *slog.Logger     // nil = silent
}

// Retention sweeps the buckets. Run and Sweep are for one goroutine at a time.
// It remembers where the log ended at its latest sweeps; a new one therefore
// deletes nothing that was given up, for a grace time.
type Retention struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	foreign map[string]bool // places where an object that is not ours was reported
	ends    []end           // of the log, oldest first; nil again when the log does not answer: who waits for it gets a whole grace time from then
}

// end is where the log ended at a time, or before it.
type end struct {
	at  time.Time
	seq uint64
}

// firstSweep is the longest wait for the first sweep: a server that is restarted
// often must sweep, too.
const firstSweep = time.Minute

// New returns a Retention. It starts nothing.
func New(c Config) (*Retention, error) {
	if c.Tasks == nil || c.Log == nil || c.Objects == nil {
		return nil, errors.New("retention: Config.Tasks, Log or Objects is missing")
	}
	k := c.Keep
	if k.Inputs < 0 || k.Outputs < 0 || k.Logs < 0 || k.Grace < 0 || c.Every < 0 || c.Rate < 0 {
		return nil, functions.Invalid("bad_retention", "a time or rate of the retention is negative").WithHint("0 keeps files for ever")
	}
	if c.Every == 0 {
		c.Every = 10 * time.Minute
	}
	if c.Rate == 0 {
		c.Rate = 200
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Retention{cfg: c, log: c.Logger.With("component", "retention"), metrics: newMetrics(), foreign: map[string]bool{}}, nil
}

// Collectors are the figures of this server's sweeps.
func (r *Retention) Collectors() []prometheus.Collector { return r.metrics.all() }

// Run sweeps now and then until ctx ends, and returns nil. It is meant for one
// server at a time; two do no harm. What fails is logged, and tried again by the
// next sweep.
func (r *Retention) Run(ctx context.Context) error {
	timer := time.NewTimer(min(r.cfg.Every, firstSweep))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		if err := r.Sweep(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("sweep of old files not complete", "err", err)
		}
		timer.Reset(r.cfg.Every)
	}
}
