package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/spillway/spillway/functions"
)

// maxOrders bounds the orders on their way to one node, so that one that does
// not answer holds up itself alone.
const maxOrders = 32

// killPause is how often a kill is repeated while the node still lists the
// attempt: a kill takes the container's grace.
const killPause = time.Second

// answer is what a node said to the order to run an attempt.
type answer struct {
	a   *attempt
	err error
}

// order queues the order for an attempt that was read back from the log.
func (t *term) order(a *attempt) {
	if a.delivery == inLine || a.delivery == underway {
		return
	}
	a.delivery, a.since = inLine, t.now
	a.node.sendq = append(a.node.sendq, a)
}

// post sends what stands in line.
func (t *term) post(ctx context.Context) {
	for _, k := range t.kills {
		t.deliverKill(ctx, k)
	}
	t.kills = t.kills[:0]
	for _, n := range t.nodes {
		for n.sending < maxOrders && len(n.sendq) > 0 {
			a := n.sendq[0]
			n.sendq = n.sendq[1:]
			if t.attempts[a.slot] != a || a.canceling || !t.lookup(a.version) {
				a.delivery = unanswered // reconciliation sees to it
				continue
			}
			a.delivery, a.since = underway, t.now
			n.sending++
			t.deliver(ctx, a)
		}
	}
}

func (t *term) deliver(ctx context.Context, a *attempt) {
	last := a.task.Last()
	node, order := a.node.ID, functions.Assignment{
		Epoch: t.epoch, Attempt: a.number, Boot: a.boot, Device: a.device, GPUs: last.GPUs, Claim: a.claim(),
		Task: *a.task, Function: a.version.fn,
	}
	t.orders.Go(func() error {
		ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.DispatchTimeout, functions.ErrTimeout)
		defer cancel()
		t.inbox.putAnswer(answer{a, t.cfg.Nodes.Run(ctx, node, order)})
		return nil
	})
}

// answered takes in what a node said.
func (t *term) answered(r answer) {
	a := r.a
	a.node.sending--
	if t.attempts[a.slot] != a {
		return // it ended, or was settled, meanwhile
	}
	a.since = t.now
	switch {
	case r.err == nil:
		a.delivery = admitted
	case refused(r.err):
		t.log.Info("node refused an attempt", "task", a.key.id(), "attempt", a.number, "node", a.node.ID, "err", r.err)
		t.lose(a, functions.Failure{Class: functions.Refused, Message: string(a.node.ID) + " refused: " + r.err.Error()})
	default:
		a.delivery = unanswered
		t.log.Warn("node did not answer", "task", a.key.id(), "attempt", a.number, "node", a.node.ID, "err", r.err)
	}
}

// refused tells a node's no from silence.
func refused(err error) bool {
	if errors.Is(err, functions.ErrUnavailable) || errors.Is(err, functions.ErrTimeout) {
		return false
	}
	for _, class := range []error{
		functions.ErrThrottled, functions.ErrConflict, functions.ErrInvalid, functions.ErrNotFound,
		functions.ErrStale, functions.ErrForbidden, functions.ErrTooLarge,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// cancel stops an attempt on request. One that was never ordered ends at once.
func (t *term) cancel(a *attempt) {
	a.canceling = true
	if a.delivery == inLine {
		t.lose(a, functions.Failure{Class: functions.CanceledByUser, Message: "canceled before the node was told"})
		return
	}
	t.kill(a.node, functions.Kill{Task: a.key.id(), Attempt: a.number, Why: functions.CanceledByUser})
	a.killed = t.now
}

// killOrder is an order to stop an attempt.
type killOrder struct {
	node functions.NodeID
	functions.Kill
}

// kill orders a node to stop an attempt. Its end shows in the log or in the next
// heartbeats, so the answer is of no consequence.
func (t *term) kill(n *node, k functions.Kill) {
	t.kills = append(t.kills, killOrder{n.ID, k})
}

func (t *term) deliverKill(ctx context.Context, k killOrder) {
	t.orders.Go(func() error {
		ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.DispatchTimeout, functions.ErrTimeout)
		defer cancel()
		if err := t.cfg.Nodes.Kill(ctx, k.node, k.Kill); err != nil {
			t.log.Info("kill was not taken", "task", k.Task, "attempt", k.Attempt, "node", k.node, "err", err)
		}
		return nil
	})
}
