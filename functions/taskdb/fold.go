package taskdb

import "github.com/spillway/spillway/functions"

// entry is one task during a batch.
type entry struct {
	task   functions.Task
	n      int64    // its row
	stored *columns // as they stand in the table; nil when the batch accepted it
	dirty  bool
}

// ledgerKey is an idempotency key: unique per function, for ever.
type ledgerKey struct {
	function functions.Name
	key      string
}

// batch is the memory in which events are folded. It does no I/O: every task
// and key that its records name has been put in before, if it exists.
type batch struct {
	seq   uint64 // of the newest folded event
	index int
	epoch uint64

	tasks map[functions.TaskID]*entry
	keys  map[ledgerKey]functions.TaskID

	dirty   []*entry // in the order of the first touch
	newKeys []ledgerKey
	changes []functions.Change
	groups  groups  // differences
	waiting waiting // differences
	void    uint64
}

// fold applies one event, in log order. One that fails its guard is counted and
// changes nothing else.
func (b *batch) fold(r functions.Record) {
	b.seq, b.index = r.Seq, r.Index
	switch e := r.Event; e.Kind {
	case functions.Lead:
		if e.Ldr == nil {
			b.void++
			return
		}
		b.epoch = r.Seq
	case functions.Submit:
		b.accept(r)
	default:
		known := b.tasks[e.Task]
		if known == nil {
			b.void++
			return
		}
		after, err := known.task.Apply(e, b.epoch, r.Seq)
		if err != nil {
			b.void++
			return
		}
		before := known.task
		known.task = after
		b.changed(r, known, &before)
	}
}

// accept takes a new task in, unless its id or its idempotency key is known:
// the first to come wins, on every server the same one.
func (b *batch) accept(r functions.Record) {
	t, err := functions.Accept(r.Event, r.Seq)
	if err != nil || t.ID.Validate() != nil || b.tasks[t.ID] != nil || r.Index >= maxEvents {
		b.void++
		return
	}
	if t.Key != "" {
		k := ledgerKey{t.Function, t.Key}
		if _, used := b.keys[k]; used {
			b.void++
			return
		}
		b.keys[k] = t.ID
		b.newKeys = append(b.newKeys, k)
	}
	e := &entry{task: t, n: place(r)}
	b.tasks[t.ID] = e
	b.changed(r, e, &functions.Task{})
}

func (b *batch) changed(r functions.Record, e *entry, before *functions.Task) {
	if !e.dirty {
		e.dirty = true
		b.dirty = append(b.dirty, e)
	}
	g := group{e.task.Function, e.task.Source, e.task.State}
	b.groups.add(g, 1)
	if g.state = before.State; g.state != "" {
		b.groups.add(g, -1)
	}
	b.waiting.add(before, -1)
	b.waiting.add(&e.task, 1)
	b.changes = append(b.changes, functions.Change{Seq: r.Seq, Kind: r.Event.Kind, Before: before.State, Task: e.task})
}
