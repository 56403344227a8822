package scheduler

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/spillway/spillway/functions"
)

// demand is what a task asks for. Tasks of one function that ask for different
// things wait in different lanes, so that none blocks another.
type demand uint8

const (
	wantsCPU    demand = iota // the CPU and nothing else
	prefersGPU                // a GPU, or the CPU after a while
	requiresGPU               // a GPU and nothing else
)

// laneKey names a lane. All tasks of a lane are alike to the placement, so that
// when its first cannot be placed, none can.
type laneKey struct {
	fn     int32 // index of the function's version
	prio   int16
	demand demand
	shares int32 // set of shared folders
	front  bool  // was released after an attempt: goes before those that never ran
	picky  bool  // has places to avoid: its tasks are not alike
	size   size  // of inputs, where the device depends on it
	age    int32 // seconds that its tasks may be old; 0 = the function's queue_timeout counts
}

// lane is a first-in-first-out list of queued tasks, linked through the pool.
type lane struct {
	laneKey
	line       *line
	version    *version
	head, tail slot
	n          int
	pushed     uint32    // how many ever entered
	blocked    [2]uint64 // the round in which nothing of it could be placed, per phase
}

// line is everything of one function that waits at one priority: the unit of
// fairness.
type line struct {
	name  functions.Name
	level *level
	lanes []*lane
	n     int        // tasks in all lanes
	pass  [2]float64 // virtual time per phase: grows by 1/weight with each task placed
}

// level is one priority.
type level struct {
	prio   int16
	active []*line    // those with tasks
	clock  [2]float64 // virtual time of the line served last, per phase
}

// queue holds every queued task, compactly: about 120 bytes for each.
type queue struct {
	pool   *pool
	lanes  []*lane
	byKey  map[laneKey]int32
	lines  map[lineKey]*line
	levels []*level // highest priority first
	avoids map[slot]*avoidance
	ages   map[slot]int32 // seconds that a task may be old, of those that have a limit of their own
	n      int
}

type lineKey struct {
	name functions.Name
	prio int16
}

func newQueue(p *pool) *queue {
	return &queue{pool: p, byKey: map[laneKey]int32{}, lines: map[lineKey]*line{}, avoids: map[slot]*avoidance{}, ages: map[slot]int32{}}
}

// lane returns the lane of a key, making it when it is new.
func (q *queue) lane(k laneKey, v *version) int32 {
	if i, ok := q.byKey[k]; ok {
		return i
	}
	ln := q.line(lineKey{v.name, k.prio})
	l := &lane{laneKey: k, line: ln, version: v, head: none, tail: none}
	ln.lanes = append(ln.lanes, l)
	slices.SortStableFunc(ln.lanes, func(a, b *lane) int { // front lanes are looked at first
		return cmp.Compare(rank(a), rank(b))
	})
	i := int32(len(q.lanes))
	q.lanes = append(q.lanes, l)
	q.byKey[k] = i
	return i
}

func rank(l *lane) int {
	if l.front {
		return 0
	}
	return 1
}

func (q *queue) line(k lineKey) *line {
	if ln := q.lines[k]; ln != nil {
		return ln
	}
	i, found := slices.BinarySearchFunc(q.levels, k.prio, func(l *level, p int16) int { return cmp.Compare(p, l.prio) })
	if !found {
		q.levels = slices.Insert(q.levels, i, &level{prio: k.prio})
	}
	ln := &line{name: k.name, level: q.levels[i]}
	q.lines[k] = ln
	return ln
}

// push puts a task at the end of a lane.
func (q *queue) push(s slot, li int32) {
	l, e := q.lanes[li], q.pool.at(s)
	e.lane, e.prev, e.next, e.ord = li, l.tail, none, l.pushed
	l.pushed++
	if l.tail == none {
		l.head = s
	} else {
		q.pool.at(l.tail).next = s
	}
	l.tail = s
	l.n++
	q.n++
	if ln := l.line; ln.n == 0 {
		ln.level.active = append(ln.level.active, ln)
		for p := range ln.pass { // idle time earns no credit
			ln.pass[p] = max(ln.pass[p], ln.level.clock[p])
		}
	}
	l.line.n++
}

// remove takes a task out of its lane, wherever it stands.
func (q *queue) remove(s slot) {
	e := q.pool.at(s)
	l := q.lanes[e.lane]
	q.closeGap(l, e)
	if e.prev == none {
		l.head = e.next
	} else {
		q.pool.at(e.prev).next = e.next
	}
	if e.next == none {
		l.tail = e.prev
	} else {
		q.pool.at(e.next).prev = e.prev
	}
	e.lane, e.next, e.prev = -1, none, none
	l.n--
	q.n--
	if l.line.n--; l.line.n == 0 {
		lv := l.line.level
		lv.active = slices.DeleteFunc(lv.active, func(x *line) bool { return x == l.line })
	}
}

// turns is a heap of the lines that may still be served in one phase of a round;
// the one that had the least for its weight is first.
type turns struct {
	phase phase
	lines []*line
}

func (t *turns) Len() int           { return len(t.lines) }
func (t *turns) Less(i, j int) bool { return t.lines[i].pass[t.phase] < t.lines[j].pass[t.phase] }
func (t *turns) Swap(i, j int)      { t.lines[i], t.lines[j] = t.lines[j], t.lines[i] }
func (t *turns) Push(x any)         { t.lines = append(t.lines, x.(*line)) }
func (t *turns) Pop() any {
	last := t.lines[len(t.lines)-1]
	t.lines = t.lines[:len(t.lines)-1]
	return last
}

// begin fills the heap with the lines of a level.
func (t *turns) begin(lv *level, p phase) {
	t.phase = p
	t.lines = append(t.lines[:0], lv.active...)
	heap.Init(t)
}

// charge notes that a task of the line was placed in a phase.
func (ln *line) charge(p phase, weight int) {
	ln.level.clock[p] = max(ln.level.clock[p], ln.pass[p])
	ln.pass[p] += 1 / float64(max(weight, 1))
}

// ahead counts the tasks of the same function and priority that go before s. A
// task canceled in the middle is counted until those before it have gone.
func (q *queue) ahead(s slot) int {
	e := q.pool.at(s)
	l := q.lanes[e.lane]
	n := int(e.ord - q.pool.at(l.head).ord)
	if !l.front {
		for _, o := range l.line.lanes {
			if o.front && o.demand == l.demand && o.shares == l.shares {
				n += o.n
			}
		}
	}
	return n
}
