package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// exitReport is the answer of await.
type exitReport struct {
	exit  runtime.Exit
	err   error
	peak  functions.Bytes // memory, where it is known from the program itself
	unrun string          // why there was nothing to run
}

// wait follows the container to its exit, and makes it exit: at its deadline, by
// order, or when it writes too much. ended: it had exited before we looked.
// The failure is ours or the reason for which we stopped it, never its own.
func (n *Node) wait(ctx context.Context, a *attempt, id runtime.ID, ended bool) (exit runtime.Exit, peak functions.Bytes, fail *functions.Failure) {
	hold, done := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	defer group.Wait()
	defer done()

	exits := make(chan exitReport, 1)
	group.Go(func() {
		if a.instance != nil {
			exits <- n.awaitWarm(hold, a)
			return
		}
		exits <- n.await(hold, a, id)
	})
	over := make(chan *functions.Failure, 1)
	peaks := make(chan functions.Bytes, 1)
	var deadline <-chan time.Time
	if ended {
		peaks <- 0
	} else {
		group.Go(func() { peaks <- n.watch(hold, a, id, over) })
		timer := time.NewTimer(max(0, a.state.StartedAt.Add(a.spec.Timeout.Std()).Sub(n.cfg.Now())))
		defer timer.Stop()
		deadline = timer.C
	}
	defer func() { done(); peak = max(peak, <-peaks) }()

	grace := a.spec.Grace.Std()
	select {
	case e := <-exits:
		if e.unrun != "" {
			return e.exit, e.peak, &functions.Failure{Class: runtime.ClassifyRun(e.exit, false, "", false), Message: e.unrun, ExitCode: e.exit.Code}
		}
		return e.exit, e.peak, engineFailure(e.err)
	case fail = <-over:
		grace = 0 // it would only write on
	case <-deadline:
		fail = n.judge(a, runtime.Exit{}, true)
	case <-ctx.Done():
		o, ok := ordered(ctx)
		if !ok { // the agent stops, and the container runs on
			return exit, 0, &functions.Failure{Class: functions.Infra, Message: errStopping.Error()}
		}
		fail = o.failure()
		if !o.grace {
			grace = 0
		}
	}
	group.Go(func() { n.stopContainer(hold, id, grace) })
	patience := time.NewTimer(grace + n.time.Engine)
	defer patience.Stop()
	kill := a.orders.kill
	for {
		select {
		case e := <-exits:
			return e.exit, e.peak, fail
		case <-kill: // a fence, or a newer attempt of the task, does not wait out its grace
			kill = nil
			if grace > 0 {
				group.Go(func() { n.stopContainer(hold, id, 0) })
			}
			continue
		case <-patience.C: // the engine is away: the reason stands, the remover goes on
			n.removeLater(ctx, a, id)
		case <-n.leaving:
		}
		return exit, 0, fail
	}
}

// await waits through absences of the engine. After each it takes the output from
// its beginning again, because the copy broke off.
func (n *Node) await(ctx context.Context, a *attempt, id runtime.ID) exitReport {
	var away time.Time // since when the engine does not answer
	for {
		began := n.cfg.Now()
		exit, err := n.cfg.Driver.Wait(ctx, id)
		exit.EngineAway = exit.EngineAway || !away.IsZero()
		if err == nil || ctx.Err() != nil || !errors.Is(err, functions.ErrUnavailable) {
			return exitReport{exit: exit, err: err}
		}
		if away.IsZero() || n.cfg.Now().Sub(began) > n.time.Probe { // it was back in between
			away = n.cfg.Now()
			n.cfg.Log.Warn("engine away while a container runs", "task", a.key.task, "attempt", a.key.attempt, "err", err)
		}
		for {
			if n.cfg.Now().Sub(away) > n.time.Engine || !functions.Sleep(ctx, time.Second) {
				return exitReport{exit: exit, err: err}
			}
			stdout, stderr := a.output.streams()
			if err = n.cfg.Driver.Attach(ctx, id, runtime.Streams{Stdout: stdout, Stderr: stderr}); err == nil {
				break
			}
			if !errors.Is(err, functions.ErrUnavailable) {
				return exitReport{exit: exit, err: err}
			}
		}
	}
}

