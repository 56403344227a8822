// Package webhooks tells those who asked for it that a task has ended.
//
// The leader sees every end in the log, keeps a delivery for each that has a URL,
// and calls the URL until it answers with 2xx, asks not to be called (410), or all
// tries have failed. An end is told at least once: a server that dies between
// the call and its record makes its successor call again, under the same
// webhook-id. Messages are signed as https://www.standardwebhooks.com says.
package webhooks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway/spillway/functions"
)

// Log is read from where the last leader came to.
type Log interface {
	LastSeq(ctx context.Context) (uint64, error)
	Tail(ctx context.Context, after uint64, handle func(context.Context, []functions.Record) error) error
}

// Tasks shows tasks as the log has made them.
type Tasks interface {
	Task(ctx context.Context, id functions.TaskID) (functions.Task, error)
	WaitApplied(ctx context.Context, seq uint64) error
}

// Outbox keeps deliveries and the mark up to which all ends have one.
type Outbox interface {
	Searched(ctx context.Context) (uint64, bool, error)
	SetSearched(ctx context.Context, seq uint64) error
	Add(ctx context.Context, d functions.Delivery) error
	Put(ctx context.Context, d functions.Delivery) error
	Pending(ctx context.Context) ([]functions.Delivery, error)
}

// Poster calls URLs.
type Poster interface {
	Post(ctx context.Context, url string, header http.Header, body []byte) (status int, pause time.Duration, err error)
}

// Config is what a Webhooks works with.
type Config struct {
	Log    Log
	Gap    error // what Log.Tail fails with when the log does not reach back that far
	Tasks  Tasks
	Outbox Outbox
	Poster Poster
	Secret Secret
	Render func(ctx context.Context, t *functions.Task) (json.RawMessage, error) // the task as the API shows it
	Now    func() time.Time                                                      // nil means time.Now
	Logger *slog.Logger
}

// Webhooks is safe for use by many goroutines; Run runs in one at a time.
type Webhooks struct {
	cfg     Config
	figures figures

	mu    sync.Mutex // guards the fields below
	leads bool       // ends are wanted
	ends  []end
	seen  uint64        // sequence of the newest change that was seen while leading
	lost  bool          // more ends came than are kept here: the log has them
	wake  chan struct{} // holds one
}

// end is a delivery to be kept, with the change's place in the log.
type end struct {
	functions.Delivery
	seq uint64
}

// New returns a Webhooks that does nothing until Run.
func New(cfg Config) *Webhooks {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Webhooks{cfg: cfg, figures: newFigures(), wake: make(chan struct{}, 1)}
}

// Collectors are the package's metrics.
func (w *Webhooks) Collectors() []prometheus.Collector { return w.figures.all() }

// mostEnds is how many ends may wait to be kept.
const mostEnds = 10_000

// Changed hears what the log did to tasks, in its order. It does not wait.
func (w *Webhooks) Changed(changes []functions.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.leads {
		return
	}
	for i := range changes {
		c := &changes[i]
		w.seen = max(w.seen, c.Seq)
		if c.Before.Final() || !c.Task.State.Final() || c.Task.Webhook == "" {
			continue
		}
		if len(w.ends) == mostEnds {
			w.lost = true
			continue
		}
		w.ends = append(w.ends, end{w.deliveryOf(&c.Task), c.Seq})
	}
	if len(w.ends) > 0 {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *Webhooks) deliveryOf(t *functions.Task) functions.Delivery {
	now := w.cfg.Now().UTC()
	return functions.Delivery{ID: messageID(t), Task: t.ID, EndedAt: t.FinishedAt.UTC(), URL: t.Webhook, CreatedAt: now, Next: now}
}

// errLost makes a term search the log again.
var errLost = errors.New("more tasks ended than could be kept")

// longPause is the longest before a term that failed is followed by another.
const longPause = time.Minute

// Run finds ends and delivers them until ctx ends. It is for the leader alone.
func (w *Webhooks) Run(ctx context.Context) error {
	for pause := time.Second; ; pause = min(2*pause, longPause) {
		began := w.cfg.Now()
		err := w.term(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if w.cfg.Now().Sub(began) > longPause { // it worked
			pause = time.Second
		}
		w.cfg.Logger.Warn("webhooks begin again from the log", "err", err)
		if !functions.Sleep(ctx, pause) {
			return nil
		}
	}
}

func (w *Webhooks) term(ctx context.Context) error {
	w.lead(true)
	defer w.lead(false)
	last, err := w.search(ctx)
	if err != nil {
		return err
	}
	pending, err := w.cfg.Outbox.Pending(ctx)
	if err != nil {
		return err
	}
	found := make(map[string]bool, len(pending))
	for _, d := range pending {
		found[d.ID] = true
	}
	q := newQueue(pending)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return w.keep(ctx, q, last, found) })
	work.Go(func() error { return w.deliver(ctx, q) })
	return work.Wait()
}

func (w *Webhooks) lead(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leads, w.ends, w.seen, w.lost = yes, nil, 0, false
}

// markEvery is how often the mark is moved. What follows it is read again by the
// next leader.
const markEvery = 10 * time.Second

// markAnyway is how often it is written although nothing has moved it: what is not
// touched for two weeks is forgotten.
const markAnyway = 24 * time.Hour

// keep makes the deliveries of the ends that Changed has heard of durable. Those up
// to last have been found in the log already, and so have those in found, which the
// search met beyond it.
func (w *Webhooks) keep(ctx context.Context, q *queue, last uint64, found map[string]bool) error {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	marked, at := last, w.cfg.Now()
	for {
		mark := false
		select {
		case <-w.wake:
		case <-tick.C:
			mark = true
		case <-ctx.Done():
			return nil
		}
		w.mu.Lock()
		ends, seen, lost := w.ends, w.seen, w.lost
		w.ends = nil
		w.mu.Unlock()
		if lost {
			return errLost
		}
		for _, e := range ends {
			if e.seq <= last || found[e.ID] {
				continue
			}
			if err := w.cfg.Outbox.Add(ctx, e.Delivery); err != nil {
				return err
			}
			q.add(e.Delivery)
		}
		if mark && (seen > marked || w.cfg.Now().Sub(at) > markAnyway) {
			marked, at = max(seen, marked), w.cfg.Now()
			if err := w.cfg.Outbox.SetSearched(ctx, marked); err != nil {
				return err
			}
		}
	}
}

// deliver makes the calls that are due, a few at a time.
func (w *Webhooks) deliver(ctx context.Context, q *queue) error {
	var calls errgroup.Group
	calls.SetLimit(mostCalls)
	defer calls.Wait()
	for {
		d, ok := q.next(ctx, w.cfg.Now)
		if !ok {
			return nil
		}
		calls.Go(func() error {
			after := w.try(ctx, d)
			if ctx.Err() != nil { // cut off: it says nothing of the server
				return nil
			}
			if err := w.record(ctx, after); err == nil && !after.Next.IsZero() {
				q.add(after)
			}
			return nil
		})
	}
}

// record writes down what came of a try, however long that takes: without it the
// same call would be made again by the next leader.
func (w *Webhooks) record(ctx context.Context, d functions.Delivery) error {
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		err := w.cfg.Outbox.Put(ctx, d)
		if err == nil {
			return nil
		}
		w.cfg.Logger.Warn("webhook delivery not recorded yet", "task", d.Task, "err", err)
		if !functions.Sleep(ctx, pause) {
			return cmp.Or(ctx.Err(), err)
		}
	}
}
