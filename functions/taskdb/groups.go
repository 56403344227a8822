package taskdb

import (
	"context"

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
