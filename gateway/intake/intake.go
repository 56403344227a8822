// Package intake is the one door through which every task comes in: the native
// API, uploads, the older API and events of the object store all call Accept.
//
// A call becomes a task in this order: its function is looked up, its content
// decides the route under the policy in force, its key finds an earlier task of
// the same key, the queue limit is asked, files that it refers to are looked at,
// inputs that other tasks left must still be kept, a large event becomes an
// object, and the log takes the submit event. Only after that does Accept return.
//
// A task whose file comes later is accepted as awaiting it. Whoever learns that
// the file is in the store calls Arrived, which starts the task once.
package intake

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
)

// Log takes events and returns their sequence once they are durable. Two appends
// with one msgID are one message.
type Log interface {
	Submit(ctx context.Context, e functions.Event) (seq uint64, err error)
	Append(ctx context.Context, msgID string, events ...functions.Event) (seq uint64, err error)
}

// Functions knows the deployed functions.
type Functions interface {
	Latest(name functions.Name) (functions.Function, error)
	Version(name functions.Name, version int) (functions.Function, error)
}

// Tasks reads the projection of the log.
type Tasks interface {
	Task(ctx context.Context, id functions.TaskID) (functions.Task, error)
	ByKey(ctx context.Context, fn functions.Name, key string) (functions.TaskID, bool, error)
	WaitApplied(ctx context.Context, seq uint64) error
}

// Queue says how many tasks of a function wait.
type Queue interface {
	QueueLength(fn functions.Name) int
}

// Objects stores what is too large for the log, and looks at what calls refer to.
// A size of -1 means unknown. Head also reads an object's first bytes, at most so
// many, and is quicker about one that is rightly expected to be small.
type Objects interface {
	Put(ctx context.Context, bucket, key string, r io.Reader, size int64, contentType string) (functions.ObjectRef, error)
	Head(ctx context.Context, bucket, key, version string, expect, most int64) (ref functions.ObjectRef, head []byte, err error)
	Delete(ctx context.Context, ref functions.ObjectRef) error
}

// Config is what a Door needs. Every field is required but those that say what
// nil means.
type Config struct {
	Log       Log
	Functions Functions
	Tasks     Tasks
	Queue     Queue
	Objects   Objects
	Shares    Shares           // nil means that no shared folder is mounted here
	Web       Web              // nil means that no URL is taken
	Now       func() time.Time // nil means time.Now
}

// Door accepts tasks. It may be used from many goroutines.
type Door struct {
	cfg Config
}

// New returns a Door.
func New(cfg Config) *Door {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Door{cfg: cfg}
}

// Call is a wish to run a function.
type Call struct {
	ID       functions.TaskID // made before, by NewID, when inputs were stored under it; empty = a new one
	Function functions.Name
	Version  int // 0 = the newest

	Policy  functions.Policy // empty = as the function says
	Content content.Type     // of what it works on; decides the device under Auto

	Event       json.RawMessage // valid JSON; empty = none
	Inputs      []functions.Input
	Refs        []Ref // further inputs; Accept looks at them, and the first decides Content when Inputs is empty
	Params      json.RawMessage
	AwaitUpload bool                 // the inputs are announced but not stored yet
	Upload      *functions.Multipart // how the first comes in parts, when it does
	Form        bool                 // an HTML form sends it

	Parent functions.TaskID // whose output or end it works on; empty = none
	Depth  int              // tasks in line before it

	Source   string // http, upload, seed, s3, lambda, cli, chain, schedule
	Key      string // idempotency key; empty = none
	BodyHash string // of the request that brought Key
	CallID   string
	Metadata json.RawMessage
	Webhook  string // URL that is told of the end; empty = none
	Priority int    // 0 = as the function says

	Retries   *functions.Retries      // nil = the function's
	MaxAge    time.Duration           // since acceptance, whole seconds; 0 = the function's queue_timeout
	OnSuccess []functions.Destination // nil = the function's; empty = none
	OnFailure []functions.Destination // the same
}

// Ticket is an accepted task. Replayed means that an earlier call with the same
// key made it, and that this call changed nothing.
type Ticket struct {
	Task     functions.Task
	Replayed bool
}

// NewID returns a fresh task id. Ids sort by the time they were made.
func (d *Door) NewID() functions.TaskID {
	return functions.TaskID(uuid.Must(uuid.NewV7()).String())
}

