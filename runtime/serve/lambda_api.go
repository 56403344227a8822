package serve

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"

	"github.com/spillway/spillway/functions"
)

const (
	runtimePath = "/2018-06-01/runtime"

	errorTypeHeader = "Lambda-Runtime-Function-Error-Type"
	errorBodyHeader = "Lambda-Runtime-Function-Error-Body"
	modeHeader      = "Lambda-Runtime-Function-Response-Mode"
)

// drained is how much of a body that is too large is read on, so that its sender
// comes to read the answer.
const drained = 16 << 20

func (l *Lambda) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+runtimePath+"/invocation/next", l.next)
	mux.HandleFunc("POST "+runtimePath+"/invocation/{id}/response", l.response)
	mux.HandleFunc("POST "+runtimePath+"/invocation/{id}/error", l.failed)
	mux.HandleFunc("POST "+runtimePath+"/init/error", l.initFailed)
	l.extensions(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "NotFound", "There is no such call: "+r.Method+" "+clip([]byte(r.URL.Path), 256))
	})
	return mux
}

// next is the long poll. The connection of one that is not to be answered any
// more is closed without an answer.
func (l *Lambda) next(w http.ResponseWriter, r *http.Request) {
	p, ok := l.wait()
	if !ok {
		refuse(w, http.StatusForbidden, "InvalidStateTransition",
			"State transition from Running to Ready failed for runtime. Error: State transition is not allowed")
		return
	}
	select {
	case f := <-p.give:
		if err := l.write(w, f); err != nil {
			l.complete(f.Task, landing{fault: fault(functions.Crashed, "the program hung up while it was given the event: %v", err)})
		}
	case <-r.Context().Done():
		l.leave(p)
	case <-l.end.ctx.Done():
		l.leave(p)
		panic(http.ErrAbortHandler)
	}
}

func (l *Lambda) write(w http.ResponseWriter, f *flight) error {
	h := w.Header()
	h.Set("Content-Type", cmp.Or(f.ContentType, "application/json"))
	h.Set("Content-Length", strconv.Itoa(len(f.Body)))
	h.Set("Lambda-Runtime-Aws-Request-Id", string(f.Task))
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(f.deadline.UnixMilli(), 10))
	if l.cfg.ARN != "" {
		h.Set("Lambda-Runtime-Invoked-Function-Arn", l.cfg.ARN)
	}
	if f.TraceParent != "" {
		h.Set("Traceparent", f.TraceParent)
	}
	if _, err := w.Write(f.Body); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

func (l *Lambda) response(w http.ResponseWriter, r *http.Request) {
	id, ok := l.flightOf(w, r)
	if !ok {
		return
	}
	if mode := r.Header.Get(modeHeader); mode != "" && mode != "streaming" {
		refuse(w, http.StatusBadRequest, "InvalidFunctionResponseMode", "Invalid function response mode: "+clip([]byte(mode), 64))
		return
	}
	body, ok := l.body(w, r, id)
	if !ok {
		return
	}
	got := landing{response: Response{Body: body, ContentType: r.Header.Get("Content-Type")}}
	if kind := r.Trailer.Get(errorTypeHeader); kind != "" { // it failed in the middle of its answer
		words, err := base64.StdEncoding.DecodeString(r.Trailer.Get(errorBodyHeader))
		if err != nil {
			words = nil
		}
		got = landing{fault: functionError(words, kind)}
	}
	l.accept(w, id, got)
}

func (l *Lambda) failed(w http.ResponseWriter, r *http.Request) {
	id, ok := l.flightOf(w, r)
	if !ok {
		return
	}
	if body, ok := l.body(w, r, id); ok {
		l.accept(w, id, landing{fault: functionError(body, r.Header.Get(errorTypeHeader))})
	}
}

func (l *Lambda) initFailed(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	started := l.started
	l.mu.Unlock()
	if started {
		refuse(w, http.StatusForbidden, "InvalidStateTransition",
			"State transition from Ready to InitError failed for runtime. Error: State transition is not allowed")
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MostBody))
	if err != nil {
		refuse(w, http.StatusBadRequest, "TruncatedHTTPRequest", "The request was cut off")
		return
	}
	f := functionError(body, r.Header.Get(errorTypeHeader))
	f.Message = "the program's start failed: " + f.Message
	accepted(w)
	l.end.set(f.Failure)
}

// flightOf is the id in the path, when an invocation waits for it.
func (l *Lambda) flightOf(w http.ResponseWriter, r *http.Request) (functions.TaskID, bool) {
	id := functions.TaskID(r.PathValue("id"))
	if !l.waits(id) {
		invalidID(w)
		return "", false
	}
	return id, true
}

// body reads an answer. One that is too large or cut off ends the invocation.
func (l *Lambda) body(w http.ResponseWriter, r *http.Request, id functions.TaskID) ([]byte, bool) {
	var body []byte
	var err error
	if r.ContentLength <= MostBody {
		body, err = io.ReadAll(io.LimitReader(r.Body, MostBody+1))
	}
	switch {
	case err != nil:
		l.complete(id, landing{fault: fault(functions.Crashed, "the program's answer was cut off: %v", err)})
		refuse(w, http.StatusBadRequest, "TruncatedHTTPRequest", "The request was cut off")
	case r.ContentLength > MostBody || len(body) > MostBody:
		l.complete(id, landing{fault: answerTooLarge()})
		if _, err := io.CopyN(io.Discard, r.Body, drained); err != nil && !errors.Is(err, io.EOF) {
			return nil, false // nobody is left to be told
		}
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", MostBody))
	default:
		return body, true
	}
	return nil, false
}

func (l *Lambda) accept(w http.ResponseWriter, id functions.TaskID, got landing) {
	if !l.complete(id, got) { // it ran out of time while the answer came
		invalidID(w)
		return
	}
	accepted(w)
}

func accepted(w http.ResponseWriter) {
	reply(w, http.StatusAccepted, map[string]string{"status": "OK"})
}

func invalidID(w http.ResponseWriter) {
	refuse(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
}

func refuse(w http.ResponseWriter, status int, kind, message string) {
	reply(w, status, map[string]string{"errorMessage": message, "errorType": kind})
}

func reply(w http.ResponseWriter, status int, body map[string]string) {
	data, err := json.Marshal(body)
	if err != nil { // strings always encode
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data) // a container that does not read its answer knows it by itself
}

// properType is what the type of an error looks like in its header. A runtime may
// send anything there, and all else is the same to everybody.
var properType = regexp.MustCompile(`^(Runtime|Function)\.[A-Z][a-zA-Z]+$`)

// functionError is the function's own error, in its own words: the type in the
// body is the program's, the one in the header the runtime's.
func functionError(body []byte, header string) *Fault {
	if !properType.MatchString(header) {
		header = "Runtime.Unknown"
	}
	f := fault(functions.ExitError, "the function failed")
	f.Type = header
	if own, ok := complaintOf(body); ok {
		f.Message, f.Type = cmp.Or(own.message, f.Message), cmp.Or(own.kind, header)
		if len(body) <= int(functions.MostErrorBody) {
			f.Body = json.RawMessage(body)
		}
	} else if len(body) > 0 {
		f.Message += ": " + clip(body, mostWords)
	}
	return f
}
