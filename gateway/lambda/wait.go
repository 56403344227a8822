package lambda

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/devices"
)

// run carries out a synchronous invocation: it waits for the task's end, however
// long the function may run, and answers with its result.
func (a *API) run(w http.ResponseWriter, q *request, in *invocation) *apiError {
	watch := a.cfg.Feed.Watch(q.id) // before the task exists, so that its end cannot be missed
	defer func() { watch.Leave() }()
	t, e := a.accept(w, q, in)
	if e != nil {
		return e
	}
	if t.ID != in.call.ID { // another try's, which may have ended
		if e := a.follow(q.Context(), &watch, &t); e != nil {
			return e
		}
	}
	if e := a.wait(q, &watch, &t); e != nil {
		if !t.State.Final() {
			devices.Headers(w.Header(), &t)
		}
		return e
	}
	return a.finish(w, q, in, &t)
}

// follow begins to watch a task anew and reads how it stands.
func (a *API) follow(ctx context.Context, watch *Watch, t *functions.Task) *apiError {
	(*watch).Leave()
	*watch = a.cfg.Feed.Watch(t.ID)
	now, err := a.cfg.Tasks.Task(ctx, t.ID)
	if err != nil {
		return problemOf(err)
	}
	*t = now
	return nil
}

// lookAfter is how long a task has waited when it is asked whether any node can
// run it at all.
const lookAfter = time.Second

// wait follows t to its end. A task that has not been started in time is
// throttled, and one that no node can run is not waited for.
func (a *API) wait(q *request, watch *Watch, t *functions.Task) *apiError {
	looked := false
	start := time.Now()
	for !t.State.Final() {
		ctx, cancel := q.Context(), context.CancelFunc(func() {})
		if waiting(t) {
			patience := a.cfg.QueueWait
			if !looked {
				patience = min(patience, lookAfter)
			}
			ctx, cancel = context.WithDeadline(ctx, start.Add(patience))
		}
		next, ok, err := (*watch).Next(ctx)
		cancel()
		switch {
		case err == nil && ok:
			*t = next
			continue
		case q.Context().Err() != nil:
			return problemOf(context.Cause(q.Context()))
		}
		if e := a.follow(q.Context(), watch, t); e != nil {
			return e
		}
		if err == nil || !waiting(t) {
			continue
		}
		if why := a.never(t); why != "" {
			a.giveUp(q, t)
			return problem(codeNotReady, "%s", why)
		}
		if looked = true; time.Since(start) >= a.cfg.QueueWait {
			a.giveUp(q, t)
			return throttled(reasonConcurrency, "Rate Exceeded. No node could start the function within %v.", a.cfg.QueueWait)
		}
	}
	return nil
}

// waiting reports whether t has not been started yet.
func waiting(t *functions.Task) bool { return t.State == functions.Queued && t.Attempt == 0 }

// never is why no node can ever run t; empty when one can, or may join.
func (a *API) never(t *functions.Task) string {
	if a.cfg.Nodes == nil {
		return ""
	}
	fn, err := a.cfg.Functions.Version(t.Function, t.Version)
	if err != nil {
		return "" // deleted since: the task still has its version
	}
	fn.Device = t.Route.Policy
	if t.Route.Policy == functions.Auto && t.Route.Device == functions.CPU {
		fn.Device = functions.Never // its content has decided
	}
	if why, never := functions.NeverRuns(fn.Spec, a.cfg.Nodes()); never {
		return why
	}
	return ""
}

// giveUp cancels a task whose caller is told that it was not run, unless the
// caller will try again and attach to it.
func (a *API) giveUp(q *request, t *functions.Task) {
	if t.Key != "" && !lastTry(q.Header.Get(tryHeader)) {
		return
	}
	_, err := a.cfg.Control.Submit(q.Context(), functions.Event{
		Kind: functions.Control, Task: t.ID, At: a.cfg.Now().UTC(), Ctl: &functions.Request{Verb: functions.Cancel, By: "lambda"},
	})
	if err != nil {
		a.cfg.Log.Warn("task of a throttled call is not canceled", "task", t.ID, "err", err)
	}
}

// lastTry reads what an SDK says of its tries: attempt=3; max=3.
func lastTry(header string) bool {
	n := map[string]int{}
	for part := range strings.SplitSeq(header, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if v, err := strconv.Atoi(value); err == nil {
			n[name] = v
		}
	}
	return n["max"] > 0 && n["attempt"] >= n["max"]
}
