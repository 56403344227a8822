package scheduler

import (
	"fmt"
	"time"

	"github.com/spillway/spillway/functions"
)

// reconcile lays a node's report beside the log's word and acts on every
// difference.
func (t *term) reconcile(hb *functions.Heartbeat) {
	n := t.node(hb.Node.ID)
	n.report(hb.Node, t.now)
	t.generation++
	t.refresh()
	delete(t.awaited, n.ID)

	listed := make(map[stray]bool, len(hb.Running))
	strays := map[stray]time.Time{}
	for _, r := range hb.Running {
		id := stray{r.Task, r.Attempt}
		listed[id] = true
		k, _ := keyOf(r.Task)
		if a := n.attempts[k]; (a != nil && a.number == r.Attempt) || r.Epoch > t.epoch {
			continue
		}
		strays[id] = t.stray(n, id)
	}
	n.strays = strays
	for _, a := range n.attempts {
		t.compare(n, a, listed[stray{a.key.id(), a.number}])
	}
}

// stray handles an attempt that runs without the log's leave: one that ended, or
// was given up. A report may be older than the log, so that the first sight is
// no proof. It returns when it was first seen.
func (t *term) stray(n *node, id stray) time.Time {
	first, again := n.strays[id]
	if !again {
		return t.now
	}
	if t.now.Sub(first) >= t.cfg.HeartbeatPeriod {
		t.kill(n, functions.Kill{Task: id.task, Attempt: id.attempt, Why: functions.NodeLost})
		return t.now // and again after another while
	}
	return first
}

// compare settles one attempt that the log has on a node.
func (t *term) compare(n *node, a *attempt, listed bool) {
	if listed {
		a.missing = time.Time{}
	} else if a.missing.IsZero() {
		a.missing = t.now
	}
	switch {
	case a.task == nil || a.judged || a.delivery == inLine || a.delivery == underway:
		// its order or its verdict is on the way
	case a.boot != n.Boot:
		t.lose(a, functions.Failure{Class: functions.NodeLost, Message: string(n.ID) + " restarted and lost the attempt"})
	case listed && a.canceling:
		if t.now.Sub(a.killed) >= killPause {
			t.kill(n, functions.Kill{Task: a.key.id(), Attempt: a.number, Why: functions.CanceledByUser})
			a.killed = t.now
		}
		fallthrough
	case listed:
		a.delivery, a.since = admitted, t.now
	case a.canceling:
		// Not there, or its end is on the way to the log.
		if t.now.Sub(later(a.since, a.killed)) >= t.cfg.HeartbeatFresh {
			t.lose(a, functions.Failure{Class: functions.CanceledByUser, Message: string(n.ID) + " does not have the attempt"})
		}
	case a.delivery == unsent, a.delivery == unanswered:
		// Once more, so that an end that is in the log already can be read.
		if t.now.Sub(later(a.missing, a.since)) >= t.cfg.HeartbeatPeriod/2 {
			t.order(a)
		}
	case t.now.Sub(later(a.missing, a.since)) >= t.cfg.HeartbeatFresh: // admitted, and gone without an end in the log
		t.log.Warn("order is repeated", "task", a.key.id(), "attempt", a.number, "node", n.ID)
		t.order(a)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// bury gives up the attempts of a node that was silent for too long. The node
// has stopped them itself by then.
func (t *term) bury(n *node, silent time.Duration) {
	for _, a := range n.attempts {
		if a.task != nil {
			t.lose(a, functions.Failure{
				Class: functions.NodeLost, Message: fmt.Sprintf("%s was silent for %s", n.ID, silent.Round(time.Second)),
			})
		}
	}
}
