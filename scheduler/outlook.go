package scheduler

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// History reads what is known of earlier tasks: of each function, some of the
// newest that succeeded, the newest first.
type History interface {
	Succeeded(ctx context.Context, each int) iter.Seq2[functions.Task, error]
}

// recall teaches a new term what attempts took before it began.
func (t *term) recall(ctx context.Context) {
	if t.cfg.History == nil {
		return
	}
	for task, err := range t.cfg.History.Succeeded(ctx, maxSamples) {
		if err != nil {
			if ctx.Err() == nil {
				t.log.Warn("what tasks took before is not known", "err", err)
			}
			return
		}
		select {
		case t.asks <- func() { t.learn(&task, true) }: // the loop owns what is known
		case <-ctx.Done():
			return
		}
	}
}

// learn notes what the attempt took that ended a task with success.
func (t *term) learn(task *functions.Task, older bool) {
	a := task.Last()
	if a == nil || a.Failure != nil || a.EndedAt.IsZero() {
		return
	}
	s := sample{tookOf(a), a.EndedAt.Unix()}
	if s.took > 0 {
		t.estimates.learn(versionKey{task.Function, task.Version}, a.Device, sizeOf(task.Inputs), s, older)
	}
}

// tookOf is what an attempt took from its start to its end, by the node's clock
// if it has said so. The pull of an image is left out: the next attempt finds it.
func tookOf(a *functions.Attempt) (took time.Duration) {
	for _, p := range a.Phases {
		switch p.Phase {
		case functions.PhaseStage, functions.PhaseLaunch, functions.PhaseRun, functions.PhaseCollect:
			took += time.Duration(p.MS * float64(time.Millisecond))
		}
	}
	if took > 0 {
		return took
	}
	return a.EndedAt.Sub(a.StartedAt)
}

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

// hold is when a device that attempts hold is left, from now; 0 = nobody knows.
type hold struct {
	first, last time.Duration // by the first and by the last of them whose end is expected
	vague       bool          // of another one it is not
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
	f, claim := t.foresee(), v.fn.Claim()
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

// devicesIn lists when the devices of a node that suit are free for the claim:
// for a task that wants one alone, when the last holder leaves it, else when the
// first one does.
func (t *term) devicesIn(r *room, n need, claim functions.GPUClaim) (all []time.Duration) {
	holds := t.holds(t.nodes[r.ID])
	for _, d := range r.GPUs {
		if !d.healthy() || !d.Suits(claim) || n.Avoid.device(d.UUID) {
			continue
		}
		switch h := holds[d.UUID]; {
		case d.free():
			all = append(all, 0)
		case claim.Alone() && h.last > 0 && !h.vague:
			all = append(all, h.last)
		case !claim.Alone() && h.first > 0:
			all = append(all, h.first)
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
	ends := t.endings(n)
	for _, e := range ends {
		for _, uuid := range e.gpus {
			h := all[uuid]
			all[uuid] = hold{first: cmp.Or(h.first, e.in), last: e.in}
		}
	}
	if len(ends) < len(n.attempts) {
		for _, a := range n.attempts {
			for _, uuid := range a.gpus {
				if !slices.ContainsFunc(ends, func(e ending) bool { return e.attempt == a }) {
					h := all[uuid]
					h.vague = true
					all[uuid] = h
				}
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

func (a avoidance) device(uuid string) bool { return slices.Contains(a.Devices, uuid) }
