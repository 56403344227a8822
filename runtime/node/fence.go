package node

import (
	"context"
	"time"

	"github.com/spillway/spillway/functions"
)

// fence kills what the node holds when no leader has granted its lease for
// Timings.Fence. Seconds later the leader gives the tasks to other nodes, and one
// task must not run twice at once. A grant counts from the moment its heartbeat
// was sent, which the leader cannot have heard earlier.
func (n *Node) fence(ctx context.Context) {
	began := n.cfg.Now()
	for functions.Sleep(ctx, n.time.Fence/40) {
		for _, a := range n.unleased(began) {
			n.cfg.Log.Warn("attempt fenced", "task", a.key.task, "attempt", a.key.attempt)
			a.stop(stopOrder{class: functions.NodeLost, message: "no scheduler has heard the node for " + n.time.Fence.String()})
		}
	}
}

// unleased returns every attempt when the lease has run out; a lease that was
// never granted runs from the agent's start.
func (n *Node) unleased(began time.Time) (all []*attempt) {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := n.granted
	if last.IsZero() {
		last = began
	}
	if n.cfg.Now().Sub(last) < n.time.Fence {
		return nil
	}
	for _, a := range n.attempts {
		if !a.fenced.Swap(true) {
			all = append(all, a)
		}
	}
	return all
}
