// Package chain hands the record of a task's end to the destinations that its
// function or its call names: a function gets one task of it, a bucket one object.
//
// It happens once for each end and destination, whichever server leads and whatever
// fails: package ends finds every end and tries until it is done, a task has a key
// that is made of the end, and an object is not written again when it is there.
package chain

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/ends"
	"github.com/spillway/spillway/gateway/intake"
)

// Door accepts tasks.
type Door interface {
	Accept(ctx context.Context, c intake.Call) (intake.Ticket, error)
}

// Objects holds large events and results, and takes records. Head also reads an
// object's first bytes, at most so many.
type Objects interface {
	Get(ctx context.Context, ref functions.ObjectRef) (io.ReadCloser, error)
	Head(ctx context.Context, bucket, key, version string, expect, most int64) (ref functions.ObjectRef, head []byte, err error)
	Put(ctx context.Context, bucket, key string, r io.Reader, size int64, contentType string) (functions.ObjectRef, error)
}

// Config is what a Chain works with.
type Config struct {
	Log      ends.Log
	Gap      error // what Log.Tail fails with when the log does not reach back that far
	Tasks    ends.Tasks
	Outbox   ends.Outbox
	Door     Door
	Objects  Objects
	MaxDepth int              // tasks in line, each started by the one before
	Now      func() time.Time // nil means time.Now
	Logger   *slog.Logger
}

// Chain is safe for use by many goroutines. Its Run is for the leader alone.
type Chain struct {
	*ends.Teller
	cfg   Config
	hands *prometheus.CounterVec
}

// New returns a Chain that does nothing until Run.
func New(cfg Config) *Chain {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Chain{cfg: cfg, hands: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "spillway", Name: "chain_records_total", Help: "Records of ended tasks for destinations, by what came of them: delivered, failed (tried again), gave_up.",
	}, []string{"outcome"})}
	for _, o := range []string{delivered, failed, gaveUp} {
		c.hands.WithLabelValues(o)
	}
	c.Teller = ends.New(ends.Config{
		What: "destinations", Log: cfg.Log, Gap: cfg.Gap, Tasks: cfg.Tasks, Outbox: cfg.Outbox, Wants: wants, Try: c.try, Now: cfg.Now, Logger: cfg.Logger,
	})
	return c
}

func wants(t *functions.Task) (functions.Delivery, bool) {
	to := t.Destinations()
	return functions.Delivery{Left: to}, len(to) > 0
}

// Collectors are the package's metrics.
func (c *Chain) Collectors() []prometheus.Collector { return []prometheus.Collector{c.hands} }
