package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const epoch = 1

// world is everything around the API, in memory: a log that is folded with the
// real rules as it is written, a store and a registry. run says what becomes of
// each queued task at once; without it tasks stay queued.
type world struct {
	api *API
	run func(t functions.Task) *functions.Outcome

	mu       sync.Mutex // guards the fields below
	seq      uint64
	tasks    map[functions.TaskID]functions.Task
	keys     map[string]functions.TaskID
	fns      map[functions.Name][]functions.Function
	settings map[functions.Name]functions.LambdaSettings
	objects  map[string][]byte
	watches  map[*watch]functions.TaskID
	nodes    []functions.NodeStatus
	queued   int
	down     error // every write to the log fails with it
}

func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	w := &world{
		seq: epoch, tasks: map[functions.TaskID]functions.Task{}, keys: map[string]functions.TaskID{}, objects: map[string][]byte{},
		fns: map[functions.Name][]functions.Function{}, settings: map[functions.Name]functions.LambdaSettings{}, watches: map[*watch]functions.TaskID{},
	}
	for v := range 3 {
		w.fns["echo"] = append(w.fns["echo"], functions.Function{
			Spec: functions.Spec{Name: "echo", Image: "img", Timeout: functions.Duration(3 * time.Second)}.WithDefaults(), Version: v + 1,
		})
	}
	w.run = func(t functions.Task) *functions.Outcome { return &functions.Outcome{Result: w.event(t)} }
	door := intake.New(intake.Config{Log: w, Functions: w, Tasks: w, Queue: w, Objects: w})
	cfg := Config{
		Door: door, Functions: w, Tasks: w, Feed: w, Control: w, Objects: w, Settings: settings{w},
		Nodes: func() []functions.NodeStatus { return w.nodes },
		Trust: func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer key" },
		Verify: func(r *http.Request, _ []byte) (string, string, error) {
			_, credential, ok := strings.Cut(r.Header.Get("Authorization"), "Credential=")
			parts := strings.Split(credential, "/")
			switch {
			case !ok:
				return "", "", &Refusal{Code: codeMissingToken, Message: "Missing Authentication Token"}
			case parts[0] != "AKID":
				return "", "", &Refusal{Code: codeUnknownClient, Message: "The security token included in the request is invalid."}
			}
			return parts[0], parts[2], nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	w.api = New(cfg)
	return w
}

// ServeHTTP routes as the gateway does.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	m := mux.NewRouter().SkipClean(true).UseEncodedPath()
	w.api.Routes(func(method, path string, h http.HandlerFunc) { m.HandleFunc(path, h).Methods(method) })
	m.ServeHTTP(rw, r)
}

// do sends one request with an API key, unless the headers say otherwise.
func (w *world) do(ctx context.Context, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer key")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec
}

const echoPath = "/2015-03-31/functions/echo/invocations"

func (w *world) invoke(t testing.TB, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	return w.do(t.Context(), "POST", echoPath, body, header...)
}