// stopContainer repeats itself until the engine has stopped the container.
func (n *Node) stopContainer(ctx context.Context, id runtime.ID, grace time.Duration) {
	for {
		bounded, cancel := context.WithTimeout(ctx, grace+undoTime)
		err := n.cfg.Driver.Stop(bounded, id, grace)
		cancel()
		if err == nil || !functions.Sleep(ctx, time.Second) {
			return
		}
		grace = 0
	}
}

// watch looks after a container that runs until ctx ends, and returns the most
// memory that was seen in use. Most have ended before there is a first look.
func (n *Node) watch(ctx context.Context, a *attempt, id runtime.ID, over chan<- *functions.Failure) functions.Bytes {
	first := min(n.time.Disk, n.time.Progress, firstUsage)
	if !functions.Sleep(ctx, first/2) {
		return 0
	}
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { n.watchDisk(ctx, a, over) })
	group.Go(func() { n.watchProgress(ctx, a) })
	return n.watchMemory(ctx, id)
}

// firstUsage is how long a container runs before it is asked what it uses.
const firstUsage = 250 * time.Millisecond

// watchMemory returns the most memory that was seen in use. Short tasks end
// before the first look: the engine's own peak, where it has one, is as of then.
func (n *Node) watchMemory(ctx context.Context, id runtime.ID) (peak functions.Bytes) {
	for every := firstUsage; functions.Sleep(ctx, every); every = min(2*every, 5*time.Second) {
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		u, err := n.cfg.Driver.Usage(bounded, id)
		cancel()
		if err == nil { // only a figure for people is lost otherwise
			peak = max(peak, u.Memory, u.PeakMemory)
		}
	}
	return peak
}

func engineFailure(err error) *functions.Failure {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, functions.ErrNotFound):
		return &functions.Failure{Class: functions.Infra, Message: "the container was removed while it ran", Hint: "somebody or something else removes containers on the node"}
	}
	return &functions.Failure{Class: functions.Infra, Message: "wait for the container: " + err.Error()}
}

// How a container ends by SIGTERM and by SIGKILL. Docker kills a container whose
// start request is cut off, as the death of an agent does, and a Docker that
// starts again ends those that it finds running. Neither is a fault of the
// function: the attempt is made again.
const (
	terminated = 128 + 15
	killed     = 128 + 9
)

// judge says what an exit means; nil is success.
func (n *Node) judge(a *attempt, exit runtime.Exit, deadline bool) *functions.Failure {
	class := runtime.ClassifyRun(exit, a.onGPU(), a.output.stderrTail(), deadline)
	if class == functions.Crashed && exit.Code == killed && a.adopted {
		return &functions.Failure{Class: functions.Infra, Phase: functions.PhaseLaunch, ExitCode: exit.Code,
			Message: "the node's agent ended while the container ran or was starting, and the engine killed it"}
	}
	if class == functions.Crashed && (exit.Code == killed || exit.Code == terminated) && exit.EngineAway {
		return &functions.Failure{Class: functions.Infra, Phase: functions.PhaseRun, ExitCode: exit.Code,
			Message: "the container engine went away while the container ran, and ended it when it came back"}
	}
	f := &functions.Failure{Class: class, Phase: functions.PhaseRun, ExitCode: exit.Code}
	switch class {
	case "":
		return nil
	case functions.TimedOutRun:
		f.Message = fmt.Sprintf("ran past its limit of %s", a.spec.Timeout)
	case functions.OutOfMemory:
		f.Message = fmt.Sprintf("used more than its %s of memory", a.spec.Limits.Memory)
	default:
		f.Message = fmt.Sprintf("ended with code %d", exit.Code)
		if line := a.output.lastError(); line != "" {
			f.Message += ": " + line
		}
	}
	return f
}
