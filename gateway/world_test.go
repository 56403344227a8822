package gateway_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/webfetch"
	"github.com/spillway/spillway/gateway"
	"github.com/spillway/spillway/gateway/intake"
)

func TestMain(m *testing.M) {
	// The embedded store's HTTP library ends these some seconds after its server, or never.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// world is everything around the gateway, in memory: a log that is folded with
// the real rules as it is written, a store, a registry and one node. run, when
// set, is what becomes of each queued task at once.
type world struct {
	g      *gateway.Gateway
	cfg    gateway.Config
	run    func(functions.Task) *functions.Outcome
	queued int // QueueLength's answer

	mu      sync.Mutex // guards the fields below
	seq     uint64
	tasks   map[functions.TaskID]functions.Task
	keys    map[string]functions.TaskID
	fns     map[functions.Name][]functions.Function
	sent    map[string]uint64 // sequences by message id: a repeated message is the first one
	objects map[string]object
	places  map[string]place   // files of shared folders, and at URLs
	pending map[string]pending // uploads in parts that were begun and not ended, by their id
	begun   int
	asked   int // requests that the store was sent about uploads
	aborts  int
	watch   func(functions.Change) // sees each change, with mu held

	making   func() // runs while an object is made of its parts, when neither is to be seen
	abortErr error
	stat     func(ctx context.Context, bucket, key, version string) (functions.ObjectRef, error) // in place of the store's own, without mu

	lines  []functions.LogLine
	down   error // every write to the log fails with it
	filled []functions.Backfill

	readmitted []string // NODE/UUID, in the order of the orders
	deaf       error    // every order to a node fails with it
}

type object struct {
	data []byte
	kind string
}

type pending struct {
	key       string
	checksums bool
	parts     map[int][]byte
}

// place is what is found at a SHARE/path or a URL.
type place struct {
	object
	err error
}

const epoch = 1

//go:embed openapi.json
var openapiJSON []byte

// described finds the part of openapi.json that a request falls under.
var described = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openapiJSON)
	if err != nil {
		return nil, err
	}
	return gorillamux.NewRouter(doc)
})

func newWorld(t testing.TB, change func(*gateway.Config)) *world {
	t.Helper()
	w := &world{
		seq: epoch, tasks: map[functions.TaskID]functions.Task{}, keys: map[string]functions.TaskID{},
		fns: map[functions.Name][]functions.Function{}, objects: map[string]object{}, sent: map[string]uint64{}, pending: map[string]pending{},
		places: map[string]place{},
	}
	for _, name := range []functions.Name{"echo", "thumbnail"} {
		w.fns[name] = []functions.Function{{Spec: functions.Spec{Name: name, Image: "img"}.WithDefaults(), Version: 1, CreatedAt: time.Unix(1, 0)}}
	}
	w.run = func(t functions.Task) *functions.Outcome {
		return &functions.Outcome{Result: json.RawMessage(`{"ok":true}`), Phases: []functions.Span{{Phase: functions.PhaseRun, MS: 2}}}
	}
	log := slog.New(slog.DiscardHandler)
	w.cfg = gateway.Config{
		Door:     intake.New(intake.Config{Log: w, Functions: w, Tasks: w, Queue: w, Objects: w, Shares: w, Web: w}),
		Appender: w, Tasks: w, Functions: registry{w}, Objects: w, Scheduler: w, NodeLogs: w, Ingest: w, Deliveries: w, Open: true, Log: log, Version: "test",
		Parse: func(b []byte) (s functions.Spec, err error) {
			if err := json.Unmarshal(b, &s); err != nil {
				return s, functions.Invalid("bad_spec", "line 1: %s", err.Error())
			}
			s = s.WithDefaults()
			return s, s.Validate()
		},
		Nodes: w,
	}
	if change != nil {
		change(&w.cfg)
	}
	g, err := gateway.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.g = g
	return w
}

