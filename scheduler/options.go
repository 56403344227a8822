package scheduler

import (
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// options are the ways in which the next GPU attempt of a task with a past could
// run, the best first: what it asks for grows after it ran out of GPU memory. A
// task that nothing but a GPU helps comes back to what failed it, when there is
// nothing else: its node says whether that works again.
func (t *term) options(n need, v *version, wants demand) []need {
	all := t.enlarged(n, v)
	if wants != requiresGPU || slices.ContainsFunc(all, t.possible) {
		return all
	}
	n.Avoid = n.Avoid.again()
	return append(all, t.enlarged(n, v)...)
}

// enlarged is a need by what the function may claim after the task's past.
func (t *term) enlarged(n need, v *version) (out []need) {
	claims, over := v.fn.ClaimsAfter(n.Avoid.Short, 0)
	if n.Larger = t.largest(over); n.Larger == 0 && len(over) > 0 { // nobody knows their size
		n.Avoid.Devices = slices.Concat(n.Avoid.Devices, over)
	}
	for _, c := range claims {
		n.Claim = c
		out = append(out, n)
	}
	return out
}

// possible reports whether some node that is there has devices that suit, well
// or not.
func (t *term) possible(n need) bool {
	return slices.ContainsFunc(t.rooms, func(r *room) bool { return r.suits(&n, (*device).known) })
}

// supplyOf is the supply for the first of some options that can be had now, and
// that option; else that for the first.
func (t *term) supplyOf(options []need) (supply, need) {
	for _, n := range options {
		if s := supplyOf(t.rooms, n); s.Fits {
			return s, n
		}
	}
	have := supplyOf(t.rooms, options[0])
	for _, n := range options[1:] {
		have.Suited = have.Suited || slices.ContainsFunc(t.rooms, func(r *room) bool { return r.could(n) })
	}
	return have, options[0]
}

// lastGPU is when the last attempt of a task on a GPU may begin; zero when none
// has failed it.
func (v *version) lastGPU(wants demand, av avoidance) time.Time {
	if av.Since.IsZero() {
		return av.Since
	}
	_, within := v.fn.Budget(wants == requiresGPU)
	return av.Since.Add(within)
}

// viewFor looks for other GPUs on behalf of a task whose attempt has failed.
func (t *term) viewFor(task *functions.Task, v *version) view {
	out := view{Now: t.now}
	if task.DeviceUsed() != functions.GPU || !v.known {
		return out
	}
	wants := demandOf(task.Route, task.Only)
	for _, n := range t.options(v.need(functions.GPU, functions.Shares(task.Inputs), avoid(task)), v, wants) {
		r, _ := place(t.rooms, n)
		out.Free = out.Free || r != nil
		out.There = out.There || t.possible(n)
	}
	return out
}

// largest is the memory of the largest of some devices; 0 = not known.
func (t *term) largest(uuids []string) (most functions.Bytes) {
	for _, r := range t.rooms {
		for _, d := range r.GPUs {
			if slices.Contains(uuids, d.UUID) {
				most = max(most, d.Memory)
			}
		}
	}
	return most
}