// Accept makes a task of a call. When it returns without an error the task is
// durable. ErrNotFound function_not_found: no such function or version.
// ErrThrottled queue_full: max_queue tasks of it wait. ErrConflict
// idempotency_mismatch: the key was used with another body. ErrNotFound
// inputs_expired: an input is a file of another task that is not kept. ErrInvalid:
// the call itself is wrong. Of Refs: the errors of Look.
func (d *Door) Accept(ctx context.Context, c Call) (Ticket, error) {
	fn, err := d.function(c)
	if err != nil {
		return Ticket{}, err
	}
	if err := check(c); err != nil {
		return Ticket{}, err
	}
	if err := d.checkWebhook(c.Webhook); err != nil {
		return Ticket{}, err
	}
	if c.Key != "" {
		if t, found, err := d.replay(ctx, c); err != nil || found {
			return t, err
		}
	}
	if err := d.room(fn); err != nil {
		return Ticket{}, err
	}
	if c, err = d.lookAll(ctx, c); err != nil {
		return Ticket{}, err
	}
	t := d.task(c, fn)
	if err := Kept(ctx, d.cfg.Tasks, t.ID, t.Inputs, d.cfg.Now()); err != nil {
		return Ticket{}, err
	}
	if len(c.Event) > int(functions.InlineLimit) {
		ref, err := d.storeEvent(ctx, t.ID, c.Event)
		if err != nil {
			return Ticket{}, err
		}
		t.Event, t.EventRef = nil, &ref
	}
	e := functions.Event{Kind: functions.Submit, Task: t.ID, At: t.CreatedAt, Sub: &t}
	// When Submit fails the event object stays: the log may hold the task all the same.
	seq, err := d.cfg.Log.Submit(ctx, e)
	if err != nil {
		return Ticket{}, fmt.Errorf("submit task: %w", err)
	}
	if t, err = functions.Accept(e, seq); err != nil {
		return Ticket{}, fmt.Errorf("accept own submit event: %w", err)
	}
	if c.Key != "" {
		return d.winner(ctx, c, t, seq)
	}
	return Ticket{Task: t}, nil
}

func (d *Door) function(c Call) (functions.Function, error) {
	if err := c.Function.Validate(); err != nil {
		return functions.Function{}, err
	}
	if c.Version == 0 {
		return d.cfg.Functions.Latest(c.Function)
	}
	return d.cfg.Functions.Version(c.Function, c.Version)
}

// room refuses a call when as many tasks wait as the function allows.
func (d *Door) room(fn functions.Function) error {
	if fn.MaxQueue == 0 {
		return nil
	}
	if n := d.cfg.Queue.QueueLength(fn.Name); n >= fn.MaxQueue {
		return functions.NewError(functions.ErrThrottled, "queue_full", "%d tasks of %s wait, which is its limit", n, fn.Name).
			WithHint("try again later, or raise max_queue in the function's spec")
	}
	return nil
}

func (d *Door) task(c Call, fn functions.Function) functions.Task {
	t := functions.Task{
		ID: c.ID, Function: fn.Name, Version: fn.Version, State: functions.Queued,
		Event: c.Event, Inputs: c.Inputs, Params: c.Params, Parent: c.Parent, Depth: c.Depth,
		Source: c.Source, Key: c.Key, BodyHash: c.BodyHash, CallID: c.CallID, Metadata: c.Metadata, Webhook: c.Webhook,
		Priority: c.Priority, CreatedAt: d.cfg.Now().UTC().Truncate(time.Millisecond),
		Retries: c.Retries, MaxAge: functions.Duration(c.MaxAge), OnSuccess: c.OnSuccess, OnFailure: c.OnFailure,
	}
	if c.OnSuccess == nil {
		t.OnSuccess = fn.OnSuccess
	}
	if c.OnFailure == nil {
		t.OnFailure = fn.OnFailure
	}
	if t.ID == "" {
		t.ID = d.NewID()
	}
	if c.AwaitUpload {
		t.State, t.Upload, t.Form = functions.AwaitingUpload, c.Upload, c.Form
	}
	if t.Priority == 0 {
		t.Priority = fn.Priority
	}
	t.Route = c.Content.Route(policy(c.Policy, fn))
	return t
}

// Explain returns the route that a call would get, and takes nothing.
func (d *Door) Explain(c Call) (functions.Route, error) {
	fn := functions.Function{Spec: functions.Spec{Device: functions.Auto}}
	if c.Function != "" {
		var err error
		if fn, err = d.function(c); err != nil {
			return functions.Route{}, err
		}
	}
	if c.Policy != "" {
		if err := c.Policy.Validate(); err != nil {
			return functions.Route{}, err
		}
	}
	return c.Content.Route(policy(c.Policy, fn)), nil
}

// policy is the one in force: the call's before the function's.
func policy(call functions.Policy, fn functions.Function) functions.Policy {
	if call != "" {
		return call
	}
	if fn.Device != "" {
		return fn.Device
	}
	return functions.Auto
}
