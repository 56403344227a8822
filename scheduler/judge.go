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

// expireQueued ends the tasks that have waited for too long.
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

// expireLane looks at the first task alone where that is the first to be due: all
// of a lane have one limit, and their waits began in the lane's order. Only tasks
// that came back from an attempt with a limit on their whole age stand in another.
func (t *term) expireLane(l *lane) {
	for s := l.head; s != none; {
		e := t.pool.at(s)
		next := e.next
		if due := l.due(e); due.After(t.now) {
			t.expiry = earlier(t.expiry, due)
			if l.age == 0 || !l.front {
				return
			}
		} else {
			t.queue.remove(s)
			t.expire(s, functions.QueueExpired, l.overdue())
		}
		s = next
	}
}

// due is when a task of the lane expires.
func (l *lane) due(e *entry) time.Time { return time.Unix(0, e.entered).Add(l.limit()) }

// limit is how long a task of the lane may wait.
func (l *lane) limit() time.Duration {
	if l.age > 0 {
		return time.Duration(l.age) * time.Second
	}
	return l.version.queueTimeout()
}

func (l *lane) overdue() string {
	if l.age > 0 {
		return fmt.Sprintf("no place was free before it was %s old, its limit", l.limit())
	}
	return fmt.Sprintf("no place was free in %s", l.limit())
}

// expire ends a task that waited past its limit.
func (t *term) expire(s slot, class functions.Class, message string) {
	e := t.pool.at(s)
	e.where = settling
	hint := "raise queue_timeout, or the age that the call allows, or add nodes"
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
