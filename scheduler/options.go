package scheduler

import (
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// options are the ways in which the next GPU attempt of a task with a past could
// run, the best first: what it asks for grows after it ran out of GPU memory. A
// task that nothing but a GPU helps comes back to what failed it, when nothing
// else is well: its node says whether that works again.
func (t *term) options(n need, v *version, wants demand) []need {
	all := t.enlarged(n, v)
	if wants != requiresGPU || n.Avoid.empty() || slices.ContainsFunc(all, t.could) {
		return all
	}
	n.Avoid = n.Avoid.again()
	return append(all, t.enlarged(n, v)...)
}

// enlarged is a need by what the function may claim after the task's past.
func (t *term) enlarged(n need, v *version) (out []need) {
	if n.Avoid.empty() {
		return []need{n}
	}
	claims, over := v.fn.ClaimsAfter(n.Avoid.Short, 0)
	if n.Larger = t.largest(over); n.Larger == 0 && len(over) > 0 { // nobody knows their size
		av := *n.Avoid
		av.Devices = slices.Concat(av.Devices, over)
		n.Avoid = &av
	}
	for _, c := range claims {
		n.Claim = c
		out = append(out, n)
	}
	return out
}

// could reports whether some node that takes tasks could run the attempt were it
// idle.
func (t *term) could(n need) bool {
	return slices.ContainsFunc(t.rooms, func(r *room) bool { return r.could(n) })
}

// possible reports whether some node that is there has devices that suit, well
// or not.
func (t *term) possible(n need) bool {
	return slices.ContainsFunc(t.rooms, func(r *room) bool { return r.suits(&n, (*device).known) })
}

// bestOf is the supply for the first of some options that can be had now, which n
// becomes; else for the first.
func (t *term) bestOf(options []need, n *need) supply {
	*n = options[0]
	have := supplyOf(t.rooms, *n)
	for _, o := range options[1:] {
		if have.Fits {
			break
		}
		if s := supplyOf(t.rooms, o); s.Fits {
			*n, have = o, s
		} else {
			have.Suited = have.Suited || s.Suited
		}
	}
	return have
}

// lastGPU is when the last attempt of a task on a GPU may begin; zero when none
// has failed it.
func (v *version) lastGPU(wants demand, av *avoidance) time.Time {
	if av == nil || av.Since.IsZero() {
		return time.Time{}
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
	wants, av := demandOf(task.Route, task.Only), avoid(task)
	for _, n := range t.options(v.need(functions.GPU, functions.Shares(task.Inputs), &av), v, wants) {
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
