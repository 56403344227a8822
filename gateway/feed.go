package gateway

import (
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

// Update is one piece of news about a task: a change, or progress.
type Update struct {
	Task     *functions.Task // after the change; shared, not to be modified
	Progress *functions.Progress
}

// Feed hands changes and progress to those who wait for them. Publishing never
// blocks: a subscriber that does not keep up is dropped, and told so by the end
// of its channel. It may be used from many goroutines.
type Feed struct {
	observe func(functions.Change)
	now     func() time.Time

	mu       sync.Mutex // guards the fields below
	subs     map[functions.TaskID]map[*subscriber]struct{}
	progress map[functions.TaskID]report
}

// subscriber is one who waits. Its channel is sent to and closed under Feed.mu,
// and has room by construction or is closed: that never blocks.
type subscriber struct {
	ch    chan Update
	final bool // wants the end alone
}

type report struct {
	functions.Progress
	seen time.Time
}

// behind is how many updates a subscriber may lag.
const behind = 256

// Progress that is older than stale is forgotten when more than manyReports are
// kept: a report that arrives after its task's end would stay for ever.
const (
	manyReports = 4096
	staleReport = time.Minute
)

func newFeed(observe func(functions.Change), now func() time.Time) *Feed {
	return &Feed{observe: observe, now: now, subs: map[functions.TaskID]map[*subscriber]struct{}{}, progress: map[functions.TaskID]report{}}
}

// Publish tells of changes, in log order, after they can be read from the projection.
func (f *Feed) Publish(changes []functions.Change) {
	for i := range changes {
		f.observe(changes[i])
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range changes {
		t := &changes[i].Task
		if t.State != functions.Assigned {
			delete(f.progress, t.ID)
		}
		f.send(t.ID, Update{Task: t})
	}
}

// Progress tells of a running attempt.
func (f *Feed) Progress(p functions.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if len(f.progress) >= manyReports {
		for id, r := range f.progress {
			if now.Sub(r.seen) > staleReport {
				delete(f.progress, id)
			}
		}
	}
	if old, ok := f.progress[p.Task]; ok || len(f.progress) < manyReports {
		if p.Attempt < old.Attempt {
			return
		}
		f.progress[p.Task] = report{p, now}
	}
	f.send(p.Task, Update{Progress: &p})
}

// send is called with mu held.
func (f *Feed) send(id functions.TaskID, u Update) {
	for s := range f.subs[id] {
		if s.final && (u.Task == nil || !u.Task.State.Final()) {
			continue
		}
		select {
		case s.ch <- u:
		default:
			f.drop(id, s)
		}
	}
}

// latest returns the newest progress of a task's current attempt.
func (f *Feed) latest(t *functions.Task) *functions.Progress {
	p, ok := f.Newest(t.ID)
	if !ok || t.State != functions.Assigned || p.Attempt != t.Attempt {
		return nil
	}
	return &p
}

// Newest returns the newest report on a task, whichever attempt it is of.
func (f *Feed) Newest(id functions.TaskID) (functions.Progress, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.progress[id]
	return r.Progress, ok
}

// Subscribe returns the updates of one task from now on. The channel is closed
// when the subscriber lags too far behind. leave ends it, and may be called twice.
func (f *Feed) Subscribe(id functions.TaskID) (updates <-chan Update, leave func()) {
	return f.join(id, &subscriber{ch: make(chan Update, behind)})
}

// ended returns a channel that gets the task when it has ended.
func (f *Feed) ended(id functions.TaskID) (end <-chan Update, leave func()) {
	return f.join(id, &subscriber{ch: make(chan Update, 2), final: true})
}

func (f *Feed) join(id functions.TaskID, s *subscriber) (<-chan Update, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.subs[id] == nil {
		f.subs[id] = map[*subscriber]struct{}{}
	}
	f.subs[id][s] = struct{}{}
	return s.ch, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.drop(id, s)
	}
}

// drop is called with mu held.
func (f *Feed) drop(id functions.TaskID, s *subscriber) {
	if _, ok := f.subs[id][s]; !ok {
		return
	}
	delete(f.subs[id], s)
	if len(f.subs[id]) == 0 {
		delete(f.subs, id)
	}
	close(s.ch)
}