func (w *world) event(t functions.Task) json.RawMessage {
	if t.EventRef == nil {
		return t.Event
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.objects[t.EventRef.Key]
}

func (w *world) apply(e functions.Event) uint64 {
	w.mu.Lock()
	w.seq++
	seq := w.seq
	before, known := w.tasks[e.Task]
	after, err := before, error(nil)
	switch {
	case known:
		after, err = before.Apply(e, epoch, seq)
	case e.Sub != nil && e.Sub.Key != "" && w.keys[e.Sub.Key] != "":
		err = functions.ErrStale // another call has the key
	default:
		after, err = functions.Accept(e, seq)
	}
	if err != nil {
		w.mu.Unlock()
		return seq
	}
	w.tasks[e.Task] = after
	if after.Key != "" {
		w.keys[after.Key] = after.ID
	}
	for s, id := range w.watches {
		if id == after.ID {
			s.changes <- after
		}
	}
	w.mu.Unlock()
	if after.State == functions.Queued && w.run != nil {
		if out := w.run(after); out != nil {
			w.start(after.ID, functions.CPU)
			w.finish(after.ID, *out)
		}
	}
	return seq
}

func (w *world) get(id functions.TaskID) functions.Task {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tasks[id]
}

// only returns the one task that there is.
func (w *world) only(t testing.TB) functions.Task {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Collect(maps.Values(w.tasks))
	if len(all) != 1 {
		t.Fatalf("there are %d tasks, not one", len(all))
	}
	return all[0]
}

func (w *world) start(id functions.TaskID, d functions.Device) {
	w.apply(functions.Event{Kind: functions.Assign, Task: id, At: time.Now(), Asg: &functions.Placement{
		Epoch: epoch, Attempt: w.get(id).Attempt + 1, Node: "n1", Boot: "b", Device: d, Reason: "policy"}})
}

// finish closes the attempt and, when it failed, settles the task.
func (w *world) finish(id functions.TaskID, out functions.Outcome) {
	n := w.get(id).Attempt
	w.apply(functions.Event{Kind: functions.Finish, Task: id, At: time.Now(), Fin: &functions.Closing{Attempt: n, Node: "n1", Outcome: out}})
	f := out.Failure
	if f == nil {
		return
	}
	to := functions.Failed
	if f.Class == functions.TimedOutRun {
		to = functions.TimedOut
	}
	w.release(id, functions.Verdict{To: to, Failure: f})
}

func (w *world) release(id functions.TaskID, v functions.Verdict) {
	v.Epoch, v.Attempt = epoch, w.get(id).Attempt
	w.apply(functions.Event{Kind: functions.Release, Task: id, At: time.Now(), Rel: &v})
}

func (w *world) Submit(_ context.Context, e functions.Event) (uint64, error) {
	if w.down != nil {
		return 0, w.down
	}
	return w.apply(e), nil
}

func (w *world) Append(ctx context.Context, _ string, events ...functions.Event) (uint64, error) {
	return w.Submit(ctx, events[0])
}

func (w *world) Task(_ context.Context, id functions.TaskID) (functions.Task, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t, ok := w.tasks[id]; ok {
		return t, nil
	}
	return functions.Task{}, functions.NotFound("task_not_found", "no task %s", id)
}

func (w *world) ByKey(_ context.Context, _ functions.Name, key string) (functions.TaskID, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, ok := w.keys[key]
	return id, ok, nil
}

func (w *world) WaitApplied(context.Context, uint64) error { return nil }

func (w *world) QueueLength(functions.Name) int { return w.queued }

func (w *world) Latest(name functions.Name) (functions.Function, error) {
	if v := w.fns[name]; len(v) > 0 {
		return v[len(v)-1], nil
	}
	return functions.Function{}, functions.NotFound("function_not_found", "no function is named %s", name)
}

func (w *world) Version(name functions.Name, n int) (functions.Function, error) {
	if v := w.fns[name]; n >= 1 && n <= len(v) {
		return v[n-1], nil
	}
	return functions.Function{}, functions.NotFound("function_not_found", "no version %d of %s", n, name)
}

func (w *world) Put(_ context.Context, bucket, key string, r io.Reader, _ int64, kind string) (functions.ObjectRef, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return functions.ObjectRef{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.objects[key] = b
	return functions.ObjectRef{Bucket: bucket, Key: key, Size: int64(len(b)), ContentType: kind}, nil
}

func (w *world) Get(_ context.Context, ref functions.ObjectRef) (io.ReadCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, ok := w.objects[ref.Key]
	if !ok {
		return nil, functions.NotFound("no_object", "no object %s", ref.Key)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (w *world) Head(context.Context, string, string, string, int64, int64) (functions.ObjectRef, []byte, error) {
	return functions.ObjectRef{}, nil, errors.New("no call refers to an object")
}

func (w *world) Delete(context.Context, functions.ObjectRef) error { return nil }

// settings are the world's settings of functions, without revisions.
type settings struct{ *world }

func (s settings) Get(_ context.Context, fn functions.Name) (functions.LambdaSettings, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings[fn], 1, s.down
}

func (s settings) Put(_ context.Context, fn functions.Name, v functions.LambdaSettings, _ uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings[fn] = v
	return nil
}

func (s settings) Delete(_ context.Context, fn functions.Name) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.settings, fn)
	return nil
}

// watch is one follower of a task.
type watch struct {
	w       *world
	changes chan functions.Task
}

func (w *world) Watch(id functions.TaskID) Watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &watch{w, make(chan functions.Task, 64)}
	w.watches[s] = id
	return s
}

// miss has every follower of a task miss changes.
func (w *world) miss() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.watches {
		close(s.changes)
		delete(w.watches, s)
	}
}

func (s *watch) Next(ctx context.Context) (functions.Task, bool, error) {
	select {
	case t, ok := <-s.changes:
		return t, ok, nil
	case <-ctx.Done():
		return functions.Task{}, false, context.Cause(ctx)
	}
}

func (s *watch) Leave() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	delete(s.w.watches, s)
}
