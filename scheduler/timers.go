package scheduler

import (
	"container/heap"
	"time"
)

// alarm wakes a task: one that is delayed may run, one whose upload did not come
// expires.
type alarm struct {
	at int64 // ns
	s  slot
}

// alarms is a heap of alarms. While a task is in it, entry.next is its place.
type alarms struct {
	pool *pool
	all  []alarm
}

func (a *alarms) Len() int           { return len(a.all) }
func (a *alarms) Less(i, j int) bool { return a.all[i].at < a.all[j].at }
func (a *alarms) Swap(i, j int) {
	a.all[i], a.all[j] = a.all[j], a.all[i]
	a.pool.at(a.all[i].s).next = slot(i)
	a.pool.at(a.all[j].s).next = slot(j)
}
func (a *alarms) Push(x any) {
	al := x.(alarm)
	a.pool.at(al.s).next = slot(len(a.all))
	a.all = append(a.all, al)
}
func (a *alarms) Pop() any {
	last := len(a.all) - 1
	al := a.all[last]
	a.all = a.all[:last]
	a.pool.at(al.s).next = none
	return al
}

func (a *alarms) set(s slot, at time.Time) { heap.Push(a, alarm{at.UnixNano(), s}) }
func (a *alarms) cancel(s slot)            { heap.Remove(a, int(a.pool.at(s).next)) }

// due removes and returns the next task whose time has come.
func (a *alarms) due(now time.Time) (slot, bool) {
	if len(a.all) == 0 || a.all[0].at > now.UnixNano() {
		return none, false
	}
	return heap.Pop(a).(alarm).s, true
}

// next is when the first alarm goes off; zero when none is set.
func (a *alarms) next() time.Time {
	if len(a.all) == 0 {
		return time.Time{}
	}
	return time.Unix(0, a.all[0].at)
}

// earlier is the first of two times, of which the zero time means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
