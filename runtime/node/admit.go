package node

import (
	"context"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu"
)

// rememberEnded is how long a finished attempt is remembered. A leader may order
// it again while it has not read the fin event yet: seconds at most.
const rememberEnded = 10 * time.Minute

// Admit takes an attempt, or refuses it. nil means that the node holds it: its
// assignment is on disk and will be run, now or by the next agent. The same
// attempt again is nil as well, and does nothing.
//
// A refusal is ErrThrottled (no_room, no_gpu, not_ready, disk), ErrConflict
// (stale_boot, stale_epoch, stale_attempt), ErrUnavailable (stopping, no_lease)
// or ErrInvalid.
func (n *Node) Admit(ctx context.Context, order functions.Assignment) error {
	if order.Device == functions.GPU {
		n.read(ctx, freshReading) // the lease is decided by what is free now
	}
	a, err := n.reserve(order)
	if err != nil || a == nil {
		return err
	}
	if err := a.persist(n.blanks); err != nil {
		n.withdraw(a)
		return functions.NewError(functions.ErrThrottled, "disk", "the node cannot write down the assignment").WithCause(err)
	}
	leased := a.Leased // once it is started, the attempt's own
	select {
	case n.starts <- a:
		n.cfg.Log.Info("attempt admitted", "task", a.key.task, "attempt", a.key.attempt, "device", order.Device, "gpus", leased)
		n.changed()
		return nil
	case <-n.closed:
	case <-ctx.Done():
	}
	n.withdraw(a)
	return functions.Unavailable("stopping", "the node's agent is stopping")
}

// reserve is all of the decision; it returns nil for an attempt that is held.
func (n *Node) reserve(order functions.Assignment) (*attempt, error) {
	if err := checkOrder(order); err != nil {
		return nil, err
	}
	ready, why := n.ready()
	n.mu.Lock()
	defer n.mu.Unlock()
	k := key{order.Task.ID, order.Attempt}
	_, ended := n.ended[k]
	need := order.Function.Needs(order.Device)
	switch {
	case !n.opened:
		return nil, functions.Unavailable("stopping", "the node's agent is starting or stopping")
	case order.Boot != n.boot.Boot:
		return nil, functions.Conflict("stale_boot", "the order is for boot %s of the node, which is now %s", order.Boot, n.boot.Boot)
	case order.Epoch < n.boot.Epoch:
		return nil, functions.Conflict("stale_epoch", "the order is of epoch %d, and the node has seen %d", order.Epoch, n.boot.Epoch)
	case ended || n.attempts[k] != nil:
		return nil, nil
	case n.cfg.Now().Sub(n.granted) > n.time.Fence/2:
		return nil, functions.Unavailable("no_lease", "no leader has heard the node lately")
	case !ready:
		return nil, functions.NewError(functions.ErrThrottled, "not_ready", "%s", why)
	case !need.Fits(n.cfg.Capacity.Sub(n.used)):
		return nil, functions.NewError(functions.ErrThrottled, "no_room", "the node has no room for the task")
	}
	for other, a := range n.attempts {
		if other.task != k.task {
			continue
		}
		if other.attempt > k.attempt {
			return nil, functions.Conflict("stale_attempt", "the node runs attempt %d of the task", other.attempt)
		}
		a.stop(stopOrder{class: functions.NodeLost, message: "a newer attempt of the task came to the node"})
	}
	// The one write under the mutex: once for each new leader, and no order of the
	// one before may pass it.
	if err := n.boot.sawEpoch(n.cfg.DataDir, order.Epoch); err != nil {
		return nil, functions.NewError(functions.ErrThrottled, "disk", "the node cannot write down the epoch").WithCause(err)
	}
	a := newAttempt(n.cfg.DataDir, record{Assignment: order})
	if order.Device == functions.GPU {
		if err := n.lease(a); err != nil {
			return nil, err
		}
	}
	n.attempts[k] = a
	n.used = n.used.Add(need)
	return a, nil
}

// lease gives the attempt its devices.
func (n *Node) lease(a *attempt) (err error) {
	if n.cfg.GPUs == nil {
		return functions.NewError(functions.ErrThrottled, "no_gpu", "the node has no GPU")
	}
	// A container that waits for the task is worth more than what the leader had in
	// mind, which cannot know of it.
	prefer := append(n.served.Waits(a.serveKey()), a.Assignment.GPUs...)
	a.devices, a.release, err = n.cfg.GPUs.Acquire(a.key.task, a.Assignment.Asks(), prefer)
	for _, d := range a.devices {
		a.Leased = append(a.Leased, d.UUID)
	}
	if err != nil { // a container that waits may hold the memory: the next order finds it free
		ended := n.served.Free(a.serveKey(), a.Assignment.GPUs)
		if n.cfg.Readings != nil {
			n.group.Go(func() {
				ended()
				n.read(n.stay, 0)
			})
		}
	}
	return err
}

// withdraw undoes reserve and persist for an attempt that never started.
func (n *Node) withdraw(a *attempt) {
	if err := a.folder.removeAll(); err != nil {
		n.cfg.Log.Warn("task folder not removed", "task", a.key.task, "attempt", a.key.attempt, "err", err)
	}
	a.release()
	n.giveBack(a)
}

// giveBack returns the room of an attempt that the node holds no longer.
func (n *Node) giveBack(a *attempt) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.attempts[a.key] == a {
		delete(n.attempts, a.key)
		n.used = n.used.Sub(a.Assignment.Function.Needs(a.Assignment.Device))
	}
}

// checkOrder refuses what could lead the node out of its folder.
func checkOrder(order functions.Assignment) error {
	if err := order.Task.ID.Validate(); err != nil {
		return err
	}
	if order.Attempt < 1 || (order.Device != functions.CPU && order.Device != functions.GPU) {
		return functions.Invalid("bad_assignment", "attempt %d on device %q cannot be run", order.Attempt, order.Device)
	}
	names := make(map[string]bool)
	for _, in := range order.Task.Inputs {
		if err := functions.FileName(in.Name); err != nil {
			return err
		}
		if names[in.Name] {
			return functions.Invalid("bad_assignment", "two inputs have the name %q", in.Name)
		}
		names[in.Name] = true
	}
	return nil
}

// Kill stops an attempt: SIGTERM and its grace for a client's wish, SIGKILL for
// anything else. It returns at once; the fin event tells when it is done. An
// attempt that the node does not hold is ErrNotFound.
func (n *Node) Kill(_ context.Context, k functions.Kill) error {
	n.mu.Lock()
	a := n.attempts[key{k.Task, k.Attempt}]
	n.mu.Unlock()
	if a == nil {
		return functions.NotFound("no_such_attempt", "attempt %d of task %s is not on this node", k.Attempt, k.Task)
	}
	o := stopOrder{class: k.Why, message: "stopped by order of the scheduler"}
	switch k.Why {
	case functions.CanceledByUser, "":
		o = stopOrder{class: functions.CanceledByUser, message: "canceled by request", grace: true}
	}
	a.stop(o)
	return nil
}

// engineIDs are the devices of an attempt as the engine knows them.
func engineIDs(devices []functions.GPUInfo) (ids []string) {
	for _, d := range devices {
		ids = append(ids, gpu.EngineID(d))
	}
	return ids
}
