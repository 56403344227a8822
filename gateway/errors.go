package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/spillway/spillway/functions"
)

// statuses is the one table from a class of error to an HTTP status.
var statuses = []struct {
	class     error
	status    int
	retryable bool
}{
	{functions.ErrInvalid, http.StatusBadRequest, false},
	{functions.ErrNotFound, http.StatusNotFound, false},
	{functions.ErrConflict, http.StatusConflict, false},
	{functions.ErrStale, http.StatusConflict, false},
	{functions.ErrTooLarge, http.StatusRequestEntityTooLarge, false},
	{functions.ErrForbidden, http.StatusForbidden, false},
	{functions.ErrThrottled, http.StatusTooManyRequests, true},
	{functions.ErrTimeout, http.StatusGatewayTimeout, true},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, true},
	{functions.ErrUnavailable, http.StatusServiceUnavailable, true},
}

// codes that have a status of their own.
var codeStatus = map[string]int{
	"idempotency_mismatch": http.StatusUnprocessableEntity,
	"unauthorized":         http.StatusUnauthorized,
	"inputs_expired":       http.StatusGone,
	"results_expired":      http.StatusGone,
	"logs_expired":         http.StatusGone,
}

// statusClientGone is what proxies log for a caller that left; nobody reads it.
const statusClientGone = 499

// statusError is an error with a status that its class does not give.
type statusError struct {
	why       *functions.Error
	status    int
	retryable bool
	extra     problem // task, phase and log tail
}

func (e *statusError) Error() string { return e.why.Error() }
func (e *statusError) Unwrap() error { return e.why }

// problem is the body of every error answer: RFC 9457, with what a program and a
// person need to go on.
type problem struct {
	Type      string           `json:"type"`
	Title     string           `json:"title"`
	Status    int              `json:"status"`
	Detail    string           `json:"detail"`
	Instance  string           `json:"instance,omitempty"`
	Code      string           `json:"code"`
	Hint      string           `json:"hint,omitempty"`
	Field     string           `json:"field,omitempty"`
	Retryable bool             `json:"retryable"`
	RequestID string           `json:"request_id,omitempty"`
	TraceID   string           `json:"trace_id,omitempty"`
	TaskID    functions.TaskID `json:"task_id,omitempty"`
	Phase     functions.Phase  `json:"phase,omitempty"`
	ExitCode  int              `json:"exit_code,omitempty"`
	LogTail   string           `json:"log_tail,omitempty"`
}

// explainError turns an error into an answer. Whatever has no class is internal:
// its text stays in the log, and internal is true.
func explainError(err error) (p problem, internal bool) {
	p = problem{Type: "about:blank", Status: http.StatusInternalServerError, Code: "internal",
		Detail: "something went wrong on our side", Hint: "try again; if it stays, look for the request id in the server's log", Retryable: true}
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		err = tooLarge(functions.Bytes(big.Limit))
	}
	// An Error's own class goes before that of its cause.
	class := err
	var e *functions.Error
	if errors.As(err, &e) {
		class = e.Class
	}
	known := false
	for _, s := range statuses {
		if errors.Is(class, s.class) {
			p.Status, p.Retryable, known = s.status, s.retryable, true
			p.Code, p.Detail, p.Hint = "error", http.StatusText(s.status), ""
			break
		}
	}
	if !known && errors.Is(err, context.Canceled) {
		return problem{Type: "about:blank", Status: statusClientGone, Title: "Client Closed Request", Code: "client_gone", Detail: "the caller left"}, false
	}
	if known && e != nil {
		p.Code, p.Detail, p.Hint, p.Field = e.Code, e.Message, e.Hint, e.Field
		if s, ok := codeStatus[e.Code]; ok {
			p.Status = s
		}
	}
	var se *statusError
	if errors.As(err, &se) {
		p.Status, p.Retryable = se.status, se.retryable
		p.TaskID, p.Phase, p.ExitCode, p.LogTail = se.extra.TaskID, se.extra.Phase, se.extra.ExitCode, se.extra.LogTail
	}
	p.Title = http.StatusText(p.Status)
	return p, !known
}

// fail answers an error, and logs it when it is ours.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, err error) {
	p, internal := explainError(err)
	st := stateOf(r.Context())
	p.Instance, p.RequestID, p.TraceID = r.URL.Path, st.id, st.trace
	if internal {
		g.log.Error("request failed", "request", st.id, "route", st.route, "err", err)
	}
	h := w.Header()
	if p.Retryable && p.Status != http.StatusInternalServerError && h.Get("Retry-After") == "" {
		h.Set("Retry-After", "2")
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="spillway"`)
	}
	h.Del("ETag")
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(w).Encode(p) // a caller that has left misses nothing
	}
}

func tooLarge(limit functions.Bytes) error {
	return functions.NewError(functions.ErrTooLarge, "body_too_large", "the body is over the limit of %s", limit).
		WithHint("send the file to the store: POST /v1/uploads takes up to 5TiB and starts the function when it is there")
}
