package scheduler

import (
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// node is what the leader knows of a node: its last report, and what the log
// says is there. The log is ahead of the report: what the log has placed there
// counts as taken, and what it has seen end counts as free.
type node struct {
	room
	heard    bool // in this term
	ready    bool
	reason   string    // why not ready
	seen     time.Time // last heard; the start of the term before that
	used     functions.Resources
	attempts map[key]*attempt
	holders  map[string][]*attempt // by device
	strays   map[stray]time.Time   // listed attempts that the log does not know: when first seen
	sendq    []*attempt            // orders that wait for their turn
	sending  int                   // orders on their way
}

// stray names an attempt that a node lists.
type stray struct {
	task    functions.TaskID
	attempt int
}

// delivery is how far the order for an attempt has come.
type delivery uint8

const (
	unsent     delivery = iota // adopted from an earlier leader: may or may not be there
	inLine                     // waits for its turn
	underway                   // sent, no answer yet
	unanswered                 // sent, and no answer came: may or may not be there
	admitted                   // the node has it
)

// attempt is one that is proposed or running.
type attempt struct {
	key       key
	slot      slot
	version   *version
	node      *node
	task      *functions.Task // nil while proposed
	number    int
	boot      string
	device    functions.Device
	gpus      []string
	more      functions.GPUClaim // what it asks of GPUs, when that is more than the function declares
	res       functions.Resources
	delivery  delivery
	since     time.Time // of delivery
	missing   time.Time // when reports began not to list it; zero = listed
	canceling bool
	killed    time.Time // when a kill was last sent
	judged    bool      // a verdict is on its way to the log
}

// claim is what the attempt asks of GPUs.
func (a *attempt) claim() functions.GPUClaim {
	if a.device != functions.GPU {
		return functions.GPUClaim{}
	}
	if a.more.Count > 0 || a.more.All {
		return a.more
	}
	return a.version.fn.Claim()
}

func newNode(id functions.NodeID, now time.Time) *node {
	return &node{
		room: room{ID: id}, seen: now,
		attempts: map[key]*attempt{}, holders: map[string][]*attempt{}, strays: map[stray]time.Time{},
	}
}

// free is what is left; never negative, whatever nodes and log disagree on.
func (n *node) free() functions.Resources {
	f := n.Capacity.Sub(n.used)
	return functions.Resources{MilliCPU: max(f.MilliCPU, 0), Memory: max(f.Memory, 0), Tasks: max(f.Tasks, 0)}
}

// hold counts an attempt against the node.
func (n *node) hold(a *attempt) {
	n.attempts[a.key] = a
	n.used = n.used.Add(a.res)
	n.holdGPUs(a)
	n.Free = n.free()
}

func (n *node) holdGPUs(a *attempt) {
	for _, g := range a.gpus {
		n.holders[g] = append(n.holders[g], a)
	}
	n.mark(a.gpus)
}

// release gives the room back. A device that the node last reported as leased by
// this task alone counts as free until the node says otherwise again.
func (n *node) release(a *attempt) {
	delete(n.attempts, a.key)
	n.used = n.used.Sub(a.res)
	n.releaseGPUs(a)
	n.Free = n.free()
	if a.device != functions.GPU {
		return
	}
	id := a.key.id()
	for i := range n.GPUs {
		if d := &n.GPUs[i]; slices.ContainsFunc(d.said.Leases, func(l functions.GPULease) bool { return l.Task == id }) {
			d.ended(id)
			d.describe(n.holders[d.UUID])
		}
	}
	n.countIdle()
}

func (n *node) releaseGPUs(a *attempt) {
	for _, g := range a.gpus {
		left := slices.DeleteFunc(n.holders[g], func(h *attempt) bool { return h == a })
		if n.holders[g] = left; len(left) == 0 {
			delete(n.holders, g)
		}
	}
	n.mark(a.gpus)
}

// mark describes some devices anew.
func (n *node) mark(uuids []string) {
	if len(uuids) == 0 {
		return
	}
	for i := range n.GPUs {
		if d := &n.GPUs[i]; slices.Contains(uuids, d.UUID) {
			d.describe(n.holders[d.UUID])
		}
	}
	n.countIdle()
}

// report takes over what the node says of itself.
func (n *node) report(info functions.NodeInfo, now time.Time) {
	n.heard, n.seen = true, now
	n.Boot, n.ready, n.reason, n.Capacity, n.Shares = info.Boot, info.Ready, info.Reason, info.Capacity, info.Shares
	n.GPUs, n.GPUHost = n.GPUs[:0], suitedBy(info.GPUHost, now)
	leased := map[functions.TaskID][]string{}
	for _, g := range info.GPUs {
		n.GPUs = append(n.GPUs, reported(g, info.GPUHost))
		for _, l := range g.Leases {
			leased[l.Task] = append(leased[l.Task], g.UUID)
		}
	}
	for id, uuids := range leased { // the node may have chosen other devices than we had in mind
		k, _ := keyOf(id)
		if a := n.attempts[k]; a != nil && a.device == functions.GPU && !slices.Equal(a.gpus, uuids) {
			n.releaseGPUs(a)
			a.gpus = uuids
			n.holdGPUs(a)
		}
	}
	for i := range n.GPUs {
		if held := n.holders[n.GPUs[i].UUID]; len(held) > 0 {
			n.GPUs[i].describe(held)
		}
	}
	n.countIdle()
	n.Free = n.free()
}

// suitedBy is what a node says of its GPUs, less what it says of images and has
// forgotten by now.
func suitedBy(h *functions.GPUHostInfo, now time.Time) *functions.GPUHostInfo {
	past := func(u functions.UnsuitedImage) bool { return !u.Until.IsZero() && !u.Until.After(now) }
	if h == nil || !slices.ContainsFunc(h.Unsuited, past) {
		return h
	}
	fresh := *h
	fresh.Unsuited = slices.DeleteFunc(slices.Clone(h.Unsuited), past)
	return &fresh
}

// countIdle sets Idle after the devices have changed.
func (r *room) countIdle() {
	r.Idle = 0
	for i := range r.GPUs {
		if r.GPUs[i].idle() {
			r.Idle++
		}
	}
}