// do sends one request and checks the answer against openapi.json.
func (w *world) do(t testing.TB, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if body == "" {
		r = httptest.NewRequestWithContext(t.Context(), method, path, nil)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.g.ServeHTTP(rec, r)
	w.conforms(t, r, rec)
	return rec
}

func (w *world) conforms(t testing.TB, r *http.Request, rec *httptest.ResponseRecorder) {
	t.Helper()
	kind := rec.Header().Get("Content-Type")
	if rec.Code >= 400 && kind != "application/problem+json" && r.URL.Path != "/readyz" {
		t.Errorf("%s %s: %d as %q, not as a problem: %s", r.Method, r.URL, rec.Code, kind, rec.Body)
	}
	router, err := described()
	if err != nil {
		t.Fatal(err)
	}
	rt, params, err := router.FindRoute(r)
	if err != nil || r.Method == http.MethodHead {
		return // not a route of ours: nothing to conform to
	}
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: rt},
		Status:                 rec.Code, Header: rec.Header(),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: !strings.Contains(kind, "json") || strings.Contains(kind, "ndjson")},
	}
	in.SetBodyBytes(rec.Body.Bytes())
	if err := openapi3filter.ValidateResponse(r.Context(), in); err != nil {
		t.Errorf("%s %s: %d does not conform to openapi.json: %v\n%s", r.Method, r.URL, rec.Code, err, rec.Body)
	}
}

func decode[T any](t testing.TB, rec *httptest.ResponseRecorder) (v T) {
	t.Helper()
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		t.Fatalf("decode %q: %v", rec.Body, err)
	}
	return v
}

// apply writes one event and folds it.
func (w *world) apply(e functions.Event) uint64 {
	w.mu.Lock()
	w.seq++
	seq := w.seq
	before := w.tasks[e.Task]
	var after functions.Task
	var err error
	if e.Kind == functions.Submit {
		after, err = functions.Accept(e, seq)
		key := string(after.Function) + "\x00" + after.Key
		if _, used := w.keys[key]; after.Key != "" && used {
			err = functions.ErrStale
		}
		if err == nil && after.Key != "" {
			w.keys[key] = after.ID
		}
	} else {
		after, err = before.Apply(e, epoch, seq)
	}
	if err == nil {
		w.tasks[e.Task] = after
		if w.watch != nil {
			w.watch(functions.Change{Seq: seq, Kind: e.Kind, Before: before.State, Task: after})
		}
	}
	w.mu.Unlock()
	if err != nil {
		return seq
	}
	w.g.Feed.Publish([]functions.Change{{Seq: seq, Kind: e.Kind, Before: before.State, Task: after}})
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

func (w *world) ids() []functions.TaskID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.tasks))
}

func (w *world) start(id functions.TaskID, d functions.Device) {
	w.apply(functions.Event{Kind: functions.Assign, Task: id, At: time.Now(), Asg: &functions.Placement{
		Epoch: epoch, Attempt: w.get(id).Attempt + 1, Node: "n1", Boot: "b", Device: d, Reason: "policy"}})
}

