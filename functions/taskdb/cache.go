package taskdb

import "github.com/spillway/spillway/functions"

// cached is an unfinished task with its row.
type cached struct {
	task functions.Task
	n    int64
	size int64
}

// taskOverhead is about what a decoded task takes beyond the bytes of its JSON.
const taskOverhead = 1024

// cache keeps unfinished tasks decoded, because most events are about a task
// that was touched a moment ago. It is only a copy of the rows: dropping any
// entry at any time costs one read. Used under DB.applying.
type cache struct {
	limit, used int64
	tasks       map[functions.TaskID]cached
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, tasks: map[functions.TaskID]cached{}}
}

// put keeps the task after a committed change, or forgets it when it ended.
// When the cache is full a task that runs pushes others out, since its end will
// come soon; one that only waits does not, since those before it come first.
func (c *cache) put(t functions.Task, n, docSize int64) {
	c.drop(t.ID)
	if t.State.Final() {
		return
	}
	size := docSize + taskOverhead
	if c.used+size > c.limit && t.State != functions.Assigned {
		return
	}
	c.tasks[t.ID] = cached{task: t, n: n, size: size}
	c.used += size
	for id := range c.tasks { // in random order
		if c.used <= c.limit {
			return
		}
		c.drop(id)
	}
}

func (c *cache) drop(id functions.TaskID) {
	if old, ok := c.tasks[id]; ok {
		c.used -= old.size
		delete(c.tasks, id)
	}
}
