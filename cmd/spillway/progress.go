package main

import (
	"sync"

	"github.com/spillway/spillway/functions"
)

// progress keeps the newest live report of each running task, for the older API.
type progress struct {
	mu     sync.Mutex // guards newest
	newest map[functions.TaskID]functions.Progress
}

func newProgress() *progress {
	return &progress{newest: map[functions.TaskID]functions.Progress{}}
}

// Progress returns the newest report on a task, if it runs.
func (p *progress) Progress(id functions.TaskID) (functions.Progress, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.newest[id]
	return r, ok
}

// report takes a report on a task that publish has said to run: one that comes
// after the end is not kept.
func (p *progress) report(r functions.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.newest[r.Task]; ok && r.Attempt >= old.Attempt {
		p.newest[r.Task] = r
	}
}

// publish follows the log: an assigned task has progress, any other has none.
func (p *progress) publish(changes []functions.Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range changes {
		t := &changes[i].Task
		if t.State == functions.Assigned {
			p.newest[t.ID] = functions.Progress{Task: t.ID, Attempt: t.Attempt}
		} else {
			delete(p.newest, t.ID)
		}
	}
}
