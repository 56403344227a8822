// Package scheduler decides which waiting task runs next, where, and on which
// device, and what follows when an attempt fails.
//
// One scheduler leads at a time. Its term is one call of Lead: it reads every
// live task, then follows the log's changes, and one goroutine owns all it
// knows. The life of a task in it:
//
//	queue.go     waits in a lane: function, priority, what it asks for
//	decide.go    GPU or CPU, from live devices; pure
//	place.go     which node, which devices; pure
//	device.go    a GPU by its node's report and the leases since; pure
//	options.go   what a task asks of GPUs after what they did to it
//	round.go     a round gives every free place away, fairly, in one log message
//	apply.go     the message is read back: only then is the attempt dispatched
//	dispatch.go  the order to the node, and what its answer means
//	reconcile.go what nodes report against what the log says
//	respawn.go   what follows a failed attempt; pure
//	gpufault.go  the same after a GPU has failed it; pure
//	avoid.go     where it does not go again; pure
//	explain.go   why a task waits
//	estimate.go  how long attempts took; advice.go what follows for one that waits; pure
//	history.go   what a term learns of ended attempts, its own and earlier ones
//	outlook.go   when GPUs and rooms are free again
//	standing.go  who goes before whom; which tasks of a lane the CPU may have
//
// Nothing here is the truth: a new leader rebuilds it from the log. What an old
// leader still appends is void, because its epoch is.
package scheduler

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/functions"
)

// Appender writes to the task log. Append returns once the events are durable.
// A repeated msgID is not written again.
type Appender interface {
	Append(ctx context.Context, msgID string, events ...functions.Event) (uint64, error)
}

// Dispatcher speaks to nodes. Run returns nil when the node has admitted the
// attempt, ErrUnavailable or ErrTimeout when it did not answer, and any other
// class of error when it refused.
type Dispatcher interface {
	Run(ctx context.Context, node functions.NodeID, a functions.Assignment) error
	Kill(ctx context.Context, node functions.NodeID, k functions.Kill) error
}

// Tasks reads the projection of the log: every task that is not final, in
// queue order.
type Tasks interface {
	Live(ctx context.Context) iter.Seq2[functions.Task, error]
}

// Functions knows the deployed functions. It answers from memory.
type Functions interface {
	Version(name functions.Name, version int) (functions.Function, error)
}

// Config is what a scheduler works with. The zero value of a duration means its
// default.
type Config struct {
	Log       Appender
	Nodes     Dispatcher
	Tasks     Tasks
	Functions Functions
	History   History          // nil: what attempts take is learned anew in each term
	Logger    *slog.Logger     // nil: discard
	Now       func() time.Time // nil: time.Now

	HeartbeatPeriod time.Duration // of nodes; also how long a new leader waits for inventories; 1s
	HeartbeatFresh  time.Duration // a node unheard for longer gets no new task; 3s
	NodeDead        time.Duration // a node unheard for longer has lost its attempts; 25s, more than the 20s after which it fences itself
	DispatchTimeout time.Duration // for a node's answer to one order; 5s
	UploadTimeout   time.Duration // for an announced upload to arrive; 24h
	AppendRetry     time.Duration // first pause before a failed append is repeated; doubles to 1s; 50ms
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.HeartbeatPeriod, time.Second)
	def(&c.HeartbeatFresh, 3*time.Second)
	def(&c.NodeDead, 25*time.Second)
	def(&c.DispatchTimeout, 5*time.Second)
	def(&c.UploadTimeout, 24*time.Hour)
	def(&c.AppendRetry, 50*time.Millisecond)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Scheduler places tasks while it leads, and keeps a table of nodes always. Its
// methods may be called from many goroutines; Lead from one at a time.
type Scheduler struct {
	cfg   Config
	log   *slog.Logger
	table *table
	seen  *counter // waiting tasks by the changes seen since the start
	term  atomic.Pointer[term]
}

// New returns a scheduler that does not lead yet.
func New(cfg Config) (*Scheduler, error) {
	if cfg.Log == nil || cfg.Nodes == nil || cfg.Tasks == nil || cfg.Functions == nil {
		return nil, errors.New("scheduler needs a log, nodes, tasks and functions")
	}
	cfg = cfg.withDefaults()
	if cfg.NodeDead <= cfg.HeartbeatFresh || cfg.HeartbeatFresh <= cfg.HeartbeatPeriod {
		return nil, errors.New("scheduler needs HeartbeatPeriod < HeartbeatFresh < NodeDead")
	}
	return &Scheduler{
		cfg:   cfg,
		log:   cfg.Logger.With("component", "scheduler"),
		table: newTable(),
		seen:  newCounter(),
	}, nil
}

// Notify hands over what the log did, in the log's order. Every server calls it
// for every change; it only takes note.
func (s *Scheduler) Notify(changes []functions.Change) {
	if len(changes) == 0 {
		return
	}
	s.seen.changes(changes)
	if t := s.term.Load(); t != nil {
		t.inbox.putChanges(changes)
	}
}

// Heartbeat takes a node's report. It is granted only by the leader: a grant
// renews the node's lease on its containers.
func (s *Scheduler) Heartbeat(hb functions.Heartbeat) (granted bool) {
	s.table.put(hb, s.cfg.Now())
	t := s.term.Load()
	if t == nil {
		return false
	}
	t.inbox.putBeat(hb)
	return true
}

// Nodes lists every node heard from, by name. Free is exact on the leader;
// elsewhere it counts containers only.
func (s *Scheduler) Nodes() []functions.NodeStatus {
	all := s.table.list(s.cfg.Now(), s.cfg.HeartbeatFresh)
	s.ask(func(t *term) {
		for i := range all {
			if n := t.nodes[all[i].ID]; n != nil && n.heard {
				all[i].Free = n.free()
			}
		}
	})
	return all
}

// Explain says why a task is not running yet. It reports false when the task
// does not wait, or when this server does not lead.
func (s *Scheduler) Explain(id functions.TaskID) (w functions.Waiting, ok bool) {
	answered := s.ask(func(t *term) { w, ok = t.explain(id) })
	if !answered && s.term.Load() != nil {
		return functions.Waiting{Code: functions.WaitNoLeader, Reason: "a scheduler is taking over"}, true
	}
	return w, ok
}

// QueueLength is how many tasks of a function are queued. On a server that does
// not lead it counts the changes seen since the start, and may be too low.
func (s *Scheduler) QueueLength(fn functions.Name) int {
	if t := s.term.Load(); t != nil && t.ready() {
		return t.waiting.get(fn)
	}
	return s.seen.get(fn)
}

// askTimeout bounds how long a page waits for the leader's loop, which is away
// for milliseconds at most except while it reads its first snapshot.
const askTimeout = 250 * time.Millisecond

// ask runs f in the loop of the term, which owns everything f may read. It
// reports false when there is no term or it is too busy; f will not run then.
func (s *Scheduler) ask(f func(*term)) bool {
	t := s.term.Load()
	if t == nil || !t.ready() {
		return false
	}
	timeout := time.NewTimer(askTimeout)
	defer timeout.Stop()
	done := make(chan struct{})
	q := func() { f(t); close(done) }
	select {
	case t.asks <- q:
		<-done
		return true
	case <-t.ended:
	case <-timeout.C:
	}
	return false
}
