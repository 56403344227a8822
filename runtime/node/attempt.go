package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

type key struct {
	task    functions.TaskID
	attempt int
}

// record is what the node has promised to run.
type record struct {
	Assignment functions.Assignment `json:"assignment"`
	Leased     []string             `json:"leased,omitempty"` // UUIDs of its GPUs; written with the attempt's mutex held once it runs
}

// state is how far an attempt has come.
type state struct {
	Phases    []functions.Span `json:"phases,omitempty"`
	StartedAt time.Time        `json:"started_at,omitzero"` // of the container; its deadline counts from here
	// Container is set when it was started before the attempt: its labels do not
	// name the attempt. Warm: it waited before the attempt came.
	Container runtime.ID `json:"container,omitempty"`
	Warm      bool       `json:"warm,omitempty"`
}

// attempt is one attempt that the node holds.
type attempt struct {
	record
	key     key
	spec    functions.Spec // as the attempt's device runs it
	folder  folder
	adopted bool               // taken over from an earlier agent
	outcome *functions.Outcome // what an earlier agent wrote down; nil = none
	devices []functions.GPUInfo
	release func() // gives the GPUs back
	orders  orders

	state state           // used only by the attempt's own goroutine
	binds []runtime.Mount // inputs that are not files of in/; used only by the attempt's own goroutine
	// instance is the warm container that the attempt has got, or nil; used only by
	// the attempt's own goroutine.
	instance *instance
	laidOut  bool // the folder is as a container may see it; used only before and by the attempt's own goroutine
	output   *capture
	news     reporter
	fenced   atomic.Bool // ordered to stop for want of a lease

	// gone is closed when the container is gone whose end nobody knows; nil = there
	// is no such container. Used only by the attempt's own goroutine.
	gone chan struct{}

	mu    sync.Mutex // guards the fields below
	phase functions.Phase
	place placement
}

func newAttempt(dataDir string, r record) *attempt {
	as := r.Assignment
	k := key{as.Task.ID, as.Attempt}
	a := &attempt{
		record: r, key: k, spec: as.Function.Spec.WithDefaults().On(as.Device), folder: newFolder(dataDir, k),
		release: func() {}, orders: newOrders(), phase: functions.PhaseStage,
	}
	a.output = newCapture(k, a.folder.log(), a.spec)
	return a
}

// persist writes down the promise. It need not outlive a crash of the machine: no
// container does, and the next agent's new boot tells the leader so.
func (a *attempt) persist(b *blanks) error {
	a.laidOut = b.take(a.Assignment.Function.Name, a.folder)
	if !a.laidOut {
		if err := a.folder.make(); err != nil {
			return err
		}
	}
	return a.folder.note(entry{Held: &a.record})
}

func (a *attempt) onGPU() bool { return a.Assignment.Device == functions.GPU }

func (a *attempt) enter(p functions.Phase) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phase = p
}

func (a *attempt) running() functions.Running {
	a.mu.Lock()
	defer a.mu.Unlock()
	return functions.Running{Task: a.key.task, Attempt: a.key.attempt, Epoch: a.Assignment.Epoch, Phase: a.phase}
}

// stopOrder ends an attempt from outside. It travels as the cause of a context.
type stopOrder struct {
	class   functions.Class
	message string
	hint    string // empty = what the class says
	grace   bool   // SIGTERM first
}

func (o stopOrder) Error() string { return o.message }

// orders is how those outside reach an attempt.
type orders struct {
	first chan stopOrder // holds one
	kill  chan struct{}  // closed by the first order without grace, whatever came before it
	hurry func()         // closes kill
}

func newOrders() orders {
	kill := make(chan struct{})
	return orders{first: make(chan stopOrder, 1), kill: kill, hurry: sync.OnceFunc(func() { close(kill) })}
}

// stop orders the attempt to end. The first order is the reason for its end; a
// later one without grace takes what is left of the first one's.
func (a *attempt) stop(o stopOrder) {
	if !o.grace {
		a.orders.hurry()
	}
	select {
	case a.orders.first <- o:
	default:
	}
}

// obey returns a context that ends when the attempt is ordered to stop, with the
// order as its cause, and the function that ends the listening.
func (a *attempt) obey(work context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(work)
	var listener sync.WaitGroup
	listener.Go(func() {
		select {
		case o := <-a.orders.first:
			cancel(o)
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(nil); listener.Wait() }
}

// ordered returns the order that has ended ctx, if one has.
func ordered(ctx context.Context) (stopOrder, bool) {
	var o stopOrder
	ok := errors.As(context.Cause(ctx), &o)
	return o, ok
}

func (o stopOrder) failure() *functions.Failure {
	return &functions.Failure{Class: o.class, Message: o.message, Hint: o.hint}
}
