package cli

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

func TestProblem(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		class  error // nil: none of them
		says   string
		hint   string
	}{
		{"bad request", 400, `{"code":"bad_spec","detail":"line 3: no","hint":"fix it","field":"image"}`, functions.ErrInvalid, "line 3: no", "fix it"},
		{"key of another call", 422, `{"code":"idempotency_mismatch","detail":"other body"}`, functions.ErrInvalid, "other body", ""},
		{"no key", 401, `{"code":"unauthorized","detail":"this needs an API key","hint":"send the header"}`, functions.ErrForbidden, "needs an API key", keyHint},
		{"not allowed", 403, `{"detail":"no","hint":"ask"}`, functions.ErrForbidden, "no", "ask"},
		{"not found", 404, `{"detail":"nobody"}`, functions.ErrNotFound, "nobody", ""},
		{"conflict", 409, `{"detail":"ended"}`, functions.ErrConflict, "ended", ""},
		{"too large", 413, `{"detail":"big"}`, functions.ErrTooLarge, "big", ""},
		{"a body too large", 413, `{"code":"body_too_large","detail":"big","hint":"POST /v1/uploads"}`, functions.ErrTooLarge, "big", largeHint},
		{"throttled", 429, `{"detail":"later"}`, functions.ErrThrottled, "later", ""},
		{"unavailable", 503, `{"detail":"away"}`, functions.ErrUnavailable, "away", ""},
		{"timeout", 504, `{"detail":"late"}`, functions.ErrTimeout, "late", ""},
		{"internal", 500, `{"detail":"on our side","request_id":"r1"}`, nil, "request r1", ""},
		{"title alone", 404, `{"title":"Not Found"}`, functions.ErrNotFound, "Not Found", ""},
		{"nothing", 404, `{}`, functions.ErrNotFound, "404 Not Found", ""},
		{"a proxy's page", 503, "<html>\n  upstream   away</html>", functions.ErrUnavailable, "<html> upstream away</html>", ""},
		{"a failed task", 502, `{"code":"exit_error","detail":"ended with code 3","task_id":"t1","hint":"look","log_tail":"a\nb"}`, errTaskFailed, "exit_error: ended with code 3", "look"},
		{"a task ended by us", 503, `{"code":"queue_timeout","detail":"waited too long","task_id":"t1"}`, errTaskFailed, "waited too long", ""},
		{"a canceled task", 409, `{"code":"canceled","detail":"canceled by request","task_id":"t1"}`, errTaskFailed, "canceled by request", ""},
	} {
		err := problem(&http.Response{StatusCode: c.status, Status: http.StatusText(c.status)}, []byte(c.body))
		if c.name == "nothing" {
			err = problem(&http.Response{StatusCode: 404, Status: "404 Not Found"}, []byte(c.body))
		}
		if c.class != nil && !errors.Is(err, c.class) {
			t.Errorf("%s: %v has not the class %v", c.name, err, c.class)
		}
		if c.class == nil && ExitCode(err) != 1 {
			t.Errorf("%s: exit code %d", c.name, ExitCode(err))
		}
		if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q does not say %q", c.name, err, c.says)
		}
		if got := hintOf(err); got != c.hint {
			t.Errorf("%s: hint %q, want %q", c.name, got, c.hint)
		}
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{context.Canceled, ""},
		{errors.New("no"), "error: no\n"},
		{functions.Invalid("x", "no").WithHint("do"), "error: no\nhint: do\n"},
		{&taskError{id: "t1", class: "exit_error", message: "code 3", logTail: "one\r\ntwo"},
			"error: the task did not succeed: exit_error: code 3\nlog: one\nlog: two\nhint: read what it wrote with: spillway logs t1\n"},
		{&taskError{id: "t1", class: "image_missing", message: "gone", hint: "build it"}, "error: the task did not succeed: image_missing: gone\nhint: build it\n"},
	} {
		var b strings.Builder
		if Explain(&b, c.err); b.String() != c.want {
			t.Errorf("%v: said %q, want %q", c.err, b.String(), c.want)
		}
	}
}
