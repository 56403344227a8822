package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/functions"
	"golang.org/x/sync/errgroup"
)

// term is one leadership. Everything but the doors is used by the loop's
// goroutine only.
type term struct {
	doors
	cfg   Config
	log   *slog.Logger
	epoch uint64
	now   time.Time // of this turn of the loop

	pool      *pool
	queue     *queue
	alarms    *alarms
	attempts  map[slot]*attempt
	undecided map[slot]*functions.Task // failed, and their function is not known

	catalog
	fleet
	outbox
	agenda
}

// doors is how other goroutines reach the term.
type doors struct {
	inbox   *inbox
	asks    chan func()
	ended   chan struct{}
	waiting *counter
	loaded  atomic.Bool // the snapshot is read: questions can be answered
}

// agenda is what is due when, and what one round needs while it is planned.
type agenda struct {
	awaited   map[functions.NodeID]bool // nodes whose inventory is waited for
	expecting bool                      // some node was awaited
	openAt    time.Time                 // placing begins then at the latest
	tickAt    time.Time
	spill     time.Time // when a task that waits for a GPU may go to the CPU; zero = none
	expiry    time.Time // when the first queued task expires; zero = none
	round     uint64
	turns     turns
	estimates estimates // of how long attempts take
	forecast  forecast  // made of them
}

func (t *term) ready() bool { return t.loaded.Load() }

// Lead serves one term and blocks until ctx ends, which is no error. epoch is
// the log sequence of this leader's own record.
func (s *Scheduler) Lead(ctx context.Context, epoch uint64) error {
	t := newTerm(s.cfg, s.log.With("epoch", epoch), epoch)
	if !s.term.CompareAndSwap(nil, t) {
		return functions.Conflict("already_leading", "this scheduler serves a term already")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		s.term.Store(nil)
		close(t.ended)
		cancel()
		_ = t.orders.Wait() // orders report to the inbox and return no error
	}()
	t.log.Info("term begins")
	if err := t.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("read live tasks: %w", err)
	}
	for _, id := range s.table.fresh(t.now, t.cfg.HeartbeatFresh) {
		t.awaited[id] = true
	}
	t.expecting = len(t.awaited) > 0 // else nodes that nobody knows may be about to report
	t.openAt = t.now.Add(t.cfg.HeartbeatPeriod)
	t.loaded.Store(true)
	t.orders.Go(func() error { t.recall(ctx); return nil })
	err := t.loop(ctx)
	t.log.Info("term ends", "err", err)
	return err
}

func newTerm(cfg Config, log *slog.Logger, epoch uint64) *term {
	p := newPool()
	return &term{
		doors: doors{inbox: newInbox(), asks: make(chan func()), ended: make(chan struct{}), waiting: newCounter()},
		cfg:   cfg, log: log, epoch: epoch, now: cfg.Now(),
		pool: p, queue: newQueue(p), alarms: &alarms{pool: p},
		attempts: map[slot]*attempt{}, undecided: map[slot]*functions.Task{},
		catalog: catalog{byVersion: map[versionKey]*version{}, usages: map[functions.Name]*usage{}},
		fleet:   fleet{nodes: map[functions.NodeID]*node{}},
		outbox:  outbox{done: make(chan error, 1), orders: &errgroup.Group{}},
		agenda:  agenda{awaited: map[functions.NodeID]bool{}},
	}
}

// load reads the snapshot. Changes that come meanwhile wait in the inbox, and
// those that the snapshot holds already are told by their sequence.
func (t *term) load(ctx context.Context) error {
	for task, err := range t.cfg.Tasks.Live(ctx) {
		if err != nil {
			return err
		}
		if err := t.apply(&task, fromSnapshot); err != nil {
			return err
		}
	}
	t.now = t.cfg.Now()
	for id, n := range t.nodes { // nodes with attempts: their inventories decide what becomes of them
		n.seen = t.now
		t.awaited[id] = true
	}
	t.log.Info("live tasks read", "queued", t.queue.n, "attempts", len(t.attempts))
	return nil
}

// loop is the only goroutine that decides. It wakes for news, for questions,
// when an append is durable, and when something is due.
func (t *term) loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case q := <-t.asks:
			t.now = t.cfg.Now()
			q()
			continue
		case err := <-t.outbox.done:
			if err != nil {
				return fmt.Errorf("append decisions: %w", err)
			}
			t.appending = false
		case <-t.inbox.wake:
		case <-timer.C:
		}
		t.wakeUp(t.cfg.Now())
		if err := t.read(t.inbox.take()); err != nil {
			return err
		}
		t.ring()
		if !t.now.Before(t.tickAt) {
			t.tick()
		}
		if !t.expiry.IsZero() && !t.now.Before(t.expiry) {
			t.expireQueued()
		}
		t.send(ctx)
		t.post(ctx)
		timer.Reset(t.sleep())
	}
}

// wakeUp sets the clock. A loop that slept through whole heartbeats, because
// the machine did, must not take its own absence for the silence of nodes.
func (t *term) wakeUp(now time.Time) {
	if gap := now.Sub(t.now); gap > t.cfg.HeartbeatFresh {
		t.log.Warn("scheduler was away", "for", gap)
		for _, n := range t.nodes {
			n.seen = n.seen.Add(gap)
		}
	}
	t.now = now
}

// read takes in what has come.
func (t *term) read(p parcel) error {
	for i := range p.changes {
		if err := t.apply(&p.changes[i].Task, p.changes[i].Kind); err != nil {
			return err
		}
	}
	for _, a := range p.answers {
		t.answered(a)
	}
	for i := range p.beats {
		t.reconcile(&p.beats[i])
	}
	return nil
}

// ring handles the alarms that are due.
func (t *term) ring() {
	for {
		s, ok := t.alarms.due(t.now)
		if !ok {
			return
		}
		switch e := t.pool.at(s); e.where {
		case delayed:
			t.enter(s)
		case uploading:
			t.expire(s, functions.UploadExpired, "the upload did not come in "+t.cfg.UploadTimeout.String())
		}
	}
}

// tick does what needs no exact time: once per heartbeat period.
func (t *term) tick() {
	t.tickAt = t.now.Add(t.cfg.HeartbeatPeriod)
	for id, n := range t.nodes {
		silent := t.now.Sub(n.seen)
		if silent > t.cfg.NodeDead {
			t.bury(n, silent)
		}
		if len(n.attempts) == 0 && silent > forgetAfter {
			t.forget(id)
		}
	}
	for s, task := range t.undecided {
		t.judge(s, task)
	}
	t.endOverdue()
}

// sleep is how long nothing is due.
func (t *term) sleep() time.Duration {
	next := t.tickAt
	next = earlier(next, t.alarms.next())
	if !t.appending { // no round is planned meanwhile
		next = earlier(next, t.spill)
	}
	next = earlier(next, t.expiry)
	if !t.isOpen() {
		next = earlier(next, t.openAt)
	}
	return max(next.Sub(t.now), 0)
}

// isOpen reports whether inventories are in, or were waited for long enough.
func (t *term) isOpen() bool {
	return (t.expecting && len(t.awaited) == 0) || !t.now.Before(t.openAt)
}
