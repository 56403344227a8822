package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// takeWarm gets the attempt a warm container, if its function keeps some. Without
// one it starts cold: that is no failure.
func (n *Node) takeWarm(ctx context.Context, a *attempt) *instance {
	if n.warm.pool == nil || a.onGPU() || a.spec.Contract != functions.TaskContract {
		return nil
	}
	k, ok := n.warm.learn(a.Assignment.Function)
	if err := n.warm.save(); err != nil {
		n.cfg.Log.Warn("list of warm functions not kept on disk", "err", err)
	}
	if !ok || slices.ContainsFunc(a.Assignment.Task.Inputs, func(in functions.Input) bool { return in.File != "" }) {
		return nil // a file of a share is mounted by itself, and that is decided when a container is made
	}
	bounded, cancel := context.WithTimeoutCause(ctx, n.time.Launch, functions.ErrTimeout)
	defer cancel()
	asked := n.cfg.Now()
	i, err := n.warm.pool.Get(bounded, k)
	if err != nil {
		n.cfg.Log.Debug("no warm container for the task", "task", a.key.task, "function", k, "err", err)
		return nil
	}
	i.early = i.ready.Before(asked)
	return i
}

// startIn starts the attempt in a warm container. It reports false when there is
// none, or when handing over failed: then the attempt starts cold, as if nothing
// had been. Once the orders are out, what comes is the attempt's own fate.
func (n *Node) startIn(ctx context.Context, a *attempt) (runtime.ID, *functions.Failure, bool) {
	began := n.cfg.Now()
	i := n.takeWarm(ctx, a)
	if i == nil {
		return "", nil, false
	}
	waited := n.cfg.Now().Sub(began)
	a.instance = i
	var event []byte
	fail := n.timed(ctx, a, functions.PhaseStage, func() (f *functions.Failure) {
		event, f = n.stage(ctx, a)
		return f
	})
	if fail != nil {
		a.instance = nil
		n.group.Go(i.Close)
		return "", fail, true
	}
	var err error
	fail = n.timed(ctx, a, functions.PhaseLaunch, func() (f *functions.Failure) {
		f, err = n.handOver(ctx, a, i, event)
		return f
	})
	if err == nil && fail == nil {
		launch := &a.state.Phases[len(a.state.Phases)-1]
		launch.MS += float64(waited) / float64(time.Millisecond)
		return i.id, nil, true
	}
	a.instance = nil
	closed := make(chan struct{})
	n.group.Go(func() { defer close(closed); i.Close() })
	if err == nil {
		return "", fail, true
	}
	select {
	case <-closed: // before another starts: part of the orders may have come
	case <-ctx.Done():
		fail = &functions.Failure{Class: functions.Infra, Phase: functions.PhaseLaunch, Message: err.Error()}
		if o, ok := ordered(ctx); ok {
			fail = o.failure()
		}
		return "", fail, true
	}
	n.cfg.Log.Warn("warm container not taken", "task", a.key.task, "attempt", a.key.attempt, "container", i.id, "err", err)
	a.state = state{}
	if err := a.folder.note(entry{State: &a.state}); err != nil {
		return "", diskFailure("write down a new start", err), true
	}
	return "", nil, false
}

// handOver gives the orders. A failure is the task's own, an error one of the
// container.
func (n *Node) handOver(ctx context.Context, a *attempt, i *instance, event []byte) (*functions.Failure, error) {
	if ctx.Err() != nil {
		return &functions.Failure{Class: functions.Infra, Message: context.Cause(ctx).Error()}, nil
	}
	began := n.cfg.Now()
	orders, err := ordersOf(a.Assignment, i.image, began.Add(a.spec.Timeout.Std()))
	if err != nil {
		return &functions.Failure{Class: functions.Permanent, Message: err.Error()}, nil
	}
	// Before the orders: the next agent must find the container of a program that
	// runs, and not give it a second deadline.
	a.state.StartedAt, a.state.Container, a.state.Warm = began, i.id, i.early
	if err := a.folder.note(entry{State: &a.state}); err != nil {
		return diskFailure("write down the start", err), nil
	}
	stdout, stderr := a.output.streams()
	return nil, i.session.Start(orders, runtime.Streams{Stdin: event, Stdout: stdout, Stderr: stderr})
}

// ordersOf says what an attempt runs in a container made from an image, as the
// engine itself would find it out.
func ordersOf(as functions.Assignment, image runtime.Image, deadline time.Time) (wire.Orders, error) {
	s := as.Function.Spec.WithDefaults().On(as.Device)
	argv, err := fill(image.Argv(s.Entrypoint, s.Command), as.Task)
	return wire.Orders{Argv: argv, Env: environment(as, s, nil, deadline)}, err
}

// askEngine is how long the engine may take to say how a container ended that has
// told so itself.
const askEngine = 5 * time.Second

// awaitWarm waits for the program's own report, which comes long before the
// engine's. The engine is asked when it may know more, of a program that failed,
// and when others of its processes are alive, which must not write any more when
// the outputs are collected.
func (n *Node) awaitWarm(ctx context.Context, a *attempt) exitReport {
	i := a.instance
	report, err := i.session.Wait(ctx)
	if err != nil && ctx.Err() != nil {
		return exitReport{err: err}
	}
	if err != nil { // killed, with the entry program: the engine has the output and knows the rest
		bounded, cancel := context.WithTimeout(ctx, undoTime)
		defer cancel()
		stdout, stderr := a.output.streams()
		if err := n.cfg.Driver.Attach(bounded, i.id, runtime.Streams{Stdout: stdout, Stderr: stderr}); err != nil && !errors.Is(err, functions.ErrUnavailable) {
			return exitReport{err: err}
		}
		return n.await(ctx, a, i.id)
	}
	e := exitReport{exit: runtime.Exit{Code: report.Exit}, peak: functions.Bytes(report.MaxRSS), unrun: report.Error}
	if report.Exit == 0 && !report.Left || report.Error != "" {
		return e
	}
	bounded, cancel := context.WithTimeout(ctx, askEngine)
	defer cancel()
	if exit, err := n.cfg.Driver.Wait(bounded, i.id); err == nil {
		e.exit.OOMKilled, e.exit.EngineAway = exit.OOMKilled, exit.EngineAway
	}
	return e
}

// letGo ends the node's hold of a warm container. What runs in it runs on.
func (a *attempt) letGo() {
	if a.instance != nil {
		_ = a.instance.session.Close() // its end is known, or the next agent's to find out
	}
}

// neverOrdered reports whether a warm container's entry program has ended without
// orders: the agent before died between the note of the start and the start.
func (n *Node) neverOrdered(ctx context.Context, a *attempt, c runtime.Info) (bool, error) {
	if a.state.Container != c.ID || c.State != runtime.Exited {
		return false, nil
	}
	exit, err := n.cfg.Driver.Wait(ctx, c.ID)
	return exit.Code == wire.ExitFault, err
}
