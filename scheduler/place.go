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
	Idle     int // free devices of those
}

// device is a GPU as the placement sees it.
type device struct {
	functions.GPUInfo
	Busy bool // leased, by the node's word or by the leader's own count
}

func (d device) healthy() bool { return d.State.Healthy() }
func (d device) free() bool    { return d.healthy() && !d.Busy && d.State == functions.GPUFree }

// suits reports whether the device is large enough. One whose memory nobody
// knows is given the chance.
func (d device) suits(memory functions.Bytes) bool { return d.Memory == 0 || d.Memory >= memory }

// need is what an attempt takes.
type need struct {
	Res    functions.Resources
	GPUs   int // 0 = a CPU attempt
	Memory functions.Bytes
	Shares []string // shared folders that its inputs are in
	Avoid  avoidance
}

// avoidance is where a task should not go again.
type avoidance struct {
	Devices []string           // UUIDs that failed it
	Never   []functions.NodeID // nodes whose GPUs failed it as a whole
	Rather  []functions.NodeID // nodes that refused or lost it: only when there is no other
}

func (a avoidance) empty() bool { return len(a.Devices)+len(a.Never)+len(a.Rather) == 0 }

// pick returns the devices that an attempt would get, or nil. The smallest that
// suit go first, so that large ones stay for those who need them.
func (r *room) pick(n need) []string {
	if r.Idle < n.GPUs || slices.Contains(n.Avoid.Never, r.ID) {
		return nil
	}
	var fits []device
	for _, d := range r.GPUs {
		if d.free() && d.suits(n.Memory) && !slices.Contains(n.Avoid.Devices, d.UUID) {
			fits = append(fits, d)
		}
	}
	if len(fits) < n.GPUs {
		return nil
	}
	slices.SortStableFunc(fits, func(a, b device) int {
		return cmp.Or(cmp.Compare(a.Memory, b.Memory), cmp.Compare(a.Index, b.Index))
	})
	uuids := make([]string, n.GPUs)
	for i := range uuids {
		uuids[i] = fits[i].UUID
	}
	return uuids
}

// countIdle sets Idle after the devices have changed.
func (r *room) countIdle() {
	r.Idle = 0
	for i := range r.GPUs {
		if r.GPUs[i].free() {
			r.Idle++
		}
	}
}

// could reports whether the node could run the attempt were it idle.
func (r *room) could(n need) bool {
	if !r.Open || !n.Res.Fits(r.Capacity) || !r.has(n.Shares) {
		return false
	}
	if n.GPUs == 0 {
		return true
	}
	if slices.Contains(n.Avoid.Never, r.ID) {
		return false
	}
	have := 0
	for _, d := range r.GPUs {
		if d.healthy() && d.suits(n.Memory) && !slices.Contains(n.Avoid.Devices, d.UUID) {
			have++
		}
	}
	return have >= n.GPUs
}

// place chooses the best room that fits, or nil.
func place(rooms []*room, n need) (best *room, gpus []string) {
	better := spread
	if n.GPUs > 0 {
		better = pack
	}
	for _, r := range rooms {
		if !r.Open || !n.Res.Fits(r.Free) || !r.has(n.Shares) {
			continue
		}
		var uuids []string
		if n.GPUs > 0 {
			if uuids = r.pick(n); uuids == nil {
				continue
			}
		}
		if best == nil || cmp.Or(unloved(r, n)-unloved(best, n), better(r, best)) < 0 {
			best, gpus = r, uuids
		}
	}
	return best, gpus
}

func unloved(r *room, n need) int {
	if slices.Contains(n.Avoid.Rather, r.ID) {
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
		s.Fits, s.Shunned = true, unloved(best, n) > 0
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
			case !d.free():
				s.Leased++
			}
		}
	}
	return s
}
