// Package endstest is a world for tests of what hears of ends: a log with its
// projection, an outbox, and servers that come and go.
package endstest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

// ErrGap is what Tail fails with when the log does not reach back.
var ErrGap = errors.New("gap")

// World is a log and its projection. Its fields may be set while no server runs.
type World struct {
	First uint64 // sequence of the oldest record that is left
	Asked func() // follows each question for the end of the log

	mu       sync.Mutex // guards the fields below
	records  []functions.Record
	tasks    map[functions.TaskID]functions.Task
	searched *uint64
	kept     map[string]functions.Delivery
	outage   bool // of the outbox
}

// New returns a world in which nothing has happened.
func New() *World {
	return &World{First: 1, Asked: func() {}, tasks: map[functions.TaskID]functions.Task{}, kept: map[string]functions.Delivery{}}
}

// Set writes a record that makes a task what it is now, and returns the change.
func (w *World) Set(t functions.Task) functions.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.tasks[t.ID]
	t.Seq = w.First + uint64(len(w.records))
	kind := functions.Assign
	if t.State.Final() {
		kind, t.FinishedAt = functions.Finish, time.Now()
	}
	w.tasks[t.ID] = t
	w.records = append(w.records, functions.Record{Seq: t.Seq, Event: functions.Event{Kind: kind, Task: t.ID}})
	return functions.Change{Seq: t.Seq, Kind: kind, Before: before.State, Task: t}
}

// LastSeq implements ends.Log.
func (w *World) LastSeq(context.Context) (uint64, error) {
	w.mu.Lock()
	last := w.First + uint64(len(w.records)) - 1
	w.mu.Unlock()
	w.Asked()
	return last, nil
}

// Tail implements ends.Log. It hands over three records at a time.
func (w *World) Tail(ctx context.Context, after uint64, handle func(context.Context, []functions.Record) error) error {
	w.mu.Lock()
	if after+1 < w.First {
		w.mu.Unlock()
		return ErrGap
	}
	records := slices.Clone(w.records[after+1-w.First:])
	w.mu.Unlock()
	for chunk := range slices.Chunk(records, 3) {
		if err := handle(ctx, chunk); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// Task implements ends.Tasks.
func (w *World) Task(_ context.Context, id functions.TaskID) (functions.Task, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.tasks[id]
	if !ok {
		return t, functions.NotFound("task_not_found", "no")
	}
	return t, nil
}

// WaitApplied implements ends.Tasks.
func (w *World) WaitApplied(context.Context, uint64) error { return nil }

// Deliveries are all that were ever kept.
func (w *World) Deliveries() []functions.Delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.kept))
}

// Fail makes the outbox fail, or work again.
func (w *World) Fail(outage bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outage = outage
}
