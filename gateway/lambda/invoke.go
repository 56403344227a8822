package lambda

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/devices"
	"github.com/spillway/spillway/gateway/intake"
)

// Limits of an invocation, in bytes. They are AWS's.
const (
	maxEvent   = 1048576 // of an asynchronous one
	maxContext = 3583    // of X-Amz-Client-Context, as it is encoded
)

// mode is how a caller wants a function to be invoked.
type mode string

const (
	modeSync   mode = "RequestResponse"
	modeEvent  mode = "Event"
	modeDryRun mode = "DryRun"
)

func (a *API) invokeRoutes() []route {
	return []route{
		{http.MethodPost, "/2015-03-31/functions/{name}/invocations", a.invoke},
		{http.MethodPost, "/2014-11-13/functions/{name}/invoke-async", a.invokeAsync},
		{http.MethodPost, "/2014-11-13/functions/{name}/invoke-async/", a.invokeAsync},
		{http.MethodPost, "/2021-11-15/functions/{name}/response-streaming-invocations", a.stream},
	}
}

// invocation is a checked call of Invoke.
type invocation struct {
	mode mode
	tail bool // the caller wants the end of the log
	fn   resolved
	call intake.Call
}

func (a *API) invoke(w http.ResponseWriter, q *request) *apiError {
	in, e := a.invocationOf(q)
	if e != nil {
		return e
	}
	switch in.mode {
	case modeDryRun:
		w.WriteHeader(http.StatusNoContent)
		return nil
	case modeEvent:
		t, e := a.accept(w, q, &in)
		if e != nil {
			return e
		}
		devices.Headers(w.Header(), &t)
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	return a.run(w, q, &in)
}

// invokeAsync is Invoke as it was in 2014: asynchronous, and no more.
func (a *API) invokeAsync(w http.ResponseWriter, q *request) *apiError {
	q.Header.Set(typeHeader, string(modeEvent))
	in, e := a.invocationOf(q)
	if e != nil {
		return e
	}
	if _, e := a.accept(w, q, &in); e != nil {
		return e
	}
	answer(w, http.StatusAccepted, map[string]int{"Status": http.StatusAccepted})
	return nil
}

func (a *API) stream(http.ResponseWriter, *request) *apiError {
	return problem(codeInvalidParameter, "Response streaming is not served: call Invoke, which waits for the whole result; "+
		"progress of a long call is at /v1/tasks/ID/events, with the request id as ID")
}

// The request headers of Invoke.
const (
	typeHeader    = "X-Amz-Invocation-Type"
	logHeader     = "X-Amz-Log-Type"
	contextHeader = "X-Amz-Client-Context"
	onceHeader    = "Amz-Sdk-Invocation-Id" // the same in every try of one call
	tryHeader     = "Amz-Sdk-Request"       // attempt=N; max=M
)

// invocationOf makes an invocation of a request, or returns what is wrong with it.
func (a *API) invocationOf(q *request) (in invocation, e *apiError) {
	t, e := parseTarget(pathValue(q.Request, "name"), q.URL.Query().Get("Qualifier"))
	if e != nil {
		return in, e
	}
	if in.mode, e = modeOf(q.Header.Get(typeHeader)); e != nil {
		return in, e
	}
	if in.tail, e = tailOf(q.Header.Get(logHeader)); e != nil {
		return in, e
	}
	if e := checkContext(q.Header.Get(contextHeader)); e != nil {
		return in, e
	}
	if in.fn, e = a.resolve(q.Context(), t, q.region); e != nil {
		return in, e
	}
	if reserved := in.fn.settings.Concurrency; reserved != nil && *reserved == 0 && in.mode == modeSync {
		return in, throttled(reasonReserved, "Rate Exceeded.")
	}
	event, e := eventOf(q.body, in.mode)
	if e != nil {
		return in, e
	}
	in.call = intake.Call{
		ID: q.id, Function: in.fn.Name, Version: in.fn.Version, Content: content.JSON(), Event: event, Source: "lambda",
		Policy: functions.Policy(strings.ToLower(q.Header.Get("Spillway-Device"))),
	}
	if in.mode == modeEvent {
		configure(&in.call, in.fn.settings.Async)
	}
	attach(&in.call, q, t)
	return in, nil
}

func modeOf(header string) (mode, *apiError) {
	switch m := mode(header); m {
	case "":
		return modeSync, nil
	case modeSync, modeEvent, modeDryRun:
		return m, nil
	}
	return "", problem(codeValidation, "1 validation error detected: Value '%.40s' at 'invocationType' failed to satisfy constraint: "+
		"Member must satisfy enum value set: [RequestResponse, Event, DryRun]", header)
}

func tailOf(header string) (bool, *apiError) {
	switch header {
	case "", "None":
		return false, nil
	case "Tail":
		return true, nil
	}
	return false, problem(codeValidation, "1 validation error detected: Value '%.40s' at 'logType' failed to satisfy constraint: "+
		"Member must satisfy enum value set: [None, Tail]", header)
}

// checkContext refuses a client context that AWS would not take. What it holds
// is not handed to the function.
func checkContext(header string) *apiError {
	if header == "" {
		return nil
	}
	if len(header) > maxContext {
		return problem(codeInvalidContent, "Client context must be no more than %d bytes when base64-encoded.", maxContext)
	}
	text, err := base64.StdEncoding.DecodeString(header)
	if err != nil || !json.Valid(text) {
		return problem(codeInvalidContent, "Client context must be a valid Base64-encoded JSON object.")
	}
	return nil
}

// eventOf is the event in a body. No body means an empty object.
func eventOf(body []byte, m mode) (json.RawMessage, *apiError) {
	if m == modeEvent && len(body) > maxEvent {
		return nil, tooLarge(maxEvent)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return json.RawMessage("{}"), nil
	}
	var event json.RawMessage
	if err := json.Unmarshal(body, &event); err != nil {
		return nil, problem(codeInvalidContent, "Could not parse request body into json: %v", err)
	}
	return event, nil
}

// attach gives a call the key by which another try of it finds the task that the
// first made. An SDK gives all tries of one call an id of their own; callers
// without one may send an Idempotency-Key. The id is no secret and not always
// signed, so a key is the caller's own: it holds who calls, and what.
func attach(c *intake.Call, q *request, t target) {
	sum := sha256.Sum256(q.body)
	body := hex.EncodeToString(sum[:])
	var parts []string
	if id := q.Header.Get(onceHeader); id != "" {
		parts = []string{"sdk", id, body}
	} else if key := q.Header.Get("Idempotency-Key"); key != "" {
		parts = []string{"key", key}
	} else {
		return
	}
	c.Key = "lambda-" + digest(append(parts, q.accessKey, string(t.Name), t.Qualifier)...)
	c.BodyHash = digest(body, string(c.Policy))
}

// digest is a SHA-256 of texts, in hex.
func digest(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d:%s", len(t), t)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// accept makes the task of an invocation, or finds the one that an earlier try
// made. The request's id is the task's from then on.
func (a *API) accept(w http.ResponseWriter, q *request, in *invocation) (functions.Task, *apiError) {
	ticket, err := a.cfg.Door.Accept(q.Context(), in.call)
	if err != nil {
		return functions.Task{}, problemOf(err)
	}
	if t := ticket.Task; ticket.Replayed {
		q.id = t.ID
		w.Header().Set("X-Amzn-RequestId", string(t.ID))
		w.Header().Set("Idempotency-Replayed", "true")
	}
	return ticket.Task, nil
}