// finish closes the attempt and, when it failed, settles the task.
func (w *world) finish(id functions.TaskID, out functions.Outcome) {
	n := w.get(id).Attempt
	w.apply(functions.Event{Kind: functions.Finish, Task: id, At: time.Now(), Fin: &functions.Closing{Attempt: n, Node: "n1", Outcome: out}})
	if f := out.Failure; f != nil {
		to := functions.Failed
		if f.Class == functions.TimedOutRun {
			to = functions.TimedOut
		}
		w.release(id, functions.Verdict{To: to, Failure: f})
	}
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

func (w *world) Append(ctx context.Context, msgID string, events ...functions.Event) (uint64, error) {
	w.mu.Lock()
	seq, twice := w.sent[msgID]
	w.mu.Unlock()
	if twice {
		return seq, nil
	}
	seq, err := w.Submit(ctx, events[0])
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && w.sent[msgID] == 0 {
		w.sent[msgID] = seq
	}
	return seq, err
}

func (w *world) Task(_ context.Context, id functions.TaskID) (functions.Task, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t, ok := w.tasks[id]; ok {
		return t, nil
	}
	return functions.Task{}, functions.NotFound("task_not_found", "no task %s", id)
}

func (w *world) Find(_ context.Context, prefix string) (functions.Task, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, t := range w.tasks {
		if strings.HasPrefix(string(id), prefix) {
			return t, nil
		}
	}
	return functions.Task{}, functions.NotFound("task_not_found", "no task %.40q", prefix)
}

func (w *world) List(_ context.Context, q functions.TaskQuery) (p functions.TaskPage, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.tasks {
		if (q.Function == "" || t.Function == q.Function) && (q.Source == "" || t.Source == q.Source) && (len(q.States) == 0 || slices.Contains(q.States, t.State)) &&
			(q.Until.IsZero() || t.CreatedAt.Before(q.Until)) && (q.Cursor == "" || string(t.ID) < q.Cursor) {
			p.Tasks = append(p.Tasks, t)
		}
	}
	slices.SortFunc(p.Tasks, func(a, b functions.Task) int { return cmp.Compare(b.ID, a.ID) })
	if n := cmp.Or(q.Limit, 50); len(p.Tasks) > n {
		p.Tasks = p.Tasks[:n]
		p.Next = string(p.Tasks[n-1].ID)
	}
	return p, nil
}

func (w *world) Counts(context.Context) (functions.Counts, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := functions.Counts{}
	for _, t := range w.tasks {
		if c[t.Function] == nil {
			c[t.Function] = map[functions.State]int64{}
		}
		c[t.Function][t.State]++
	}
	return c, nil
}

func (w *world) Status(context.Context) (functions.IngestStatus, error) {
	at := time.Unix(5, 0).UTC()
	return functions.IngestStatus{
		Sources:   []functions.IngestSource{{Name: "outbox", Hints: 3, Started: 2, LastHint: at, Error: "x", ErrorAt: at}},
		Buckets:   []functions.IngestBucket{{Name: "inbox", ListedAt: at, Error: "x", Notifications: "y"}, {Name: "new"}},
		Functions: []functions.IngestFunction{{Name: "echo", Mark: functions.Mark{From: at, Until: at}, Held: "x"}, {Name: "new"}},
		MaxDepth:  8, Refused: 1, Refusals: []functions.IngestRefusal{{Function: "echo", Task: "t", Output: "a", Depth: 9, At: at}},
	}, nil
}

func (w *world) Backfill(ctx context.Context, ask functions.Backfill, tell func(functions.BackfillProgress) error) error {
	if _, err := w.Latest(ask.Function); err != nil {
		return err
	}
	w.filled = append(w.filled, ask)
	for i := range int64(3) {
		if err := tell(functions.BackfillProgress{Listed: i, Done: i == 2}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (w *world) WaitApplied(context.Context, uint64) error { return nil }

func (w *world) ByKey(_ context.Context, fn functions.Name, key string) (functions.TaskID, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, ok := w.keys[string(fn)+"\x00"+key]
	return id, ok, nil
}

func (w *world) QueueLength(functions.Name) int { return w.queued }

func (w *world) Latest(name functions.Name) (functions.Function, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v := w.fns[name]; len(v) > 0 {
		return v[len(v)-1], nil
	}
	return functions.Function{}, functions.NotFound("function_not_found", "no function is named %s", name).WithHint("deploy it first")
}

func (w *world) Version(name functions.Name, n int) (functions.Function, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v := w.fns[name]; n >= 1 && n <= len(v) {
		return v[n-1], nil
	}
	return functions.Function{}, functions.NotFound("function_not_found", "no version %d of %s", n, name)
}

// registry adds what would collide with the methods of tasks.
type registry struct{ *world }

func (r registry) List() (out []functions.Function) {
	for _, v := range r.fns {
		out = append(out, v[len(v)-1])
	}
	return out
}

func (r registry) Versions(name functions.Name) []functions.Function { return r.fns[name] }

func (r registry) Deploy(_ context.Context, s functions.Spec) (functions.Function, bool, error) {
	f := functions.Function{Spec: s, Version: len(r.fns[s.Name]) + 1, CreatedAt: time.Now()}
	r.fns[s.Name] = append(r.fns[s.Name], f)
	return f, true, nil
}

func (r registry) Delete(_ context.Context, name functions.Name) error {
	delete(r.fns, name)
	return nil
}

func (w *world) Put(_ context.Context, bucket, key string, r io.Reader, _ int64, kind string) (functions.ObjectRef, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return functions.ObjectRef{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.objects[bucket+"/"+key] = object{b, kind}
	return functions.ObjectRef{Bucket: bucket, Key: key, Size: int64(len(b)), ContentType: kind, SHA256: fmt.Sprintf("%064x", len(b)), ETag: "e"}, nil
}

func (w *world) Stat(ctx context.Context, bucket, key, version string) (functions.ObjectRef, error) {
	w.mu.Lock()
	w.asked++
	w.mu.Unlock()
	if w.stat != nil {
		return w.stat(ctx, bucket, key, version)
	}
	return w.look(bucket, key)
}

func (w *world) look(bucket, key string) (functions.ObjectRef, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := w.objects[bucket+"/"+key]
	if !ok {
		return functions.ObjectRef{}, functions.NotFound("object_not_found", "no object %s", key)
	}
	return functions.ObjectRef{Bucket: bucket, Key: key, Size: int64(len(o.data)), ContentType: o.kind, ETag: "e"}, nil
}

func (w *world) Get(ctx context.Context, ref functions.ObjectRef) (io.ReadCloser, error) {
	return w.GetRange(ctx, ref, 0, -1)
}

func (w *world) Head(ctx context.Context, bucket, key, version string, _, most int64) (functions.ObjectRef, []byte, error) {
	ref, err := w.Stat(ctx, bucket, key, version)
	if err != nil || most == 0 {
		return ref, nil, err
	}
	body, err := w.GetRange(ctx, ref, 0, min(ref.Size, most))
	if err != nil {
		return ref, nil, err
	}
	head, err := io.ReadAll(body)
	return ref, head, err
}

func (w *world) GetRange(_ context.Context, ref functions.ObjectRef, off, n int64) (io.ReadCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := w.objects[ref.Bucket+"/"+ref.Key]
	if !ok {
		return nil, functions.NotFound("object_not_found", "no object %s", ref.Key)
	}
	b := o.data[off:]
	if n >= 0 {
		b = b[:min(n, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (w *world) Look(file string, most int64) (functions.ObjectRef, []byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.places[file]
	switch {
	case !ok:
		return functions.ObjectRef{}, nil, functions.Unavailable("no_share", "not here")
	case p.err != nil:
		return functions.ObjectRef{}, nil, p.err
	}
	return functions.ObjectRef{Size: int64(len(p.data)), ContentType: p.kind, ETag: "seen"}, p.data[:min(most, int64(len(p.data)))], nil
}

func (w *world) Probe(_ context.Context, url string, most int64) (functions.ObjectRef, []byte, error) {
	return w.Look(url, most)
}

func (w *world) Check(url string) error {
	_, err := webfetch.Parse(url)
	return err
}

func (w *world) Of(_ context.Context, task functions.TaskID) ([]functions.Delivery, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tasks[task]
	if t.Webhook == "" || !t.State.Final() {
		return nil, nil
	}
	at := t.FinishedAt
	return []functions.Delivery{{
		ID: "end_1", Task: task, EndedAt: at, URL: t.Webhook, CreatedAt: at, Count: 2, Delivered: at.Add(time.Second),
		Tries: []functions.DeliveryTry{{At: at, MS: 1.5, Error: "connection refused"}, {At: at.Add(time.Second), MS: 3, Status: 200}},
	}}, nil
}

func (w *world) Delete(_ context.Context, ref functions.ObjectRef) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.objects, ref.Bucket+"/"+ref.Key)
	return nil
}

func (w *world) PresignPut(_ context.Context, ref functions.ObjectRef, ttl time.Duration) (functions.PresignedRequest, error) {
	return functions.PresignedRequest{Method: "PUT", URL: "http://store/" + ref.Bucket + "/" + ref.Key, ExpiresAt: time.Now().Add(ttl),
		Headers: map[string]string{"Content-Length": strconv.FormatInt(ref.Size, 10)}}, nil
}

func (w *world) PresignGet(_ context.Context, ref functions.ObjectRef, ttl time.Duration, _ string) (functions.PresignedRequest, error) {
	return functions.PresignedRequest{Method: "GET", URL: "http://store/" + ref.Bucket + "/" + ref.Key, ExpiresAt: time.Now().Add(ttl)}, nil
}

func (w *world) PresignPost(_ context.Context, ref functions.ObjectRef, least, most int64, ttl time.Duration) (functions.PostForm, error) {
	return functions.PostForm{URL: "https://store.example:9000/" + ref.Bucket, FileField: "file", ExpiresAt: time.Now().Add(ttl), Fields: map[string]string{
		"key": ref.Key, "Content-Type": ref.ContentType, "policy": fmt.Sprintf("%d to %d", least, most)}}, nil
}

func (w *world) NewMultipart(_ context.Context, ref functions.ObjectRef, checksums bool) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun++
	id := fmt.Sprintf("mpu-%d", w.begun)
	w.pending[id] = pending{ref.Bucket + "/" + ref.Key, checksums, map[int][]byte{}}
	return id, nil
}

func (w *world) PresignPart(_ context.Context, ref functions.ObjectRef, uploadID string, n int, size int64, sum string, ttl time.Duration) (functions.PresignedRequest, error) {
	to := functions.PresignedRequest{Method: "PUT", ExpiresAt: time.Now().Add(ttl), Headers: map[string]string{"Content-Length": strconv.FormatInt(size, 10)},
		URL: fmt.Sprintf("http://store/%s/%s?partNumber=%d&uploadId=%s", ref.Bucket, url.PathEscape(ref.Key), n, uploadID)}
	if sum != "" {
		to.Headers["X-Amz-Checksum-Sha256"] = sum
	}
	return to, nil
}

func (w *world) Parts(_ context.Context, ref functions.ObjectRef, uploadID string) (out []functions.Part, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	p, ok := w.pending[uploadID]
	if !ok || p.key != ref.Bucket+"/"+ref.Key {
		return nil, functions.NotFound("object_not_found", "no upload %s", uploadID)
	}
	for n, data := range p.parts {
		part := functions.Part{Number: n, Size: int64(len(data)), ETag: "e"}
		if p.checksums {
			part.SHA256 = fmt.Sprintf("%x", sha256.Sum256(data))
		}
		out = append(out, part)
	}
	slices.SortFunc(out, func(a, b functions.Part) int { return cmp.Compare(a.Number, b.Number) })
	return out, nil
}

func (w *world) CompleteMultipart(_ context.Context, ref functions.ObjectRef, uploadID string, parts []functions.Part) (functions.ObjectRef, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.pending[uploadID]
	if !ok {
		return ref, functions.NotFound("object_not_found", "no upload %s", uploadID)
	}
	if _, there := w.objects[p.key]; there {
		return ref, functions.Conflict("object_changed", "the key has an object")
	}
	delete(w.pending, uploadID)
	if making := w.making; making != nil {
		w.mu.Unlock()
		making()
		w.mu.Lock()
	}
	var all []byte
	for _, part := range parts {
		all = append(all, p.parts[part.Number]...)
	}
	w.objects[p.key] = object{all, ref.ContentType}
	return ref, nil
}

func (w *world) AbortMultipart(_ context.Context, _ functions.ObjectRef, uploadID string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.aborts++; w.abortErr == nil {
		delete(w.pending, uploadID)
	}
	return w.abortErr
}

// send does what a client does with the signed request of a part.
func (w *world) send(t testing.TB, to functions.PresignedRequest, data []byte) {
	t.Helper()
	u, err := url.Parse(to.URL)
	if err != nil || to.Headers["Content-Length"] != strconv.Itoa(len(data)) {
		t.Fatalf("send %d bytes to %+v: %v", len(data), to, err)
	}
	n, err := strconv.Atoi(u.Query().Get("partNumber"))
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[u.Query().Get("uploadId")].parts[n] = data
}

func (w *world) Explain(functions.TaskID) (functions.Waiting, bool) {
	return functions.Waiting{Code: functions.WaitGPUBusy, Reason: "2 GPUs, both leased", Ahead: 3, NextGPU: 40, ExpectedGPU: 55.5, ExpectedCPU: 12}, true
}

// Nodes has one node with a GPU in each state, and every field filled.
func (w *world) Nodes() []functions.NodeStatus {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	device := func(uuid string, index int, state functions.GPUState, reason string, until time.Time) functions.GPUInfo {
		return functions.GPUInfo{UUID: uuid, Index: index, Model: "NVIDIA H200", BusID: "00000000:1B:00.0", Memory: 140 * functions.GiB, Can: []string{"nvdec"},
			State: state, Reason: reason, Until: until, MaxLeases: 4, ReadAt: at, Used: 12 * functions.GiB, Free: 100 * functions.GiB, Utilisation: 37}
	}
	leased := device("GPU-1", 0, functions.GPULeased, "", time.Time{})
	leased.Leases = []functions.GPULease{{Task: "t1", Memory: 12 * functions.GiB}, {Task: "t2"}}
	mig := functions.GPUInfo{UUID: "MIG-1", Index: 5, Parent: "GPU-5", Profile: "1g.18gb", Memory: 18 * functions.GiB, State: functions.GPUFree, ReadAt: at, Utilisation: -1}
	return []functions.NodeStatus{{
		NodeInfo: functions.NodeInfo{
			ID: "n1", Ready: true, Cache: &functions.CacheInfo{Budget: functions.GiB}, Capacity: functions.Resources{MilliCPU: 64000, Memory: 512 * functions.GiB, Tasks: 8},
			GPUs: []functions.GPUInfo{
				leased, device("GPU-2", 1, functions.GPUQuarantined, "gpu_device: unknown device", at.Add(time.Minute)),
				device("GPU-3", 2, functions.GPUEjected, "Xid 79", time.Time{}), device("GPU-4", 3, functions.GPUUnread, "no reading for 4s", time.Time{}), mig,
				{UUID: "GPU-6", Index: 6, Assumed: true, State: functions.GPUFree},
			},
			GPUHost: &functions.GPUHostInfo{State: functions.GPUHostOff, Reason: "gpu_host: driver not loaded", Until: at, Source: "nvml", Driver: "580.65.06", CUDA: "13.0",
				Unsuited: []functions.UnsuitedImage{{Image: "cuda:14", Reason: "unsatisfied condition: cuda>=14", Until: at}}},
		},
		Alive: true, LastSeen: time.Now(), Free: functions.Resources{Tasks: 5},
	}}
}

func (w *world) Readmit(_ context.Context, node functions.NodeID, uuid string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf == nil {
		w.readmitted = append(w.readmitted, string(node)+"/"+uuid)
	}
	return w.deaf
}

func (w *world) ReadLog(_ context.Context, _ functions.NodeID, _ functions.TaskID, attempt int, after int64) (out []functions.LogLine, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lines {
		if l.Attempt == attempt && l.N > after && len(out) < 2 { // a message holds only so many
			out = append(out, l)
		}
	}
	return out, nil
}

func (w *world) FollowLog(ctx context.Context, _ functions.TaskID, _ func([]functions.LogLine)) error {
	<-ctx.Done() // every live line is lost: the worst case
	return ctx.Err()
}

var errDisk = errors.New("secret path /var/lib/x: disk on fire")
