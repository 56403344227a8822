package taskdb

import (
	"cmp"
	"context"
	"maps"

	"github.com/spillway/spillway/functions"
)

// group is a set of tasks that can be listed without looking at any other.
type group struct {
	function functions.Name
	source   string
	state    functions.State
}

// groups counts the tasks of each group that has any. Counting rows instead
// takes SQLite 87 ms at a million tasks.
type groups map[group]int64

func (g groups) add(k group, n int64) {
	if g[k] += n; g[k] == 0 {
		delete(g, k)
	}
}

// waiting counts the queued tasks by the device that they try first.
type waiting map[functions.Device]int64

func (w waiting) add(t *functions.Task, n int64) {
	if t.State != functions.Queued {
		return
	}
	d := cmp.Or(t.Only, t.Route.Device, functions.CPU)
	if w[d] += n; w[d] == 0 {
		delete(w, d)
	}
}

// Waiting returns how many queued tasks try each device first. Zeros are left out.
func (db *DB) Waiting(context.Context) (map[functions.Device]int64, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	return maps.Clone(db.waiting), nil
}

// Counts returns how many tasks stand in each state. Zeros are left out.
func (db *DB) Counts(context.Context) (functions.Counts, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	out := functions.Counts{}
	for k, n := range db.groups {
		if out[k.function] == nil {
			out[k.function] = map[functions.State]int64{}
		}
		out[k.function][k.state] += n
	}
	return out, nil
}
