package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spillway/spillway/functions"
)

// statusClass is the gateway's table of statuses, backwards.
var statusClass = map[int]error{
	http.StatusBadRequest:            functions.ErrInvalid,
	http.StatusUnprocessableEntity:   functions.ErrInvalid,
	http.StatusUnauthorized:          functions.ErrForbidden,
	http.StatusForbidden:             functions.ErrForbidden,
	http.StatusNotFound:              functions.ErrNotFound,
	http.StatusConflict:              functions.ErrConflict,
	http.StatusRequestEntityTooLarge: functions.ErrTooLarge,
	http.StatusTooManyRequests:       functions.ErrThrottled,
	http.StatusServiceUnavailable:    functions.ErrUnavailable,
	http.StatusGatewayTimeout:        functions.ErrTimeout,
}

// Hints for people at a terminal; the gateway's own are for programs.
const (
	keyHint   = "name the key with --key, SPILLWAY_API_KEY or SPILLWAY_API_KEY_FILE; the server keeps it in the file api-key of its data folder"
	largeHint = "send it with: spillway upload FILE --function NAME"
)

// problem turns an error answer back into the error that the gateway had.
func problem(resp *http.Response, raw []byte) error {
	var p struct {
		Code, Detail, Title, Hint, Field string

		RequestID string           `json:"request_id"`
		TaskID    functions.TaskID `json:"task_id"`
		LogTail   string           `json:"log_tail"`
	}
	if json.Unmarshal(raw, &p) != nil { // a proxy's page, or a health check's text
		p.Detail = resp.Status + ": " + strings.Join(strings.Fields(string(raw)), " ")
	}
	msg := p.Detail
	if msg == "" {
		msg = p.Title
	}
	if msg == "" {
		msg = "the gateway answered " + resp.Status
	}
	if p.TaskID != "" { // only the end of a task names it
		return &taskError{id: p.TaskID, class: p.Code, message: msg, hint: p.Hint, logTail: p.LogTail}
	}
	class, ok := statusClass[resp.StatusCode]
	if !ok {
		return fmt.Errorf("the gateway answered %s: %s (request %s)", resp.Status, msg, p.RequestID)
	}
	e := functions.NewError(class, p.Code, "%s", msg)
	e.Hint, e.Field = p.Hint, p.Field
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		e.Hint = keyHint
	case p.Code == "body_too_large":
		e.Hint = largeHint
	}
	return e
}

// taskError is a task that ended without success.
type taskError struct {
	id      functions.TaskID
	class   string
	message string
	hint    string
	logTail string
}

func (e *taskError) Error() string {
	return fmt.Sprintf("%v: %s: %s", errTaskFailed, e.class, e.message)
}
func (e *taskError) Unwrap() error { return errTaskFailed }

// Explain writes an error the way the command line shows it: what happened, and
// what to do next.
func Explain(w io.Writer, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	fmt.Fprintf(w, "error: %v\n", err)
	hint := hintOf(err)
	var t *taskError
	if errors.As(err, &t) {
		if hint == "" {
			hint = "read what it wrote with: spillway logs " + string(t.id)
		}
		for line := range strings.Lines(t.logTail) {
			fmt.Fprintf(w, "log: %s\n", strings.TrimRight(line, "\r\n"))
		}
	}
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

func hintOf(err error) string {
	var t *taskError
	if errors.As(err, &t) {
		return t.hint
	}
	var e *functions.Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}
