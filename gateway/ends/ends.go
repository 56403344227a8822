// Package ends acts once on each end of a task that somebody wants to hear of.
//
// The leader sees every end in the log, keeps a delivery for each that is wanted,
// and tries it until it is done or given up. An end is told at least once: a server
// that dies between a try and its record makes its successor try again, with the
// same delivery.
package ends

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

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

// Config is what a Teller works with.
type Config struct {
	What   string // is told, for the log's lines
	Log    Log
	Gap    error // what Log.Tail fails with when the log does not reach back that far
	Tasks  Tasks
	Outbox Outbox
	Wants  func(t *functions.Task) (d functions.Delivery, ok bool)            // of a task that has ended; of it, URL or Left are to be set
	Try    func(ctx context.Context, d functions.Delivery) functions.Delivery // d after a try: Next is zero when no other follows
	Now    func() time.Time
	Logger *slog.Logger
}

// Teller is safe for use by many goroutines; Run runs in one at a time.
type Teller struct {
	cfg Config

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

// New returns a Teller that does nothing until Run.
func New(cfg Config) *Teller {
	return &Teller{cfg: cfg, wake: make(chan struct{}, 1)}
}

// MostWaiting is how many ends may wait to be kept; more are found in the log.
const MostWaiting = 10_000

// Changed hears what the log did to tasks, in its order. It does not wait.
func (t *Teller) Changed(changes []functions.Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.leads {
		return
	}
	for i := range changes {
		c := &changes[i]
		t.seen = max(t.seen, c.Seq)
		if c.Before.Final() || !c.Task.State.Final() {
			continue
		}
		d, ok := t.deliveryOf(&c.Task)
		if !ok {
			continue
		}
		if len(t.ends) == MostWaiting {
			t.lost = true
			continue
		}
		t.ends = append(t.ends, end{d, c.Seq})
	}
	if len(t.ends) > 0 {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// deliveryOf is the delivery of a task's end, if it is wanted.
func (t *Teller) deliveryOf(task *functions.Task) (functions.Delivery, bool) {
	d, ok := t.cfg.Wants(task)
	if !ok {
		return d, false
	}
	now := t.cfg.Now().UTC()
	d.ID = fmt.Sprintf("end_%s_%d", task.ID, task.FinishedAt.UnixMilli())
	d.Task, d.EndedAt, d.CreatedAt, d.Next = task.ID, task.FinishedAt.UTC(), now, now
	return d, true
}

// errLost makes a term search the log again.
var errLost = errors.New("more tasks ended than could be kept")

// Run finds ends and delivers them until ctx ends. It is for the leader alone.
func (t *Teller) Run(ctx context.Context) error {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := t.term(ctx)
		if ctx.Err() != nil {
			return nil
		}
		t.cfg.Logger.Warn(t.cfg.What+": begin again from the log", "err", err)
		if !functions.Sleep(ctx, pause) {
			return nil
		}
	}
}

func (t *Teller) term(ctx context.Context) error {
	t.lead(true)
	defer t.lead(false)
	last, err := t.search(ctx)
	if err != nil {
		return err
	}
	pending, err := t.cfg.Outbox.Pending(ctx)
	if err != nil {
		return err
	}
	q := newQueue(pending)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return t.keep(ctx, q, last) })
	work.Go(func() error { return t.deliver(ctx, q) })
	return work.Wait()
}

func (t *Teller) lead(yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leads, t.ends, t.seen, t.lost = yes, nil, 0, false
}

// markEvery is how often the mark is moved. What follows it is read again by the
// next leader.
const markEvery = 10 * time.Second

// markAnyway is how often it is written although nothing has moved it: what is not
// touched for two weeks is forgotten.
const markAnyway = 24 * time.Hour

// keep makes the deliveries of the ends that Changed has heard of durable. Those up
// to last have been found in the log already.
func (t *Teller) keep(ctx context.Context, q *queue, last uint64) error {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	marked, at := last, t.cfg.Now()
	for {
		mark := false
		select {
		case <-t.wake:
		case <-tick.C:
			mark = true
		case <-ctx.Done():
			return nil
		}
		t.mu.Lock()
		ends, seen, lost := t.ends, t.seen, t.lost
		t.ends = nil
		t.mu.Unlock()
		if lost {
			return errLost
		}
		for _, e := range ends {
			if e.seq <= last {
				continue
			}
			if err := t.cfg.Outbox.Add(ctx, e.Delivery); err != nil {
				return err
			}
			q.add(e.Delivery)
		}
		if mark && (seen > marked || t.cfg.Now().Sub(at) > markAnyway) {
			marked, at = max(seen, marked), t.cfg.Now()
			if err := t.cfg.Outbox.SetSearched(ctx, marked); err != nil {
				return err
			}
		}
	}
}
