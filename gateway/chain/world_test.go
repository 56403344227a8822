package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

var errGap = errors.New("gap")

// world is a log with its projection, an outbox, an object store, a door, and every
// server in the world.
type world struct {
	mu       sync.Mutex
	records  []functions.Record
	tasks    map[functions.TaskID]functions.Task
	searched *uint64
	kept     map[string]functions.Delivery
	outage   bool                     // of the outbox
	fail     func() error             // of the door and of the store; nil means that they work
	late     bool                     // the door and the store fail after they have done it
	accepted map[string][]intake.Call // by function and key
	objects  map[string][]string      // every content that was written
	large    map[string]string        // what events and results refer to
	chain    *Chain
}

func newWorld() *world {
	w := &world{
		tasks: map[functions.TaskID]functions.Task{}, kept: map[string]functions.Delivery{},
		accepted: map[string][]intake.Call{}, objects: map[string][]string{}, large: map[string]string{},
	}
	w.restart()
	return w
}

// restart is another server's turn: it knows nothing.
func (w *world) restart() {
	w.chain = New(Config{
		Log: w, Gap: errGap, Tasks: w, Outbox: outbox{w}, Door: w, Objects: w, MaxDepth: 3, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

// set writes a record that makes a task what it is now, and tells the server of it.
func (w *world) set(t functions.Task) {
	w.mu.Lock()
	before := w.tasks[t.ID]
	t.Seq = uint64(len(w.records)) + 1
	if t.State.Final() {
		t.FinishedAt = time.Now()
	}
	w.tasks[t.ID] = t
	kind := functions.Assign
	if t.State.Final() {
		kind = functions.Finish
	}
	w.records = append(w.records, functions.Record{Seq: t.Seq, Event: functions.Event{Kind: kind, Task: t.ID}})
	w.mu.Unlock()
	w.chain.Changed([]functions.Change{{Seq: t.Seq, Kind: kind, Before: before.State, Task: t}})
}

func (w *world) LastSeq(context.Context) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return uint64(len(w.records)), nil
}

func (w *world) Tail(ctx context.Context, after uint64, handle func(context.Context, []functions.Record) error) error {
	w.mu.Lock()
	records := slices.Clone(w.records[after:])
	w.mu.Unlock()
	for chunk := range slices.Chunk(records, 3) {
		if err := handle(ctx, chunk); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (w *world) Task(_ context.Context, id functions.TaskID) (functions.Task, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.tasks[id]
	if !ok {
		return t, functions.NotFound("task_not_found", "no")
	}
	return t, nil
}

func (w *world) WaitApplied(context.Context, uint64) error { return nil }

// outcome is of a request to the door or the store, which did is: whether it is
// done, and what the caller hears.
func (w *world) outcome(did func()) error {
	var err error
	if w.fail != nil {
		err = w.fail()
	}
	if err == nil || w.late {
		did()
	}
	return err
}

// Accept has the door's rule: a key makes one task.
func (w *world) Accept(_ context.Context, c intake.Call) (intake.Ticket, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := fmt.Sprintf("%s %s", c.Function, c.Key)
	err := w.outcome(func() {
		if len(w.accepted[id]) == 0 {
			w.accepted[id] = append(w.accepted[id], c)
		}
	})
	return intake.Ticket{}, err
}

func (w *world) Get(_ context.Context, ref functions.ObjectRef) (io.ReadCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text, ok := w.large[ref.Key]
	if !ok {
		return nil, functions.NotFound("no_object", "no")
	}
	return io.NopCloser(bytes.NewReader([]byte(text))), nil
}

func (w *world) Head(_ context.Context, bucket, key, _ string, _, most int64) (functions.ObjectRef, []byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	versions := w.objects[bucket+"/"+key]
	if len(versions) == 0 {
		return functions.ObjectRef{}, nil, functions.NotFound("no_object", "no")
	}
	newest := versions[len(versions)-1]
	return functions.ObjectRef{Size: int64(len(newest))}, []byte(newest[:min(len(newest), int(most))]), nil
}

func (w *world) Put(_ context.Context, bucket, key string, r io.Reader, _ int64, _ string) (functions.ObjectRef, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return functions.ObjectRef{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return functions.ObjectRef{}, w.outcome(func() { w.objects[bucket+"/"+key] = append(w.objects[bucket+"/"+key], string(b)) })
}

// outbox is the world's, whose Put is not the store's.
type outbox struct{ w *world }

func (o outbox) down() error {
	if o.w.outage {
		return functions.Unavailable("log_unavailable", "down")
	}
	return nil
}

func (o outbox) Searched(context.Context) (uint64, bool, error) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if o.w.searched == nil {
		return 0, false, o.down()
	}
	return *o.w.searched, true, o.down()
}

func (o outbox) SetSearched(_ context.Context, seq uint64) error {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if err := o.down(); err != nil {
		return err
	}
	o.w.searched = &seq
	return nil
}

func (o outbox) Add(_ context.Context, d functions.Delivery) error {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if err := o.down(); err != nil {
		return err
	}
	if _, there := o.w.kept[d.ID]; !there {
		o.w.kept[d.ID] = d
	}
	return nil
}

func (o outbox) Put(_ context.Context, d functions.Delivery) error {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if err := o.down(); err != nil {
		return err
	}
	o.w.kept[d.ID] = d
	return nil
}

func (o outbox) Pending(context.Context) (pending []functions.Delivery, err error) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	for _, d := range o.w.kept {
		if !d.Next.IsZero() {
			pending = append(pending, d)
		}
	}
	return pending, o.down()
}
