package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/devices"
)

// ticketView is the body of a 202.
type ticketView struct {
	ID        functions.TaskID `json:"id"`
	Status    string           `json:"status"`
	StatusURL string           `json:"status_url"`
	ResultURL string           `json:"result_url"`
	LogsURL   string           `json:"logs_url"`
	EventsURL string           `json:"events_url"`
	CancelURL string           `json:"cancel_url"`
	Warning   string           `json:"warning,omitempty"` // why no node can ever run it
}

// accepted answers 202 with where to ask for the task.
func (g *Gateway) accepted(w http.ResponseWriter, t *functions.Task) error {
	at := "/v1/tasks/" + string(t.ID)
	w.Header().Set("Location", at)
	w.Header().Set("Retry-After", "2")
	return writeJSON(w, http.StatusAccepted, ticketView{
		Warning: g.warn(w.Header(), t),
		ID:      t.ID, Status: g.status(t), StatusURL: at, ResultURL: at + "/result", LogsURL: at + "/logs", EventsURL: at + "/events", CancelURL: at + "/cancel",
	})
}

// taskHeaders says in every answer about a task which device was asked for and
// which was used, and why they differ.
func (g *Gateway) taskHeaders(h http.Header, t *functions.Task) {
	h.Set("Spillway-Task-Id", string(t.ID))
	devices.Headers(h, t)
	id := t.CallID
	if id == "" {
		id = string(t.ID)
	}
	h.Set("X-Call-Id", id)
}

// answer writes the result of an ended task as the function gave it, or returns
// the error that it ended with.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, t *functions.Task) error {
	if t.State != functions.Succeeded {
		return g.ended(w, t)
	}
	out := t.Outcome
	switch {
	case out != nil && out.ResultRef != nil:
		return g.largeResult(w, r, t)
	case out != nil && out.ResultText != nil:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, err := io.WriteString(w, *out.ResultText)
		return err
	case out != nil && len(out.Result) > 0:
		w.Header().Set("Content-Type", "application/json")
		_, err := w.Write(out.Result)
		return err
	}
	w.Header().Set("Content-Type", "application/json") // a function without a result
	_, err := io.WriteString(w, "null")
	return err
}

// largeResult sends a result that lies in the store: through us up to the size
// of a synchronous answer, above that by redirect.
func (g *Gateway) largeResult(w http.ResponseWriter, r *http.Request, t *functions.Task) error {
	if !t.Purged.Outputs.IsZero() {
		return expired(t, functions.StoredOutputs)
	}
	ref := *t.Outcome.ResultRef
	if ref.Size > int64(maxSync) {
		to, err := g.cfg.Objects.PresignGet(r.Context(), ref, downloadTTL, "result")
		if err != nil {
			return fmt.Errorf("sign the result's URL: %w", err)
		}
		w.Header().Set("Location", to.URL)
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	body, err := g.cfg.Objects.Get(r.Context(), ref)
	if err != nil {
		return fmt.Errorf("read the result: %w", err)
	}
	defer body.Close()
	kind := ref.ContentType
	if kind == "" {
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.FormatInt(ref.Size, 10))
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("send the result: %w", err)
	}
	return nil
}

// ended returns the error of a task that did not succeed: 502 is the function's
// doing, 503 ours, 504 a limit of time.
func (g *Gateway) ended(w http.ResponseWriter, t *functions.Task) error {
	f := functions.Failure{Class: functions.Class(t.State), Message: "the task ended as " + string(t.State)}
	if t.Failure != nil {
		f = *t.Failure
	}
	se := &statusError{extra: problem{TaskID: t.ID, Phase: f.Phase, ExitCode: f.ExitCode}}
	if t.Outcome != nil {
		se.extra.LogTail = t.Outcome.LogTail
	}
	class := functions.ErrInvalid
	switch {
	case t.State == functions.Canceled:
		se.status, class = http.StatusConflict, functions.ErrConflict
	case t.State == functions.TimedOut:
		se.status, class = http.StatusGatewayTimeout, functions.ErrTimeout
		w.Header().Set("Spillway-Function-Error", string(f.Class))
	case t.State == functions.Expired, f.Class.Platform():
		se.status, se.retryable, class = http.StatusServiceUnavailable, true, functions.ErrUnavailable
	default:
		se.status = http.StatusBadGateway
		w.Header().Set("Spillway-Function-Error", string(f.Class))
	}
	e := functions.NewError(class, string(f.Class), "%s", f.Message)
	e.Hint = f.Hint
	se.why = e
	return se
}
