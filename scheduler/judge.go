package scheduler

import (
	"fmt"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// judgeAnyway is after how long a failed task is settled although its function
// is not known here, as if it had no retries.
const judgeAnyway = time.Minute

// judge settles a task whose attempt has failed.
func (t *term) judge(s slot, task *functions.Task) {
	e := t.pool.at(s)
	v := t.version(task.Function, task.Version)
	last := task.Last()
	if !v.known && t.now.Sub(last.EndedAt) < judgeAnyway {
		own := *task
		t.undecided[s] = &own
		e.where = settling
		return
	}
	delete(t.undecided, s)
	e.where = settling
	f := functions.Failure{Class: functions.Infra, Message: "the node gave no reason"}
	if last.Failure != nil {
		f = *last.Failure
	}
	t.rule(task, follow(task, v.fn, f, t.viewFor(task, v)))
}

// lose settles an attempt that will send no end of its own, or whose end no
// longer counts.
func (t *term) lose(a *attempt, f functions.Failure) {
	if a.judged {
		return
	}
	a.judged = true
	ended := *a.task
	ended.Attempts = slices.Clone(ended.Attempts)
	ended.Last().Failure, ended.Last().EndedAt = &f, t.now
	verdict := functions.Verdict{Attempt: a.number, To: functions.Canceled, Why: gaveUp + f.Message}
	if !a.canceling {
		verdict = follow(&ended, a.version.fn, f, t.viewFor(&ended, a.version))
	}
	verdict.Failure = &f
	t.rule(a.task, verdict)
}

// rule puts a verdict into the outbox.
func (t *term) rule(task *functions.Task, v functions.Verdict) {
	v.Epoch = t.epoch
	t.log.Info("task settled", "task", task.ID, "attempt", v.Attempt, "to", v.To, "why", v.Why)
	t.verdicts = append(t.verdicts, functions.Event{Kind: functions.Release, Task: task.ID, At: t.now, Rel: &v})
}

// expireQueued ends the tasks that have waited for too long. Within a lane all
// have the same limit and the oldest is first.
func (t *term) expireQueued() {
	t.expiry = time.Time{}
	for _, lv := range t.queue.levels {
		for _, ln := range slices.Clone(lv.active) {
			for _, l := range ln.lanes {
				t.expireLane(l)
			}
		}
	}
}

func (t *term) expireLane(l *lane) {
	limit := l.version.queueTimeout()
	for l.n > 0 {
		due := time.Unix(0, t.pool.at(l.head).entered).Add(limit)
		if due.After(t.now) {
			t.expiry = earlier(t.expiry, due)
			return
		}
		s := l.head
		t.queue.remove(s)
		t.expire(s, functions.QueueExpired, fmt.Sprintf("no place was free in %s", limit))
	}
}

// expire ends a task that waited past its limit.
func (t *term) expire(s slot, class functions.Class, message string) {
	e := t.pool.at(s)
	e.where = settling
	hint := "raise queue_timeout, or add nodes"
	if class == functions.UploadExpired {
		hint = "ask for a new upload and send the bytes sooner"
	}
	id := e.key.id()
	t.rule(&functions.Task{ID: id}, functions.Verdict{
		Attempt: int(e.attempt), To: functions.Expired,
		Failure: &functions.Failure{Class: class, Message: message, Hint: hint, Phase: phaseOf(class)},
	})
}

// endOverdue ends the queued tasks that nothing but a GPU can run and that GPUs
// have failed for too long.
func (t *term) endOverdue() {
	for s, av := range t.queue.avoids {
		e := t.pool.at(s)
		v := t.versions[e.fn]
		if av.Since.IsZero() || e.where != waiting || e.demand != requiresGPU || !v.known || t.now.Before(v.lastGPU(requiresGPU, av)) {
			continue
		}
		t.queue.remove(s)
		e.where = settling
		_, within := v.fn.Budget(true)
		verdict := noMoreGPU(functions.Failure{Class: av.Fault, Phase: functions.PhaseQueue},
			fmt.Sprintf("a GPU is required and no other was had in %s since the first failed", within), av.Story)
		verdict.Attempt = int(e.attempt)
		t.rule(&functions.Task{ID: e.key.id()}, verdict)
	}
}

func phaseOf(class functions.Class) functions.Phase {
	if class == functions.UploadExpired {
		return functions.PhaseUploadWait
	}
	return functions.PhaseQueue
}
