package scheduler

import (
	"context"
	"iter"
	"time"

	"github.com/spillway/spillway/functions"
)

// History reads what is known of earlier tasks: of each function, some of the
// newest that succeeded, the newest first.
type History interface {
	Succeeded(ctx context.Context, each int) iter.Seq2[functions.Task, error]
}

// recall teaches a new term what attempts took before it began.
func (t *term) recall(ctx context.Context) {
	if t.cfg.History == nil {
		return
	}
	for task, err := range t.cfg.History.Succeeded(ctx, maxSamples) {
		if err != nil {
			if ctx.Err() == nil {
				t.log.Warn("what tasks took before is not known", "err", err)
			}
			return
		}
		select {
		case t.asks <- func() { t.learn(&task, true) }: // the loop owns what is known
		case <-ctx.Done():
			return
		}
	}
}

// learn notes what the attempt took that ended a task with success.
func (t *term) learn(task *functions.Task, older bool) {
	a := task.Last()
	if a == nil || a.Failure != nil || a.EndedAt.IsZero() {
		return
	}
	s := sample{tookOf(a), a.EndedAt.Unix()}
	if s.took > 0 {
		t.estimates.learn(versionKey{task.Function, task.Version}, a.Device, sizeOf(task.Inputs), s, older)
	}
}

// tookOf is what an attempt took from its start to its end, by the node's clock
// if it has said so. The pull of an image is left out: the next attempt finds it.
func tookOf(a *functions.Attempt) (took time.Duration) {
	for _, p := range a.Phases {
		switch p.Phase {
		case functions.PhaseStage, functions.PhaseLaunch, functions.PhaseRun, functions.PhaseCollect:
			took += time.Duration(p.MS * float64(time.Millisecond))
		}
	}
	if took > 0 {
		return took
	}
	return a.EndedAt.Sub(a.StartedAt)
}
