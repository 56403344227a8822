package node

import (
	"context"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// run is the whole life of one attempt on this node. When the agent stops on the
// way, run returns at once and leaves everything as it is: files, container and
// promise. The next agent calls run with them again.
func (n *Node) run(work context.Context, a *attempt) {
	ctx, deaf := a.obey(work)
	defer deaf()
	defer a.letGo()

	var out functions.Outcome
	known := a.outcome != nil
	if known {
		out = *a.outcome
	} else {
		out = n.execute(ctx, a)
		if n.left() { // what came of it is the next agent's to find out
			return
		}
		n.cfg.Log.Info("attempt ended", "task", a.key.task, "attempt", a.key.attempt, "class", classOf(out))
		if err := a.folder.note(entry{Outcome: &out}); err != nil {
			n.cfg.Log.Warn("outcome not kept on disk", "task", a.key.task, "attempt", a.key.attempt, "err", err)
		}
	}
	if !known {
		n.blame(a, out.Failure)
	}
	if !n.finish(work, a, out) {
		return
	}
	n.giveBackGPUs(work, a)
	n.forget(a)
	id := runtime.ID(out.Container)
	if a.spec.Contract.Serves() { // it serves other tasks, or is ended by who keeps it
		id = ""
	}
	n.discard(work, a, id, out.Failure == nil)
}

// execute takes the attempt from wherever it stands to its outcome.
func (n *Node) execute(ctx context.Context, a *attempt) (out functions.Outcome) {
	defer func() {
		n.noteUnseen(a)
		out.GPUs = a.Leased
		if n.left() {
			return
		}
		if out.Failure != nil {
			out.Failure.Hint = hint(out.Failure)
		}
		out.Phases, out.Warm = a.state.Phases, a.state.Warm
		out.Log, out.LogTail = n.closeLog(ctx, a)
	}()

	if a.spec.Contract.Serves() {
		n.serve(ctx, a, &out)
		return out
	}
	id, ended, fail := n.adopt(ctx, a)
	if fail == nil && id == "" {
		id, fail = n.start(ctx, a)
	}
	out.Container = string(id)
	if fail != nil {
		out.Failure = fail
		return out
	}

	n.ranOn(a, id)
	var exit runtime.Exit
	fail = n.timed(ctx, a, functions.PhaseRun, func() (f *functions.Failure) {
		exit, out.PeakMemory, f = n.wait(ctx, a, id, ended)
		return f
	})
	out.ExitCode = exit.Code
	if fail == nil {
		fail = n.judge(a, exit, false)
	}
	if fail != nil && !a.spec.KeepFailed {
		fail.ExitCode = exit.Code
		out.Failure = n.explain(a, fail)
		return out
	}
	out.Failure = fail
	fail = n.timed(ctx, a, functions.PhaseCollect, func() *functions.Failure { return n.collect(ctx, a, &out) })
	if out.Failure != nil { // its own failure counts, not that of keeping what it left
		out.Failure.ExitCode = exit.Code
		out.Failure = n.explain(a, out.Failure)
		return out
	}
	out.Failure = fail
	return out
}

// start makes a container for the attempt and starts it, or takes one that has
// been started.
func (n *Node) start(ctx context.Context, a *attempt) (id runtime.ID, fail *functions.Failure) {
	a.state = state{}
	if id, fail, ok := n.startIn(ctx, a); ok {
		return id, fail
	}
	var event []byte
	fail = n.timed(ctx, a, functions.PhaseStage, func() (f *functions.Failure) {
		event, f = n.stage(ctx, a)
		return f
	})
	if fail != nil {
		return "", fail
	}
	fail = n.timed(ctx, a, functions.PhasePull, func() *functions.Failure { return n.pull(ctx, a) })
	if fail != nil {
		return "", fail
	}
	fail = n.timed(ctx, a, functions.PhaseLaunch, func() (f *functions.Failure) {
		if f = n.readyGPUs(ctx, a); f == nil {
			id, f = n.launch(ctx, a, event)
		}
		return f
	})
	return id, fail
}

// ranOn notes that the attempt's program runs.
func (n *Node) ranOn(a *attempt, id runtime.ID) {
	n.mu.Lock()
	n.ranIn = a.spec.Image
	n.mu.Unlock()
	if a.onGPU() {
		a.placed(id, n.cfg.Now())
	}
}

// timed runs one phase, measures it and says where it failed. A phase that fails
// after an order to stop has failed because of the order.
func (n *Node) timed(ctx context.Context, a *attempt, p functions.Phase, phase func() *functions.Failure) *functions.Failure {
	a.enter(p)
	news := time.AfterFunc(passing, func() { n.tell(a, p) })
	defer news.Stop()
	began := n.cfg.Now()
	fail := phase()
	took := n.cfg.Now().Sub(began)
	a.state.Phases = append(a.state.Phases, functions.Span{Phase: p, MS: float64(took) / float64(time.Millisecond)})
	if fail == nil {
		return nil
	}
	if o, ok := ordered(ctx); ok {
		fail = o.failure()
	}
	fail.Phase = p
	return fail
}

// passing is how long a phase may take before anybody is told of it. Most are over
// by then, and what they were was worth no message.
const passing = 20 * time.Millisecond

// tell says that an attempt is in a phase, unless it has left it meanwhile.
func (n *Node) tell(a *attempt, p functions.Phase) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != p {
		return
	}
	n.changed()
	n.cfg.Link.Progress(functions.Progress{Task: a.key.task, Attempt: a.key.attempt, Phase: p, At: n.cfg.Now()})
}

// classOf is empty for success.
func classOf(out functions.Outcome) functions.Class {
	if out.Failure == nil {
		return ""
	}
	return out.Failure.Class
}

// hint keeps the hint that a phase gave.
func hint(f *functions.Failure) string {
	if f.Hint != "" {
		return f.Hint
	}
	return runtime.Hint(f.Class, f.Message)
}
