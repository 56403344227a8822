package scheduler

import (
	"container/heap"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// phase is a half of a round. GPUs and CPUs are shared out apart, so that what a
// function got of one does not count against it for the other.
type phase uint8

const (
	onGPU phase = iota
	onCPU
)

// maxBatch is how many events one log message holds at most.
const maxBatch = 256

// maxPicky is how many tasks of a lane with mixed wishes are tried per round.
const maxPicky = 32

// plan gives away every place that is free now, and returns the assignments.
// Higher priorities go first; within one, functions take turns by weight.
func (t *term) plan() (events []functions.Event) {
	t.round++
	t.spill = time.Time{}
	if !t.anyOpen() {
		return nil
	}
	for _, lv := range t.queue.levels {
		for _, p := range []phase{onGPU, onCPU} {
			t.turns.begin(lv, p)
			for t.turns.Len() > 0 && len(events) < maxBatch {
				ln := t.turns.lines[0]
				a, reason := t.placeFrom(ln, p)
				if a == nil {
					heap.Pop(&t.turns)
					continue
				}
				ln.charge(p, a.version.fn.Weight)
				heap.Fix(&t.turns, 0)
				events = append(events, functions.Event{
					Kind: functions.Assign, Task: a.key.id(), At: t.now,
					Asg: &functions.Placement{
						Epoch: t.epoch, Attempt: a.number, Node: a.node.ID, Boot: a.boot,
						Device: a.device, GPUs: a.gpus, Claim: a.more, Reason: reason,
					},
				})
			}
		}
	}
	return events
}

// placeFrom places the first task of a line that can be placed in this phase:
// released ones first, then by age.
func (t *term) placeFrom(ln *line, p phase) (*attempt, string) {
	for {
		l := t.nextLane(ln, p)
		if l == nil {
			return nil, ""
		}
		depth := 1
		if l.picky {
			depth = maxPicky
		}
		for s := t.offered(l, p); s != none && depth > 0; depth-- {
			if a, reason := t.try(s, l.version, p); a != nil {
				return a, reason
			}
			s = t.pool.at(s).next
		}
		l.blocked[p] = t.round
	}
}

// nextLane is the lane whose first task goes first, of those not yet blocked.
func (t *term) nextLane(ln *line, p phase) *lane {
	var best *lane
	for _, l := range ln.lanes {
		if l.n == 0 || l.blocked[p] == t.round || (p == onGPU && l.demand == wantsCPU) || (p == onCPU && l.demand == requiresGPU) {
			continue
		}
		switch {
		case best == nil, l.front && !best.front:
			best = l
		case l.front == best.front && t.pool.at(l.head).entered < t.pool.at(best.head).entered:
			best = l
		}
	}
	return best
}

// try places one task if the phase's device is the one it should have and there
// is room.
func (t *term) try(s slot, v *version, p phase) (*attempt, string) {
	if !t.lookup(v) || v.full() {
		return nil, ""
	}
	av, shares := t.queue.avoids[s], t.shares.names(t.pool.at(s).shares)
	if !t.mounted(shares) { // and no time makes it go to the CPU
		return nil, ""
	}
	var n need
	d := t.choose(s, v, av, &n)
	if d.Wait {
		if d.For > 0 {
			t.spill = earlier(t.spill, t.now.Add(d.For))
		}
		if l := t.queue.lanes[t.pool.at(s).lane]; !l.picky && !l.sheds() {
			l.blocked = [2]uint64{t.round, t.round}
		}
		return nil, ""
	}
	if (d.Device == functions.GPU) != (p == onGPU) {
		return nil, ""
	}
	r, gpus := place(t.rooms, n)
	if r == nil {
		return nil, ""
	}
	t.queue.remove(s)
	e := t.pool.at(s)
	a := &attempt{
		key: e.key, slot: s, version: v, node: t.nodes[r.ID], number: int(e.attempt) + 1,
		boot: r.Boot, device: d.Device, gpus: gpus, res: n.Res, since: t.now,
	}
	if av != nil && len(av.Short) > 0 && d.Device == functions.GPU {
		a.more = n.Claim
	}
	t.keep(a, proposed)
	if d.Device == functions.GPU {
		t.forecast = forecast{}
	}
	return a, d.Reason
}

// decide asks for the device of a queued task.
func (t *term) decide(s slot, v *version, av *avoidance) decision {
	var n need
	return t.choose(s, v, av, &n)
}

// choose is decide; n becomes what an attempt on the device takes.
func (t *term) choose(s slot, v *version, av *avoidance, n *need) decision {
	q, e := t.askOf(s, v), t.pool.at(s)
	if e.demand == wantsCPU {
		*n = v.need(functions.CPU, q.Shares, av)
		return decide(q, supply{})
	}
	if until := v.lastGPU(e.demand, av); e.demand == prefersGPU && !until.IsZero() && !t.now.Before(until) {
		_, within := v.fn.Budget(false)
		*n = v.need(functions.CPU, q.Shares, av)
		return decision{Device: functions.CPU, Reason: "on the CPU: GPUs have failed it for " + within.String()}
	}
	*n = v.need(functions.GPU, q.Shares, av)
	t.advise(&q, s, v, *n)
	d := decide(q, t.supplyFor(n, v, e.demand))
	if d.Device == functions.CPU {
		*n = v.need(functions.CPU, q.Shares, av)
	}
	return d
}

// supplyFor is the supply for a need, which becomes the best of its options.
func (t *term) supplyFor(n *need, v *version, wants demand) supply {
	if !n.Avoid.empty() || len(n.Shares) > 0 {
		return t.bestOf(t.options(*n, v, wants), n)
	}
	if best, _ := place(t.rooms, *n); best != nil {
		return supply{Nodes: 1, Suited: true, Fits: true}
	}
	have := t.census.get(t.generation, func() supply { return census(t.rooms, nil) })
	have.Suited = v.suited.get(t.generation, func() bool {
		return slices.ContainsFunc(t.rooms, func(r *room) bool { return r.could(*n) })
	})
	return have
}

func (t *term) askOf(s slot, v *version) ask {
	e := t.pool.at(s)
	q := ask{
		Route: t.routes.get(e.route), Waited: t.now.Sub(time.Unix(0, e.since)), GPUs: v.fn.GPUCount(), Shares: t.shares.names(e.shares),
	}
	if v.fn.SpillAfter != nil {
		q.SpillAfter = v.fn.SpillAfter.Std()
	}
	if v.fn.GPU != nil {
		q.Memory = v.fn.GPU.Memory
	}
	if e.only {
		q.Only = functions.GPU
		if e.demand == wantsCPU {
			q.Only = functions.CPU
		}
	}
	return q
}
