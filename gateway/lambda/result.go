package lambda

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/devices"
)

// finish answers a synchronous invocation whose task has ended. A function that
// failed is a success of the call: the status is 200, and a header says so.
func (a *API) finish(w http.ResponseWriter, q *request, in *invocation, t *functions.Task) *apiError {
	var body []byte
	f, e := a.failureOf(t)
	if e == nil && f == nil {
		body, f, e = a.result(q, t)
	}
	h := w.Header()
	devices.Headers(h, t)
	if e != nil {
		return e
	}
	if f != nil {
		h.Set("X-Amz-Function-Error", "Unhandled")
		body = f.document()
	}
	h.Set("X-Amz-Executed-Version", in.fn.executed)
	if in.tail {
		h.Set("X-Amz-Log-Result", logTail(t, in.fn))
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // a client that left needs no answer
	return nil
}

// output names a stored object in an answer: a file that the function left, or a
// result that is no text.
type output struct {
	Name        string `json:"name,omitempty"`
	Bucket      string `json:"bucket"`
	Key         string `json:"key"`
	Size        int64  `json:"size"`
	ETag        string `json:"etag,omitempty"`
	ContentType string `json:"contentType,omitempty"`
}

func outputOf(name string, ref functions.ObjectRef) output {
	return output{name, ref.Bucket, ref.Key, ref.Size, ref.ETag, ref.ContentType}
}

// result is the answer of a task that succeeded, always JSON: the function's own
// document; its standard output as a string when that is text, and where it lies
// in the store when it is not; without any of these the list of the files that it
// left, or null.
func (a *API) result(q *request, t *functions.Task) ([]byte, *failure, *apiError) {
	out := t.Outcome
	switch {
	case out == nil:
		return []byte("null"), nil, nil
	case out.ResultRef != nil:
		return a.stored(q, t)
	case out.ResultText != nil:
		return encode(*out.ResultText)
	case len(out.Result) > 0:
		return out.Result, nil, nil
	case len(out.Outputs) > 0:
		list := make([]output, len(out.Outputs))
		for i, o := range out.Outputs {
			list[i] = outputOf(o.Name, o.ObjectRef)
		}
		return encode(map[string][]output{"outputs": list})
	}
	return []byte("null"), nil, nil
}

// stored reads a result that lies in the store.
func (a *API) stored(q *request, t *functions.Task) ([]byte, *failure, *apiError) {
	ref := *t.Outcome.ResultRef
	switch {
	case !t.Purged.Outputs.IsZero():
		return nil, nil, problem(codeNotFound, "The result of this invocation is not kept any more.")
	case ref.Size > maxResult:
		return nil, oversized(), nil
	}
	r, err := a.cfg.Objects.Get(q.Context(), ref)
	if err != nil {
		return nil, nil, problemOf(err)
	}
	defer r.Close()
	body, err := io.ReadAll(io.LimitReader(r, maxResult+1))
	switch {
	case err != nil:
		return nil, nil, problemOf(err)
	case json.Valid(body):
		return body, nil, nil
	case utf8.Valid(body):
		return encode(string(body))
	}
	return encode(outputOf("", ref))
}

// encode writes a result as JSON. It keeps <, > and & as they are.
func encode(v any) ([]byte, *failure, *apiError) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, nil, problemOf(err)
	}
	body := bytes.TrimSuffix(text.Bytes(), []byte("\n"))
	if len(body) > maxResult {
		return nil, oversized(), nil
	}
	return body, nil, nil
}
