// Package lambda serves the control API of AWS Lambda over Spillway's functions,
// so that AWS's SDKs, its command line and what is built on them work unchanged.
// A function of any contract is invoked through it.
//
// One call, front to back: its body is read (api.go), its signature or key is
// checked over it (auth.go), the function is found by the name in the path
// (name.go, resolve.go), the call becomes a task through the same door as every
// other (invoke.go), its end is awaited (wait.go), and the task becomes AWS's
// answer (result.go, logtail.go).
//
// Calls that manage functions start in manage.go; manage_spec.go is what can be
// said of one, and manage_options.go what is said in tags.
//
// The identity in an Amazon Resource Name is fixed: account 000000000000 and the
// region that the client signed for.
package lambda

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/mux"
	"golang.org/x/sync/semaphore"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// Door takes tasks in; *intake.Door is one.
type Door interface {
	NewID() functions.TaskID
	Accept(ctx context.Context, c intake.Call) (intake.Ticket, error)
}

// Functions knows what is deployed.
type Functions interface {
	Latest(name functions.Name) (functions.Function, error)
	Version(name functions.Name, version int) (functions.Function, error)
}

// Tasks reads the projection of the log.
type Tasks interface {
	Task(ctx context.Context, id functions.TaskID) (functions.Task, error)
}

// Feed tells of changes of one task, from now on.
type Feed interface {
	Watch(id functions.TaskID) Watch
}

// Watch is one who follows a task. Next waits for its next change; false means
// that some were missed, and that the task is to be read again. Leave may be
// called twice.
type Watch interface {
	Next(ctx context.Context) (t functions.Task, ok bool, err error)
	Leave()
}

// Control writes a client's wish to the log.
type Control interface {
	Submit(ctx context.Context, e functions.Event) (seq uint64, err error)
}

// Objects reads results that lie in the store.
type Objects interface {
	Get(ctx context.Context, ref functions.ObjectRef) (io.ReadCloser, error)
}

// Config is what the API needs. Every field is required unless it says otherwise.
type Config struct {
	Door      Door
	Functions Functions
	Registry  Registry // over the same functions
	Tasks     Tasks
	Feed      Feed
	Control   Control
	Objects   Objects
	Settings  Settings                      // nil means that there are no aliases and no other settings
	Nodes     func() []functions.NodeStatus // nil means that nothing is said of what no node can run

	// Verify checks a request's AWS signature, which is over its body too. It
	// returns a *Refusal where the caller is at fault.
	Verify func(r *http.Request, body []byte) (accessKey, region string, err error)
	Trust  func(r *http.Request) bool // reports whether it needs no signature: it carries an API key of the native API, say

	QueueWait time.Duration    // the most that a synchronous call waits to be started; 0 means 30 s
	Now       func() time.Time // nil means time.Now
	Log       *slog.Logger     // may be nil
}

// API is AWS Lambda's API. It may be used from many goroutines.
type API struct {
	cfg        Config
	unverified *semaphore.Weighted // bytes of bodies whose sender is not known yet
	changes    sync.Mutex          // held while a function is changed
}

// maxUnverified bounds the memory that callers without a key can hold.
const maxUnverified = int64(256 * functions.MiB)

// maxDrained is the most that is read of a body that is too large.
const maxDrained = 4 * maxBody

// bodyTime is how long a body may take to come.
const bodyTime = 2 * time.Minute

// queueWait is how long a synchronous call waits to be started.
const queueWait = 30 * time.Second

// New returns the API.
func New(c Config) *API {
	c.QueueWait = cmp.Or(c.QueueWait, queueWait)
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return &API{cfg: c, unverified: semaphore.NewWeighted(maxUnverified)}
}

// route is one call of the API. Its handler answers, or returns why not.
type route struct {
	method, path string
	handle       func(w http.ResponseWriter, q *request) *apiError
}

// request is a call whose sender is known.
type request struct {
	*http.Request
	id        functions.TaskID // X-Amzn-RequestId; of the task that it makes, if it makes one
	body      []byte
	accessKey string // empty for a call with an API key
	region    string
}

// maxBody is the largest body of any call, and of a synchronous invocation.
const maxBody = 6291456

// Routes registers every route. Paths are templates of gorilla/mux. The last take
// what no other does: every call of AWS's begins with a date.
func (a *API) Routes(register func(method, path string, h http.HandlerFunc)) {
	for _, rt := range append(a.manageRoutes(), a.routes()...) {
		register(rt.method, rt.path, func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, rt) })
	}
}

func (a *API) routes() []route {
	all := a.invokeRoutes()
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		all = append(all, route{method, "/{date:20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]}/{rest:.*}", a.unknown})
	}
	return all
}

func (a *API) unknown(_ http.ResponseWriter, q *request) *apiError {
	return problem(codeUnknownOperation, "%s %.200q is not a call that is served here", q.Method, q.URL.EscapedPath())
}

// serve reads the body, learns who sent it, and runs the handler.
func (a *API) serve(w http.ResponseWriter, r *http.Request, rt route) {
	q := &request{Request: r, id: a.cfg.Door.NewID()}
	w.Header().Set("X-Amzn-RequestId", string(q.id))
	e := a.admit(w, q)
	if e == nil {
		e = rt.handle(w, q)
	}
	if e == nil {
		return
	}
	if e.status >= 500 && r.Context().Err() == nil {
		a.cfg.Log.Error("request failed", "path", rt.path, "request", q.id, "code", e.code, "err", e)
	}
	fail(w, e)
}

// admit reads the body and checks the caller. A signature is over the body, so
// the body comes first; what is read for senders not yet known is bounded.
func (a *API) admit(w http.ResponseWriter, q *request) *apiError {
	if !a.cfg.Trust(q.Request) {
		if q.Header.Get("Authorization") == "" {
			return problem(codeMissingToken, "Missing Authentication Token")
		}
		release, e := a.reserve(q)
		if e != nil {
			return e
		}
		defer release()
	}
	if e := a.receive(w, q); e != nil {
		return e
	}
	return a.identify(q)
}

// receive reads the body.
func (a *API) receive(w http.ResponseWriter, q *request) *apiError {
	patience := http.NewResponseController(w)
	_ = patience.SetReadDeadline(time.Now().Add(bodyTime)) // a writer without deadlines has no slow sender either
	defer func() { _ = patience.SetReadDeadline(time.Time{}) }()
	var err error
	if q.ContentLength <= maxBody {
		q.body, err = io.ReadAll(io.LimitReader(q.Body, maxBody+1))
	}
	if err != nil {
		return problem(codeInvalidContent, "The request body ends too early.")
	}
	if q.ContentLength > maxBody || len(q.body) > maxBody {
		// A client that still writes when the connection closes may never read why.
		_, _ = io.CopyN(io.Discard, q.Body, maxDrained)
		w.Header().Set("Connection", "close")
		return tooLarge(maxBody)
	}
	return nil
}

// reserve waits for room for a body whose sender is not known yet.
func (a *API) reserve(q *request) (release func(), e *apiError) {
	size := q.ContentLength
	if size < 0 || size > maxBody {
		size = maxBody
	}
	if err := a.unverified.Acquire(q.Context(), size); err != nil {
		return nil, problemOf(err)
	}
	return func() { a.unverified.Release(size) }, nil
}

func tooLarge(limit int) *apiError {
	return problem(codeTooLarge, "Request must be smaller than %d bytes for the InvokeFunction operation", limit)
}

// pathValue returns a variable of the path as the client escaped it.
func pathValue(r *http.Request, name string) string { return mux.Vars(r)[name] }
