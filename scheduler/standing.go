package scheduler

import (
	"time"

	"github.com/spillway/spillway/functions"
)

// sheds reports whether tasks of the lane may go to the CPU although its first
// one waits for a GPU.
func (l *lane) sheds() bool {
	return l.demand == prefersGPU && !l.picky && (l.size != anySize || l.version.fn.SpillQueue > 0)
}

// offered is the task of a lane that is tried first. For a GPU it is always the
// oldest. For the CPU it is the oldest of those that need not wait for a GPU:
// where only so many do, by spill_queue or because the others are done sooner on
// the CPU, it is the first beyond them. So nobody loses its place, neither for a
// GPU nor for the CPU.
func (t *term) offered(l *lane, p phase) slot {
	if p == onGPU || !l.sheds() || !t.lookup(l.version) {
		return l.head
	}
	av := t.queue.avoids[l.head]
	if !t.decide(l.head, l.version, av).Wait {
		return l.head
	}
	q := t.askOf(l.head, l.version)
	t.advise(&q, l.head, l.version, l.version.need(functions.GPU, q.Shares, av))
	stay := l.n
	if q.Queue.Limit > 0 {
		stay = min(stay, q.Queue.Limit-q.Queue.Ahead)
	}
	if q.Route.Policy == functions.Fastest {
		stay = min(stay, q.Outlook.worthIt()-q.Queue.Ahead)
	}
	return t.queue.nth(l, stay)
}

// nth is the task of a lane that n others go before; none when there are no more.
func (q *queue) nth(l *lane, n int) slot {
	if n >= l.n {
		return none
	}
	s := l.head
	for ; n > 0; n-- {
		s = q.pool.at(s).next
	}
	return s
}

// closeWithin bounds how many places are renumbered when a task leaves the
// middle of a lane.
const closeWithin = 4096

// closeGap numbers the tasks in front of e, which is about to leave its lane, so
// that those behind it are as many places from the first as tasks are in front
// of them. Far back it is not worth it: they are counted until the front has come there.
func (q *queue) closeGap(l *lane, e *entry) {
	if e.next == none {
		l.pushed = e.ord
		return
	}
	if e.prev == none || e.ord-q.pool.at(l.head).ord > closeWithin {
		return
	}
	for s := e.prev; s != none; {
		o := q.pool.at(s)
		o.ord++
		s = o.prev
	}
}

// standingOf is a task's place among all of its function that wait for a GPU.
// Between lanes, the one goes first whose turn comes first.
func (t *term) standingOf(s slot, v *version) standing {
	e := t.pool.at(s)
	own := t.queue.lanes[e.lane]
	q := standing{Limit: v.fn.SpillQueue, Ahead: int(e.ord - t.pool.at(own.head).ord)}
	for _, lv := range t.queue.levels {
		ln := t.queue.lines[lineKey{v.name, lv.prio}]
		if ln == nil || ln.n == 0 {
			continue
		}
		passed := false
		for _, l := range ln.lanes {
			passed = passed || l == own
			if l.n == 0 || l.demand == wantsCPU {
				continue
			}
			q.All += l.n
			if lv.prio > own.prio || l.line == own.line && l != own && t.sooner(l, own, !passed) {
				q.Ahead += l.n
			}
		}
	}
	return q
}

// sooner reports whether the first of lane a goes before the first of lane b.
func (t *term) sooner(a, b *lane, tie bool) bool {
	if a.front != b.front {
		return a.front
	}
	x, y := t.pool.at(a.head).entered, t.pool.at(b.head).entered
	return x < y || x == y && tie
}

// advise adds to a question what a decision needs that depends on the queue or
// on earlier attempts. Most functions ask for neither.
func (t *term) advise(q *ask, s slot, v *version, n need) {
	if t.pool.at(s).demand != prefersGPU {
		return
	}
	fastest := q.Route.Policy == functions.Fastest
	if fastest || v.fn.SpillQueue > 0 {
		q.Queue = t.standingOf(s, v)
	}
	if fastest {
		q.Outlook = t.outlookOf(s, v, n)
	}
}

// laneSize is what tells lanes apart by size: only tasks that go where they are
// done first differ by it.
func (t *term) laneSize(e *entry) size {
	if e.demand == prefersGPU && t.routes.get(e.route).Policy == functions.Fastest {
		return e.size
	}
	return anySize
}

// jostle adds who else waits for GPUs, as far as it goes before the tasks of a
// line: all of higher priority, and those of the same by their weights. It takes
// every GPU to be good for everybody.
func (t *term) jostle(o *outlook, ln *line) {
	f := t.foresee()
	if len(f.crowds) != len(t.queue.levels) {
		f.crowds = f.crowds[:0]
		for _, lv := range t.queue.levels {
			f.crowds = append(f.crowds, t.crowdOf(lv))
		}
	}
	var all crowd
	for i, lv := range t.queue.levels {
		c := f.crowds[i]
		all = crowd{tasks: all.tasks + c.tasks, work: all.work + c.work, vague: all.vague || c.vague}
		if own := t.queue.lines[lineKey{ln.name, lv.prio}]; own != nil {
			c.tasks -= gpuTasks(own)
		}
		if lv == ln.level {
			weight := max(weightOf(ln), 1)
			o.Rivals = c.tasks
			o.Share = float64(f.crowds[i].weight-weight) / float64(weight)
			break
		}
		o.First += c.tasks
	}
	if all.tasks > 0 && !all.vague {
		o.Each = time.Duration(all.work / float64(all.tasks))
	}
}

func (t *term) crowdOf(lv *level) (c crowd) {
	for _, ln := range lv.active {
		for _, l := range ln.lanes {
			if l.n == 0 || l.demand == wantsCPU {
				continue
			}
			est := t.estimates.of(versionKey{l.version.name, l.version.number}, functions.GPU, anySize, t.now)
			c.tasks += l.n
			c.work += float64(l.n) * float64(est.Took)
			c.vague = c.vague || !est.known()
		}
		if gpuTasks(ln) > 0 {
			c.weight += weightOf(ln)
		}
	}
	return c
}

func gpuTasks(ln *line) (n int) {
	for _, l := range ln.lanes {
		if l.demand != wantsCPU {
			n += l.n
		}
	}
	return n
}

// weightOf is the weight of a line's function, by its newest version that waits.
func weightOf(ln *line) int {
	w := 0
	for _, l := range ln.lanes {
		if l.n > 0 && l.demand != wantsCPU && l.version.known {
			w = l.version.fn.Weight
		}
	}
	return w
}
