package seed

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/spillway/spillway/functions"
)

// report is the status of one task. The second group of fields is ours.
type report struct {
	TaskID      functions.TaskID `json:"task_id"`
	Status      string           `json:"status"`
	Progress    float64          `json:"progress"`
	Message     *string          `json:"message"`
	Result      json.RawMessage  `json:"result"` // an object or null: clients read its keys
	Error       *string          `json:"error"`
	CreatedAt   *string          `json:"created_at"`
	StartedAt   *string          `json:"started_at"`
	CompletedAt *string          `json:"completed_at"`
	Remaining   *int             `json:"estimated_time_remaining"`

	DeviceRequested functions.Device `json:"device_requested"`
	DeviceUsed      *string          `json:"device_used"`
	FallbackReason  *string          `json:"fallback_reason"`
	Attempts        int              `json:"attempts"`
}

// words are the states as the older service named them.
var words = map[functions.State]string{
	functions.AwaitingUpload: "PENDING", functions.Queued: "PENDING",
	functions.Assigned: "PROGRESS", functions.Deciding: "PROGRESS", functions.Canceling: "PROGRESS",
	functions.Succeeded: "SUCCESS",
	functions.Failed:    "FAILURE", functions.TimedOut: "FAILURE", functions.Expired: "FAILURE",
	functions.Canceled: "REVOKED",
}

func (a *API) status(w http.ResponseWriter, r *http.Request) error {
	t, err := a.cfg.Tasks.Task(r.Context(), functions.TaskID(lastElement(r)))
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, a.report(t))
}

func (a *API) report(t functions.Task) report {
	r := report{
		TaskID: t.ID, Status: words[t.State], CreatedAt: stamp(t.CreatedAt), CompletedAt: stamp(t.FinishedAt),
		DeviceRequested: t.Route.Device, DeviceUsed: some(string(t.DeviceUsed())), FallbackReason: some(string(t.Fallback)), Attempts: t.Attempt,
		Result: json.RawMessage("null"),
	}
	if last := t.Last(); last != nil {
		r.StartedAt = stamp(last.StartedAt)
	}
	switch r.Status {
	case "PENDING":
		r.Message = say("Waiting for a free %s", cmp.Or(t.Only, t.Route.Device, functions.CPU))
		if t.State == functions.AwaitingUpload {
			r.Message = say("Waiting for the upload")
		}
	case "PROGRESS":
		a.progress(&r, t)
	case "SUCCESS":
		r.Progress, r.Message, r.Result = 1, say("Processing completed"), result(t)
	case "REVOKED":
		r.Message = say("Canceled")
	case "FAILURE":
		text := "it ended as " + string(t.State)
		if t.Failure != nil {
			text = t.Failure.Message
		}
		r.Message, r.Error = say("Processing failed"), &text
	}
	return r
}

// progress adds the live report, if one came, and from it the time that is left.
func (a *API) progress(r *report, t functions.Task) {
	r.Message = say("Running on the %s", t.DeviceUsed())
	if a.cfg.Progress == nil {
		return
	}
	p, ok := a.cfg.Progress.Progress(t.ID)
	if !ok || p.Attempt != t.Attempt {
		return
	}
	r.Progress = min(max(p.Fraction, 0), 1)
	if text := some(cmp.Or(p.Message, p.Stage, string(p.Phase))); text != nil {
		r.Message = text
	}
	if last := t.Last(); last != nil && r.Progress >= 0.05 { // before that it is a guess
		run := a.cfg.Now().Sub(last.StartedAt).Seconds()
		left := int(max(0, run/r.Progress-run))
		r.Remaining = &left
	}
}

// result wraps what is not an object, since clients read the keys of one.
func result(t functions.Task) json.RawMessage {
	out := t.Outcome
	var v any
	switch {
	case out == nil:
		v = struct{}{}
	case out.ResultRef != nil:
		v = map[string]any{"result_ref": out.ResultRef, "outputs": out.Outputs}
	case out.ResultText != nil:
		v = map[string]any{"text": *out.ResultText}
	case len(out.Result) > 0 && out.Result[0] == '{':
		return out.Result
	case len(out.Result) > 0:
		v = map[string]any{"value": out.Result}
	default:
		v = map[string]any{"outputs": append([]functions.Output{}, out.Outputs...)}
	}
	text, err := json.Marshal(v)
	if err != nil { // a result that came through the log is JSON
		return json.RawMessage("{}")
	}
	return text
}

func say(format string, args ...any) *string {
	s := fmt.Sprintf(format, args...)
	return &s
}

// some is s, or null when there is none.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format(time.RFC3339Nano)
	return &s
}

// canceled is the answer to a cancel.
type canceled struct {
	TaskID  functions.TaskID `json:"task_id"`
	Status  string           `json:"status"`
	Message string           `json:"message"`
}

// cancel asks for a stop and answers once that is on record. Asking twice, or
// after a cancel, is not an error; a task that has ended otherwise is one.
func (a *API) cancel(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	t, err := a.cfg.Tasks.Task(ctx, functions.TaskID(lastElement(r)))
	if err != nil {
		return err
	}
	if !t.State.Final() && t.State != functions.Canceling {
		seq, err := a.cfg.Control.Submit(ctx, functions.Event{
			Kind: functions.Control, Task: t.ID, At: a.cfg.Now().UTC(), Ctl: &functions.Request{Verb: functions.Cancel, By: "seed"},
		})
		if err != nil {
			return fmt.Errorf("ask for cancel: %w", err)
		}
		if err := a.cfg.Tasks.WaitApplied(ctx, seq); err != nil {
			return fmt.Errorf("wait for cancel: %w", err)
		}
		if t, err = a.cfg.Tasks.Task(ctx, t.ID); err != nil {
			return err
		}
	}
	switch t.State {
	case functions.Canceled:
		return a.answer(w, r, http.StatusOK, canceled{t.ID, words[t.State], "Task cancelled"})
	case functions.Canceling:
		return a.answer(w, r, http.StatusOK, canceled{t.ID, words[t.State], "Task is being stopped"})
	}
	return functions.Conflict("not_cancelable", "the task has ended as %s", words[t.State])
}
