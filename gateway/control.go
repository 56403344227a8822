package gateway

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// cancel stops a task. Canceling twice is answered like once.
func (g *Gateway) cancel(w http.ResponseWriter, r *http.Request) error {
	t, err := g.taskOf(r.Context(), r)
	if err != nil {
		return err
	}
	return g.cancelTask(w, r, t)
}

func (g *Gateway) cancelTask(w http.ResponseWriter, r *http.Request, t functions.Task) (err error) {
	done := func(t *functions.Task) bool { return t.State == functions.Canceled || t.State == functions.Canceling }
	if !done(&t) && !t.State.Final() {
		if t, _, err = g.ask(r.Context(), t.ID, string(g.cfg.Door.NewID()), functions.Request{Verb: functions.Cancel, By: "api"}); err != nil {
			return err
		}
	}
	if t.State.Final() && !done(&t) {
		return functions.Conflict("already_ended", "task %s has already %s", t.ID, t.State).WithHint("its result is at /v1/tasks/%s/result", t.ID)
	}
	return g.showAfter(w, r, &t)
}

// retry runs an ended task again under its id.
func (g *Gateway) retry(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Device functions.Device `json:"device"`
	}
	if err := decodeJSON(w, r, &body); err != nil {
		return err
	}
	if d := body.Device; d != "" && d != functions.GPU && d != functions.CPU {
		return functions.Invalid("bad_device", "%.40q is not a device", string(d)).WithHint("use gpu or cpu, or leave it out").WithField("device")
	}
	t, err := g.taskOf(r.Context(), r)
	if err != nil {
		return err
	}
	refused := func(t *functions.Task) error {
		switch {
		case t.State == functions.Succeeded:
			return functions.Conflict("already_succeeded", "task %s succeeded; only a task that ended without success can be retried", t.ID).WithHint("call the function again")
		case !t.Purged.Inputs.IsZero():
			return expired(t, functions.StoredInputs)
		case t.State.Final():
			return functions.Conflict("not_retryable", "task %s cannot be retried: its upload never came", t.ID).WithHint("start a new upload")
		}
		return functions.Conflict("not_ended", "task %s is %s and has not ended", t.ID, g.status(t)).WithHint("cancel it first, or wait for its end")
	}
	if !t.State.Final() || t.State == functions.Succeeded || !t.Purged.Inputs.IsZero() {
		return refused(&t)
	}
	if err := intake.Kept(r.Context(), g.cfg.Tasks, t.ID, t.Inputs, g.cfg.Now()); err != nil {
		return err
	}
	t, valid, err := g.ask(r.Context(), t.ID, string(g.cfg.Door.NewID()), functions.Request{Verb: functions.Retry, By: "api", Device: body.Device})
	if err != nil {
		return err
	}
	if !valid {
		return refused(&t)
	}
	return g.showAfter(w, r, &t)
}

// ask writes a request about a task to the log and returns the task once it has
// been applied. valid is false when the request came too late and is void.
func (g *Gateway) ask(ctx context.Context, id functions.TaskID, msgID string, c functions.Request) (t functions.Task, valid bool, err error) {
	seq, err := g.cfg.Appender.Append(ctx, msgID, functions.Event{Kind: functions.Control, Task: id, At: g.cfg.Now().UTC(), Ctl: &c})
	if err != nil {
		return t, false, fmt.Errorf("log the request: %w", err)
	}
	if err := g.cfg.Tasks.WaitApplied(ctx, seq); err != nil {
		return t, false, fmt.Errorf("wait for the request: %w", err)
	}
	if t, err = g.cfg.Tasks.Task(ctx, id); err != nil {
		return t, false, fmt.Errorf("read task: %w", err)
	}
	return t, t.Seq >= seq, nil
}

func (g *Gateway) showAfter(w http.ResponseWriter, r *http.Request, t *functions.Task) error {
	v, err := g.full(r.Context(), t)
	if err != nil {
		return fmt.Errorf("show task: %w", err)
	}
	g.taskHeaders(w.Header(), t)
	return writeJSON(w, http.StatusOK, v)
}
