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
	holders  map[string]*attempt // by device
	strays   map[stray]time.Time // listed attempts that the log does not know: when first seen
	sendq    []*attempt          // orders that wait for their turn
	sending  int                 // orders on their way
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
	return a.version.fn.Claim()
}

func newNode(id functions.NodeID, now time.Time) *node {
	return &node{
		room: room{ID: id}, seen: now,
		attempts: map[key]*attempt{}, holders: map[string]*attempt{}, strays: map[stray]time.Time{},
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
		n.holders[g] = a
	}
	n.mark()
}

// release gives the room back. A device that the node last reported as leased
// by this task counts as free until the node says otherwise again.
func (n *node) release(a *attempt) {
	delete(n.attempts, a.key)
	n.used = n.used.Sub(a.res)
	n.releaseGPUs(a)
	id := a.key.id()
	for i := range n.GPUs {
		d := &n.GPUs[i]
		d.Leases = slices.DeleteFunc(slices.Clone(d.Leases), func(l functions.GPULease) bool { return l.Task == id })
		if d.State == functions.GPULeased && len(d.Leases) == 0 {
			d.State = functions.GPUFree
		}
	}
	n.mark()
	n.Free = n.free()
}

func (n *node) releaseGPUs(a *attempt) {
	for _, g := range a.gpus {
		if n.holders[g] == a {
			delete(n.holders, g)
		}
	}
}

func (n *node) mark() {
	for i := range n.GPUs {
		n.GPUs[i].Busy = n.holders[n.GPUs[i].UUID] != nil
	}
	n.countIdle()
}

// report takes over what the node says of itself.
func (n *node) report(info functions.NodeInfo, now time.Time) {
	n.heard, n.seen = true, now
	n.Boot, n.ready, n.reason, n.Capacity, n.Shares = info.Boot, info.Ready, info.Reason, info.Capacity, info.Shares
	n.GPUs = n.GPUs[:0]
	leased := map[functions.TaskID][]string{}
	for _, g := range info.GPUs {
		n.GPUs = append(n.GPUs, device{GPUInfo: g})
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
	n.mark()
	n.Free = n.free()
}
