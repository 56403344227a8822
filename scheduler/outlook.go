package scheduler

import (
	"cmp"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// forecast is what is expected of the fleet and of the queue, computed at most
// once for each moment. CPU attempts that a round has just placed may be missing.
type forecast struct {
	round   uint64
	now     time.Time
	endings map[*node][]ending
	holds   map[*node]map[string]hold // by device
	places  map[plain][]time.Duration
	crowds  []crowd // by level, highest priority first
}

// ending is when an attempt is expected to end, from now.
type ending struct {
	*attempt
	in time.Duration
}

// plain is what a need comes to that most functions have: no shared folder, no
// place to avoid, nothing that not every GPU can do. Many have the same.
type plain struct {
	res        functions.Resources
	count      int
	memory     functions.Bytes
	all, alone bool
}

func plainly(n need, c functions.GPUClaim) (plain, bool) {
	return plain{res: n.Res, count: c.Count, memory: c.Memory, all: c.All, alone: c.Alone()},
		n.Avoid.empty() && len(n.Shares)+len(c.Can) == 0
}

// hold is when the attempts on a device are expected to leave it, from now.
type hold struct {
	ends  []time.Duration
	vague bool // there is another one, of which nobody knows
}

// crowd is the tasks of one priority that wait for GPUs.
type crowd struct {
	tasks  int
	weight int     // of their functions together
	work   float64 // for one GPU, in ns
	vague  bool    // of some of them nobody knows how long they take
}

// foresee begins anew when time or round have moved on.
func (t *term) foresee() *forecast {
	f := &t.forecast
	if f.endings == nil || f.round != t.round || !f.now.Equal(t.now) {
		*f = forecast{round: t.round, now: t.now, endings: map[*node][]ending{}, holds: map[*node]map[string]hold{}, places: map[plain][]time.Duration{}}
	}
	return f
}

// endings lists the attempts on a node of which an end is expected, in its order.
func (t *term) endings(n *node) []ending {
	f := t.foresee()
	if all, ok := f.endings[n]; ok {
		return all
	}
	all := make([]ending, 0, len(n.attempts))
	for _, a := range n.attempts {
		est := t.estimates.of(versionKey{a.version.name, a.version.number}, a.device, t.pool.at(a.slot).size, t.now)
		if !est.known() {
			continue
		}
		began := a.since
		if a.task != nil {
			began = a.task.Last().StartedAt
		}
		all = append(all, ending{a, remaining(est.Took, max(t.now.Sub(began), 0))})
	}
	slices.SortFunc(all, func(a, b ending) int { return cmp.Compare(a.in, b.in) })
	f.endings[n] = all
	return all
}

// roomIn is how long until a node has so much free; false when nobody knows.
func (t *term) roomIn(r *room, res functions.Resources) (time.Duration, bool) {
	free := r.Free
	if res.Fits(free) {
		return 0, true
	}
	for _, e := range t.endings(t.nodes[r.ID]) {
		if free = free.Add(e.res); res.Fits(free) {
			return e.in, true
		}
	}
	return 0, false
}

// placesFor lists when there will be devices for a need, the first one first.
// Those of which nobody can tell are left out.
func (t *term) placesFor(v *version, n need) []time.Duration {
	f, claim := t.foresee(), n.Claim
	same, ok := plainly(n, claim)
	if ok {
		if all, ok := f.places[same]; ok {
			return all
		}
	}
	var all []time.Duration
	for _, r := range t.rooms {
		if !r.could(n) {
			continue
		}
		room, known := t.roomIn(r, n.Res)
		if !known {
			continue
		}
		in := t.devicesIn(r, n, claim)
		for at := n.GPUs - 1; at < len(in); at += n.GPUs {
			all = append(all, max(in[at], room, soon))
		}
	}
	slices.Sort(all)
	if ok {
		f.places[same] = all
	}
	return all
}

// devicesIn lists when the devices of a node that suit are free for the claim. One
// that is wanted alone is when its last holder leaves; one that is shared has room
// for one more whenever a holder leaves.
func (t *term) devicesIn(r *room, n need, claim functions.GPUClaim) (all []time.Duration) {
	holds := t.holds(t.nodes[r.ID])
	for _, d := range r.GPUs {
		if !d.healthy() || !d.Suits(claim) || !n.may(&d) {
			continue
		}
		h := holds[d.UUID]
		switch {
		case d.Takes(claim):
			all = append(all, 0)
		case len(h.ends) == 0:
		case claim.Alone() && !h.vague:
			all = append(all, h.ends[len(h.ends)-1])
		case !claim.Alone() && n.GPUs > 1: // of different devices
			all = append(all, h.ends[0])
		case !claim.Alone():
			all = append(all, h.ends...)
		}
	}
	slices.Sort(all)
	return all
}

// holds says when the devices of a node are expected to be left.
func (t *term) holds(n *node) map[string]hold {
	f := t.foresee()
	if all, ok := f.holds[n]; ok {
		return all
	}
	all := map[string]hold{}
	known := map[*attempt]bool{}
	for _, e := range t.endings(n) {
		known[e.attempt] = true
		for _, uuid := range e.gpus {
			h := all[uuid]
			h.ends = append(h.ends, e.in)
			all[uuid] = h
		}
	}
	for _, a := range n.attempts {
		for _, uuid := range a.gpus {
			if !known[a] {
				h := all[uuid]
				h.vague = true
				all[uuid] = h
			}
		}
	}
	f.holds[n] = all
	return all
}

// outlookOf is what a queued task can expect; n is its need of GPUs.
func (t *term) outlookOf(s slot, v *version, n need) outlook {
	key, size := versionKey{v.name, v.number}, t.pool.at(s).size
	o := outlook{
		GPU: t.estimates.of(key, functions.GPU, size, t.now), CPU: t.estimates.of(key, functions.CPU, size, t.now),
		Places: t.placesFor(v, n),
	}
	cpu := v.need(functions.CPU, n.Shares, n.Avoid)
	if r, _ := place(t.rooms, cpu); r != nil {
		o.CPUFree = true
	} else {
		for _, r := range t.rooms {
			if in, ok := t.roomIn(r, cpu.Res); ok && r.could(cpu) && (o.CPUWait == 0 || in < o.CPUWait) {
				o.CPUWait = max(in, soon)
			}
		}
	}
	t.jostle(&o, t.queue.lanes[t.pool.at(s).lane].line)
	return o
}
