package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// mostWait is the longest pause between two tries of what must succeed in the end.
const mostWait = 5 * time.Second

// finish writes the outcome to the log, however long the log is away: the
// container and its files are the node's outbox until then. It reports false
// when the agent stops first.
func (n *Node) finish(work context.Context, a *attempt, out functions.Outcome) bool {
	id := fmt.Sprintf("fin-%s-%d", a.key.task, a.key.attempt)
	event := func() functions.Event {
		return functions.Event{
			Kind: functions.Finish, Task: a.key.task, At: n.cfg.Now(),
			Fin: &functions.Closing{Attempt: a.key.attempt, Node: n.cfg.ID, Outcome: out},
		}
	}
	defer a.syncLater(n.cfg.Log)()
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, mostWait) {
		_, err := n.cfg.Link.Append(work, id, event())
		switch {
		case err == nil:
			return true
		case errors.Is(err, functions.ErrInvalid), errors.Is(err, functions.ErrTooLarge):
			// Never accepted as it is: say so in its place. The outputs are stored.
			if out.Failure == nil || out.Failure.Class != functions.BadOutput {
				out = functions.Outcome{
					Failure:  &functions.Failure{Class: functions.BadOutput, Phase: functions.PhaseCollect, Message: "the outcome does not fit into the log: " + err.Error()},
					ExitCode: out.ExitCode, Log: out.Log, Phases: out.Phases, GPUs: out.GPUs, Container: out.Container,
				}
			}
		}
		n.cfg.Log.Warn("fin event not logged yet", "task", a.key.task, "attempt", a.key.attempt, "err", err)
		if !functions.Sleep(work, wait) {
			return false
		}
	}
}

// syncLater makes the outcome outlive a crash of the machine when the log does not
// take it soon: it may be all that is left of hours of work. Call what it returns
// when the log has it.
func (a *attempt) syncLater(log *slog.Logger) (logged func()) {
	const soon = 200 * time.Millisecond
	synced := make(chan struct{})
	timer := time.AfterFunc(soon, func() {
		defer close(synced)
		if err := errors.Join(a.folder.sync(), a.folder.syncNames()); err != nil {
			log.Warn("outcome not synced", "task", a.key.task, "attempt", a.key.attempt, "err", err)
		}
	})
	return func() {
		if !timer.Stop() {
			<-synced
		}
	}
}

// forget gives the slot back and remembers that the attempt is done.
func (n *Node) forget(a *attempt) {
	n.giveBack(a)
	n.mu.Lock()
	now := n.cfg.Now()
	n.ended[a.key] = now
	n.endings = append(n.endings, a.key)
	for len(n.endings) > 0 && now.Sub(n.ended[n.endings[0]]) > rememberEnded {
		delete(n.ended, n.endings[0])
		n.endings = n.endings[1:]
	}
	n.mu.Unlock()
	n.changed()
}

// removeDelay is how long a container is left after the end of its attempt: while
// who waits for the result gets it, the machine has nothing heavier to do.
const removeDelay = 20 * time.Millisecond

// discard removes what is left of an attempt that is in the log. The promise goes
// first: an agent that dies here must not run the attempt again.
//
// reuse: nothing but a container that is known can have seen the folder.
func (n *Node) discard(ctx context.Context, a *attempt, id runtime.ID, reuse bool) {
	n.discarding.Add(1)
	defer n.discarding.Add(-1)
	if err := a.folder.forget(); err != nil {
		n.cfg.Log.Warn("promise not removed", "task", a.key.task, "attempt", a.key.attempt, "err", err)
	}
	if id != "" {
		functions.Sleep(ctx, removeDelay) // when the agent stops, at once
		if !n.remove(ctx, id) {
			reuse = false
		}
	}
	if a.instance != nil {
		a.instance.forget(reuse)
	}
	if reuse && n.blanks.giveBack(a.Assignment.Function.Name, a.folder) {
		return
	}
	// A program that was killed in the middle of a write may leave one more file.
	n.insist(ctx, func(context.Context) error { return a.folder.removeAll() },
		"task folder not removed yet", "task", a.key.task, "attempt", a.key.attempt)
}

// tidyGrace is how long a stop waits for removals that have begun. What is not
// gone by then is left to the next agent; but there may be none for long.
const tidyGrace = 5 * time.Second

// tidy waits for the removals that have begun, those of warm containers among them.
func (n *Node) tidy(ctx context.Context, cold <-chan struct{}) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyGrace)
	defer cancel()
	select {
	case <-cold:
	case <-ctx.Done():
	}
	for n.discarding.Load() > 0 && functions.Sleep(ctx, 20*time.Millisecond) {
	}
}

// remove deletes a container, and reports whether it is gone. One that stays is
// found by the next agent by its labels.
func (n *Node) remove(ctx context.Context, id runtime.ID) bool {
	return n.insist(ctx, func(ctx context.Context) error { return n.cfg.Driver.Remove(ctx, id) }, "container not removed yet", "container", id)
}

// insist repeats an undoing until it succeeds, or reports false when the agent
// stops first. what and args tell the log of what failed.
func (n *Node) insist(ctx context.Context, undo func(ctx context.Context) error, what string, args ...any) bool {
	ctx, done := n.outlive(ctx)
	defer done()
	for wait := time.Second; !n.left(); wait = min(2*wait, undoTime) {
		bounded, cancel := context.WithTimeout(ctx, undoTime)
		err := undo(bounded)
		cancel()
		if err == nil {
			return true
		}
		n.cfg.Log.Warn(what, append(args, "err", err)...)
		if !functions.Sleep(ctx, wait) {
			break
		}
	}
	return false
}

// outlive returns a context for what follows an attempt's end: orders to the
// attempt do not reach it, the agent's stop does.
func (n *Node) outlive(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(n.stay, func() { cancel(errStopping) })
	return ctx, func() { stop(); cancel(nil) }
}
