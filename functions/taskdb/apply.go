package taskdb

import (
	"context"
	"fmt"

	"github.com/spillway/spillway/functions"
)

// Apply folds records in log order, in one transaction, and returns what they
// changed. The events of one log message must come in one call. Records that
// were applied before are skipped; a hole is an ErrGap error. On any error
// nothing has been applied. A transaction that has begun is not broken off when
// ctx ends.
func (db *DB) Apply(ctx context.Context, records []functions.Record) ([]functions.Change, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	db.applying.Lock()
	defer db.applying.Unlock()

	fresh, err := db.fresh(records)
	if err != nil || len(fresh) == 0 {
		return nil, err
	}
	work := context.WithoutCancel(ctx)
	b, sizes, err := db.write(work, fresh, trusting)
	if duplicate(err) { // some id had been accepted before: now with a look at every one
		b, sizes, err = db.write(work, fresh, checking)
	}
	if err != nil {
		return nil, err
	}
	db.publish(b, sizes)
	return b.changes, nil
}

// trust says whether the id of a submitted task is taken for new. It nearly
// always is, and looking it up is a tenth of the work of accepting a task; when
// it is not, the index of ids refuses the whole batch.
type trust bool

const (
	trusting trust = true
	checking trust = false
)

// write folds records and commits what they did; nothing of it is visible yet.
func (db *DB) write(ctx context.Context, records []functions.Record, ids trust) (*batch, []int, error) {
	b := &batch{
		epoch: db.Epoch(), groups: groups{}, waiting: waiting{},
		tasks: make(map[functions.TaskID]*entry, len(records)), keys: map[ledgerKey]functions.TaskID{},
	}
	if err := db.fetch(ctx, b, records, ids); err != nil {
		return nil, nil, fmt.Errorf("load tasks of a batch: %w", translate(err, db.path))
	}
	for _, r := range records {
		b.fold(r)
	}
	sizes, err := db.w.commit(ctx, b)
	if err != nil {
		return nil, nil, fmt.Errorf("write a batch: %w", translate(err, db.path))
	}
	return b, sizes, nil
}

// fresh returns the records that have not been applied, having checked that
// they follow the applied ones without a hole.
func (db *DB) fresh(records []functions.Record) ([]functions.Record, error) {
	seq, index := db.Applied(), db.index
	out := make([]functions.Record, 0, len(records))
	for _, r := range records {
		switch {
		case r.Seq < seq, r.Seq == seq && r.Index <= index:
			continue
		case r.Seq == seq && r.Index == index+1, r.Seq == seq+1 && r.Index == 0:
			seq, index = r.Seq, r.Index
			out = append(out, r)
		default:
			return nil, gap(seq, index, r)
		}
	}
	return out, nil
}

// fetch puts the tasks and keys that the records name into the batch.
func (db *DB) fetch(ctx context.Context, b *batch, records []functions.Record, submitted trust) error {
	var ids [][]byte
	var keys []ledgerKey
	asked := make(map[functions.TaskID]bool, len(records))
	more := map[functions.TaskID]bool{} // something else than submits: it needs the task as it stands
	for _, r := range records {
		if r.Event.Kind != functions.Submit {
			more[r.Event.Task] = true
		}
	}
	for _, r := range records {
		e := r.Event
		if e.Kind == functions.Submit && e.Sub != nil && e.Sub.Key != "" {
			keys = append(keys, ledgerKey{e.Sub.Function, e.Sub.Key})
		}
		id, ok := idBytes(e.Task)
		if !ok || asked[e.Task] {
			continue
		}
		asked[e.Task] = true
		if c, ok := db.cache.tasks[e.Task]; ok {
			cols := columnsOf(&c.task)
			b.tasks[e.Task] = &entry{task: c.task, n: c.n, stored: &cols}
			continue
		}
		if submitted == trusting && !more[e.Task] {
			continue
		}
		ids = append(ids, id)
	}
	if err := db.w.tasks(ctx, ids, b.tasks); err != nil {
		return err
	}
	return db.w.keys(ctx, keys, b.keys)
}

// publish makes a committed batch visible. sizes are those of the documents of
// b.dirty.
func (db *DB) publish(b *batch, sizes []int) {
	for i, e := range b.dirty {
		db.cache.put(e.task, e.n, int64(sizes[i]))
	}
	db.index = b.index
	db.void.Add(b.void)
	db.epoch.Store(b.epoch)

	db.mu.Lock()
	defer db.mu.Unlock()
	for g, n := range b.groups {
		db.groups.add(g, n)
	}
	for d, n := range b.waiting {
		if db.waiting[d] += n; db.waiting[d] == 0 {
			delete(db.waiting, d)
		}
	}
	db.applied.Store(b.seq)
	db.wake(b.seq)
}
