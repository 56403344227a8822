package scheduler

import (
	"cmp"
	"slices"

	"github.com/spillway/spillway/functions"
)

// room is a node as the placement sees it.
type room struct {
	ID       functions.NodeID
	Boot     string
	Open     bool // ready and heard from lately
	Capacity functions.Resources
	Free     functions.Resources
	Shares   []string // shared folders that it has mounted
	GPUs     []device
	Idle     int // healthy devices without a lease
	GPUHost  *functions.GPUHostInfo
}

// need is what an attempt takes.
type need struct {
	Res    functions.Resources
	GPUs   int // 0 = a CPU attempt
	Claim  functions.GPUClaim
	Larger functions.Bytes    // only devices with more memory than this in all; 0 = any
	Spec   *functions.GPUNeed // of the function: the driver that it needs; nil = any
	Image  string             // that a GPU attempt runs
	Shares []string           // shared folders that its inputs are in
	Avoid  *avoidance
}

// pick returns the devices that an attempt would get, as indices behind into,
// and how well they fit: less is better.
func (r *room) pick(n *need, into []int) (gpus []int, fit functions.Bytes, ok bool) {
	if (n.Claim.Alone() && r.Idle < n.GPUs) || !r.drives(n) {
		return into, 0, false
	}
	for i := range r.GPUs {
		if d := &r.GPUs[i]; n.may(d) && d.Takes(n.Claim) {
			into = append(into, i)
		}
	}
	count := n.GPUs
	if n.Claim.All {
		count = len(r.GPUs)
	}
	if len(into) < count || count == 0 {
		return into, 0, false
	}
	better := func(a, b int) int {
		x, y := &r.GPUs[a], &r.GPUs[b]
		return cmp.Or(cmp.Compare(x.left(n.Claim), y.left(n.Claim)), cmp.Compare(x.Index, y.Index))
	}
	if count == 1 { // as nearly always
		into[0] = slices.MinFunc(into, better)
	} else {
		slices.SortStableFunc(into, better)
	}
	for _, i := range into[:count] {
		fit += r.GPUs[i].left(n.Claim)
	}
	return into[:count], fit, true
}

// drives reports whether the node's GPUs may run the attempt at all.
func (r *room) drives(n *need) bool {
	if n.Avoid.never(r.ID) || (n.Spec != nil && !r.GPUHost.Drives(*n.Spec)) {
		return false
	}
	return r.GPUHost == nil || !slices.ContainsFunc(r.GPUHost.Unsuited, func(u functions.UnsuitedImage) bool { return u.Image == n.Image })
}

// may reports whether the task may use the device, as far as its past goes.
func (n *need) may(d *device) bool {
	return (d.Memory == 0 || d.Memory > n.Larger) && !n.Avoid.device(d.UUID)
}

// could reports whether the node could run the attempt were it idle.
func (r *room) could(n need) bool {
	return r.Open && r.suits(&n, (*device).healthy)
}

// suits reports whether the node could run the attempt on such devices, were
// they idle.
func (r *room) suits(n *need, such func(*device) bool) bool {
	if !n.Res.Fits(r.Capacity) || !r.has(n.Shares) {
		return false
	}
	if n.GPUs == 0 {
		return true
	}
	if !r.drives(n) {
		return false
	}
	have := 0
	for i := range r.GPUs {
		if d := &r.GPUs[i]; such(d) && d.Suits(n.Claim) && n.may(d) {
			have++
		}
	}
	if n.Claim.All {
		return have > 0 && have == len(r.GPUs)
	}
	return have >= n.GPUs
}

// place chooses the best room that fits, or nil.
func place(rooms []*room, n need) (best *room, gpus []string) {
	if n.GPUs > 0 {
		return placeOnGPUs(rooms, &n)
	}
	for _, r := range rooms {
		if r.takes(&n) && (best == nil || cmp.Or(unloved(r, &n)-unloved(best, &n), spread(r, best)) < 0) {
			best = r
		}
	}
	return best, nil
}

// takes reports whether the node has room for the attempt, GPUs apart.
func (r *room) takes(n *need) bool {
	return r.Open && n.Res.Fits(r.Free) && r.has(n.Shares)
}

// placeOnGPUs is place for an attempt on GPUs.
func placeOnGPUs(rooms []*room, n *need) (best *room, gpus []string) {
	var chosen, spare []int // of best, and for the next to look at
	var least functions.Bytes
	for _, r := range rooms {
		if !r.takes(n) {
			continue
		}
		picked, fit, ok := r.pick(n, spare[:0])
		if !ok {
			spare = picked
			continue
		}
		if best == nil || cmp.Or(unloved(r, n)-unloved(best, n), n.whole(r, best), cmp.Compare(fit, least), pack(r, best)) < 0 {
			best, least, spare, chosen = r, fit, chosen, picked
		} else {
			spare = picked
		}
	}
	for _, i := range chosen {
		gpus = append(gpus, best.GPUs[i].UUID)
	}
	return best, gpus
}

// whole prefers, for an attempt that takes all GPUs of a node, the node that has
// fewer.
func (n *need) whole(a, b *room) int {
	if !n.Claim.All {
		return 0
	}
	return cmp.Compare(len(a.GPUs), len(b.GPUs))
}

func unloved(r *room, n *need) int {
	if n.Avoid.rather(r.ID) {
		return 1
	}
	return 0
}

// pack fills the node with the fewest free GPUs, so that a task that needs
// several finds them on one node.
func pack(a, b *room) int {
	return cmp.Or(
		cmp.Compare(a.Idle, b.Idle),
		cmp.Compare(a.Free.MilliCPU, b.Free.MilliCPU),
		cmp.Compare(a.ID, b.ID))
}

// spread takes the node with the most left, those without GPUs first: CPU work
// must not fill a node that GPU work needs.
func spread(a, b *room) int {
	return cmp.Or(
		cmp.Compare(min(len(a.GPUs), 1), min(len(b.GPUs), 1)),
		-cmp.Compare(a.Free.MilliCPU, b.Free.MilliCPU),
		-cmp.Compare(a.Free.Memory, b.Free.Memory),
		cmp.Compare(a.ID, b.ID))
}

// supplyOf counts the GPUs of the open rooms for one need.
func supplyOf(rooms []*room, n need) supply {
	s := census(rooms, n.Shares)
	s.Suited = slices.ContainsFunc(rooms, func(r *room) bool { return r.could(n) })
	if best, _ := place(rooms, n); best != nil {
		s.Fits, s.Shunned = true, unloved(best, &n) > 0
	}
	return s
}

// census is the part of the supply that is the same for every need of the same
// shared folders.
func census(rooms []*room, shares []string) (s supply) {
	for _, r := range rooms {
		if !r.Open || !r.has(shares) {
			continue
		}
		s.Nodes++
		for _, d := range r.GPUs {
			s.Total++
			switch {
			case !d.healthy():
				s.Quarantined++
				if !d.Until.IsZero() && (s.NextTrial.IsZero() || d.Until.Before(s.NextTrial)) {
					s.NextTrial = d.Until
				}
			case len(d.Leases) > 0:
				s.Leased++
			}
		}
	}
	return s
}
