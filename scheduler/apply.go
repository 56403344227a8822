package scheduler

import (
	"time"

	"github.com/spillway/spillway/functions"
)

// fromSnapshot stands for the kind of a change that is not one: a task read from
// the projection when the term began.
const fromSnapshot functions.Kind = ""

// apply takes in what the log made of a task. It is the only place that moves a
// task between the leader's lists on the log's word.
func (t *term) apply(task *functions.Task, kind functions.Kind) error {
	k, ok := keyOf(task.ID)
	if !ok {
		t.log.Error("task id is not a UUID", "task", task.ID)
		return nil
	}
	s, known := t.pool.find(k)
	if known {
		e := t.pool.at(s)
		// A message may hold several events of one task, so that an equal
		// sequence is news, unless the whole message has been read at once.
		if task.Seq < e.seq || (task.Seq == e.seq && e.snapshot) {
			return nil
		}
	}
	if kind == functions.Assign && task.Last().Epoch > t.epoch {
		return functions.NewError(functions.ErrStale, "deposed", "a newer leader has assigned task %s", task.ID)
	}
	if task.State.Final() {
		if kind == functions.Finish && task.State == functions.Succeeded {
			t.learn(task, false)
		}
		if known {
			t.detach(s)
			t.pool.drop(s)
		}
		return nil
	}
	if !known {
		s = t.pool.add(k)
	}
	e := t.pool.at(s)
	e.seq, e.snapshot, e.attempt = task.Seq, kind == fromSnapshot, int32(task.Attempt)
	if a := t.attempts[s]; a != nil && task.State == functions.Canceling && a.task != nil && a.number == task.Attempt {
		a.task = task
		t.cancel(a)
		return nil
	}
	t.detach(s)
	e.fn, e.size = t.version(task.Function, task.Version).index, sizeOf(task.Inputs)
	switch task.State {
	case functions.AwaitingUpload:
		e.where = uploading
		t.alarms.set(s, task.CreatedAt.Add(t.cfg.UploadTimeout))
	case functions.Queued:
		t.enqueue(s, task, kind)
	case functions.Assigned:
		a := t.hold(s, task)
		if kind == functions.Assign && task.Last().Epoch == t.epoch {
			t.order(a)
		}
	case functions.Canceling:
		t.cancel(t.hold(s, task))
	case functions.Deciding:
		t.judge(s, task)
	}
	return nil
}

// detach takes a task out of whatever list it is in.
func (t *term) detach(s slot) {
	e := t.pool.at(s)
	switch e.where {
	case uploading, delayed:
		if e.next != none {
			t.alarms.cancel(s)
		}
	case waiting:
		t.queue.remove(s)
	case proposed, running:
		t.release(s)
	}
	if e.queued {
		t.waiting.add(t.versions[e.fn].name, -1)
		e.queued = false
	}
	if e.picky {
		delete(t.queue.avoids, s)
		e.picky = false
	}
	if e.aged {
		delete(t.queue.ages, s)
		e.aged = false
	}
	t.shares.drop(e.shares)
	e.shares = 0
	delete(t.undecided, s)
	e.where = nowhere
}

// enqueue puts a queued task into its lane, or sets the alarm that will.
func (t *term) enqueue(s slot, task *functions.Task, kind functions.Kind) {
	e, v := t.pool.at(s), t.versions[t.pool.at(s).fn]
	e.queued = true
	t.waiting.add(v.name, 1)
	e.demand = demandOf(task.Route, task.Only)
	e.only = task.Only != ""
	e.route = t.routes.put(task.Route)
	e.shares = t.shares.take(functions.Shares(task.Inputs))
	if task.MaxAge > 0 {
		t.queue.ages[s], e.aged = int32(task.MaxAge.Std()/time.Second), true
	}
	e.prio = int8(max(-100, min(task.Priority, 100)))
	if task.Priority == 0 && v.known {
		e.prio = int8(v.fn.Priority)
	}
	e.front = kind == functions.Release || (kind == fromSnapshot && task.Attempt > 0)
	if task.Attempt > 0 {
		if av := avoid(task); !av.empty() {
			t.queue.avoids[s], e.picky = &av, true
		}
	}
	since := waitBegan(task)
	if since.IsZero() || since.After(t.now) { // another server's clock
		since = t.now
	}
	e.since = since.UnixNano()
	if task.NotBefore.After(t.now) {
		e.where, e.entered = delayed, task.NotBefore.UnixNano()
		if e.aged {
			e.entered = task.CreatedAt.UnixNano()
		}
		t.alarms.set(s, task.NotBefore)
		return
	}
	e.entered = max(since.UnixNano(), task.QueuedAt.UnixNano())
	if e.aged {
		e.entered = task.CreatedAt.UnixNano()
	}
	e.entered = min(e.entered, t.now.UnixNano())
	t.enter(s)
}

// waitBegan is when the wait for a place began: refusals do not restart it.
func waitBegan(task *functions.Task) time.Time {
	since := task.QueuedAt
	past := life(task)
	for i := len(past) - 1; i >= 0; i-- {
		if f := past[i].Failure; f == nil || f.Class != functions.Refused {
			break
		}
		since = past[i].StartedAt
	}
	return since
}

// enter puts a task that may run into its lane.
func (t *term) enter(s slot) {
	e := t.pool.at(s)
	v := t.versions[e.fn]
	e.where = waiting
	k := laneKey{fn: e.fn, prio: int16(e.prio), demand: e.demand, shares: e.shares, front: e.front, picky: e.picky, size: t.laneSize(e)}
	if e.aged {
		k.age = t.queue.ages[s]
	}
	if k.shares > maxShareLanes {
		k.shares, k.picky = 0, true
	}
	li := t.queue.lane(k, v)
	t.queue.push(s, li)
	t.expiry = earlier(t.expiry, t.queue.lanes[li].due(e))
}

// hold notes that the log has an attempt on a node.
func (t *term) hold(s slot, task *functions.Task) *attempt {
	last := task.Last()
	v := t.version(task.Function, task.Version)
	own := *task // the change it is part of is one of many, which need not stay
	a := &attempt{
		key: t.pool.at(s).key, slot: s, version: v, node: t.node(last.Node), task: &own,
		number: last.Number, boot: last.Boot, device: last.Device, gpus: last.GPUs, more: last.Claim,
		res: v.fn.Needs(last.Device), since: t.now, canceling: task.State == functions.Canceling,
	}
	t.keep(a, running)
	return a
}

func (t *term) keep(a *attempt, w where) {
	t.attempts[a.slot] = a
	t.pool.at(a.slot).where = w
	a.node.hold(a)
	t.generation++
	a.version.usage.running++
}

func (t *term) release(s slot) {
	a := t.attempts[s]
	delete(t.attempts, s)
	a.node.release(a)
	t.generation++
	a.version.usage.running--
}
