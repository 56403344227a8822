package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

func TestMain(m *testing.M) {
	// The embedded store's HTTP library ends these some seconds after its server, or never.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// engine is a log and its projection in memory: the first submit of a key wins,
// and events that fail their guard change nothing.
type engine struct {
	mu    sync.Mutex // guards the fields below
	seq   uint64
	tasks map[functions.TaskID]functions.Task
	keys  map[string]functions.TaskID
	void  int
	down  bool
	full  bool // as many tasks wait as any function allows
	blind bool // ByKey of ingest sees nothing, as a projection that lags
}

func newEngine() *engine {
	return &engine{tasks: map[functions.TaskID]functions.Task{}, keys: map[string]functions.TaskID{}}
}

func (e *engine) Submit(_ context.Context, ev functions.Event) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return 0, functions.Unavailable("log_unavailable", "the log does not answer")
	}
	e.seq++
	t, err := functions.Accept(ev, e.seq)
	if err != nil {
		return 0, err
	}
	key := string(t.Function) + "\x00" + t.Key
	if _, taken := e.keys[key]; taken && t.Key != "" {
		e.void++
		return e.seq, nil
	}
	e.keys[key], e.tasks[t.ID] = t.ID, t
	return e.seq, nil
}

func (e *engine) Append(_ context.Context, _ string, events ...functions.Event) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range events {
		e.seq++
		t, err := e.tasks[ev.Task].Apply(ev, 0, e.seq)
		if err != nil {
			e.void++
			continue
		}
		e.tasks[ev.Task] = t
	}
	return e.seq, nil
}

func (e *engine) Task(_ context.Context, id functions.TaskID) (functions.Task, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, ok := e.tasks[id]
	if !ok {
		return t, functions.NotFound("task_not_found", "no task %s", id)
	}
	return t, nil
}

func (e *engine) ByKey(_ context.Context, fn functions.Name, key string) (functions.TaskID, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id, ok := e.keys[string(fn)+"\x00"+key]
	return id, ok, nil
}

func (e *engine) WaitApplied(context.Context, uint64) error { return nil }

func (e *engine) QueueLength(functions.Name) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.full {
		return 1 << 30
	}
	return 0
}

func (e *engine) all() []functions.Task {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(maps.Values(e.tasks), func(a, b functions.Task) int {
		return strings.Compare(string(a.Function)+a.Key, string(b.Function)+b.Key)
	})
}

// lagging is the projection as a server sees it that is behind.
type lagging struct{ *engine }

func (l lagging) ByKey(ctx context.Context, fn functions.Name, key string) (functions.TaskID, bool, error) {
	if l.blind {
		return "", false, nil
	}
	return l.engine.ByKey(ctx, fn, key)
}

type stored struct {
	ref  functions.ObjectRef
	data []byte
	at   time.Time
}

// shelf is an object store in memory.
type shelf struct {
	mu        sync.Mutex // guards the fields below
	objects   []stored   // oldest first
	versioned bool
	stats     int
	lists     int
	err       error
}

func (s *shelf) put(bucket, key, data, contentType string, at time.Time) functions.ObjectRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref := functions.ObjectRef{Bucket: bucket, Key: key, Size: int64(len(data)), ContentType: contentType, ETag: fmt.Sprintf("%x", data)}
	if s.versioned {
		ref.VersionID = fmt.Sprintf("v%d", len(s.objects))
	} else {
		s.objects = slices.DeleteFunc(s.objects, func(o stored) bool { return o.ref.Bucket == bucket && o.ref.Key == key })
	}
	s.objects = append(s.objects, stored{ref, []byte(data), at})
	return ref
}

func (s *shelf) find(bucket, key, version string) (stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats++
	for _, o := range slices.Backward(s.objects) {
		if s.err == nil && o.ref.Bucket == bucket && o.ref.Key == key && (version == "" || version == o.ref.VersionID) {
			return o, nil
		}
	}
	if s.err != nil {
		return stored{}, s.err
	}
	return stored{}, functions.NotFound("object_not_found", "no object")
}

func (s *shelf) Stat(_ context.Context, bucket, key, version string) (functions.ObjectRef, error) {
	o, err := s.find(bucket, key, version)
	return o.ref, err
}

func (s *shelf) GetRange(_ context.Context, ref functions.ObjectRef, off, length int64) (io.ReadCloser, error) {
	o, err := s.find(ref.Bucket, ref.Key, ref.VersionID)
	if err != nil {
		return nil, err
	}
	if o.ref.ETag != ref.ETag {
		return nil, functions.Conflict("object_changed", "replaced")
	}
	return io.NopCloser(bytes.NewReader(o.data[off:min(off+length, int64(len(o.data)))])), nil
}

func (s *shelf) Head(ctx context.Context, bucket, key, version string, _, most int64) (functions.ObjectRef, []byte, error) {
	return headOf(ctx, s, bucket, key, version, most)
}

// looker is a store as two requests see it.
type looker interface {
	Stat(ctx context.Context, bucket, key, version string) (functions.ObjectRef, error)
	GetRange(ctx context.Context, ref functions.ObjectRef, off, length int64) (io.ReadCloser, error)
}

// headOf looks at an object in two requests, as a store does when it is large.
func headOf(ctx context.Context, s looker, bucket, key, version string, most int64) (functions.ObjectRef, []byte, error) {
	ref, err := s.Stat(ctx, bucket, key, version)
	if err != nil {
		return ref, nil, err
	}
	body, err := s.GetRange(ctx, ref, 0, most)
	if err != nil {
		return ref, nil, err
	}
	head, err := io.ReadAll(body)
	return ref, head, err
}

func (s *shelf) Put(context.Context, string, string, io.Reader, int64, string) (functions.ObjectRef, error) {
	return functions.ObjectRef{}, errors.New("nothing is put here")
}

func (s *shelf) Delete(context.Context, functions.ObjectRef) error { return nil }

func (s *shelf) ListSince(_ context.Context, bucket, prefix string, since time.Time) iter.Seq2[functions.Listed, error] {
	return func(yield func(functions.Listed, error) bool) {
		s.mu.Lock()
		all, err := slices.Clone(s.objects), s.err
		s.lists++
		s.mu.Unlock()
		if err != nil {
			yield(functions.Listed{}, err)
			return
		}
		for _, o := range all {
			o.ref.ContentType = "" // a listing does not say
			if o.ref.Bucket == bucket && strings.HasPrefix(o.ref.Key, prefix) && !o.at.Before(since) && !yield(functions.Listed{ObjectRef: o.ref, Modified: o.at}, nil) {
				return
			}
		}
	}
}

// registry is a fixed list of functions.
type registry []functions.Function

func (r registry) List() []functions.Function { return r }

func (r registry) Latest(name functions.Name) (functions.Function, error) {
	for _, f := range r {
		if f.Name == name {
			return f, nil
		}
	}
	return functions.Function{}, functions.NotFound("function_not_found", "no function %s", name)
}

func (r registry) Version(name functions.Name, _ int) (functions.Function, error) {
	return r.Latest(name)
}

func (r registry) Versions(name functions.Name) (all []functions.Function) {
	for _, f := range r {
		if f.Name == name {
			all = append(all, f)
		}
	}
	return all
}

// ledger keeps marks in memory.
type ledger struct {
	mu    sync.Mutex // guards marks
	marks map[functions.Name]functions.Mark
}

func (l *ledger) Mark(_ context.Context, fn functions.Name) (functions.Mark, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.marks[fn], nil
}

func (l *ledger) Move(_ context.Context, fn functions.Name, m functions.Mark) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.marks == nil {
		l.marks = map[functions.Name]functions.Mark{}
	}
	l.marks[fn] = l.marks[fn].Merge(m)
	return nil
}

var born = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func fn(name string, triggers ...functions.Trigger) functions.Function {
	s := functions.Spec{Name: functions.Name(name), Image: "i", Triggers: triggers}
	return functions.Function{Spec: s.WithDefaults(), Version: 1, CreatedAt: born}
}

func build(fns registry) (*Ingest, *engine, *shelf) {
	e, s := newEngine(), &shelf{}
	now := func() time.Time { return born.Add(time.Hour) }
	door := intake.New(intake.Config{Log: e, Functions: fns, Tasks: e, Queue: e, Objects: s, Now: now})
	return New(Config{Functions: fns, Objects: s, Door: door, Tasks: lagging{e}, Marks: &ledger{}, Now: now}), e, s
}

const wav = "RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"

func TestAnObjectStartsEveryFunctionThatMatchesOnce(t *testing.T) {
	in, e, s := build(registry{
		fn("all", functions.Trigger{Bucket: "inbox"}, functions.Trigger{Bucket: "inbox", Prefix: "a"}),
		fn("audio", functions.Trigger{Bucket: "inbox", ContentTypes: []string{"audio/*"}, Device: functions.Required}),
		fn("pdf", functions.Trigger{Bucket: "inbox", ContentTypes: []string{"application/pdf"}}),
		fn("elsewhere", functions.Trigger{Bucket: "outbox"}),
	})
	ref := s.put("inbox", "a b/ü+%|.wav", wav, "text/plain", born)
	for range 3 {
		if err := in.Offer(t.Context(), Hint{Bucket: "inbox", Key: ref.Key}); err != nil {
			t.Fatal(err)
		}
	}
	got := e.all()
	if len(got) != 2 || got[0].Function != "all" || got[1].Function != "audio" {
		t.Fatalf("started %+v", got)
	}
	task := got[1]
	if task.Source != "s3" || task.Key != "s3|inbox|a+b/%C3%BC%2B%25%7C.wav|"+ref.ETag+"|24" {
		t.Errorf("source %q, key %q", task.Source, task.Key)
	}
	if task.Route.Policy != functions.Required || task.Route.Device != functions.GPU || task.Route.Class != functions.Audio {
		t.Errorf("route %+v", task.Route)
	}
	if in := task.Inputs; len(in) != 1 || in[0].Name != "ü+%|.wav" || in[0].Key != ref.Key || in[0].ETag != ref.ETag {
		t.Errorf("inputs %+v", in)
	}
	var event struct {
		Records []struct {
			EventName, EventSource, AwsRegion string
			S3                                struct {
				Bucket struct{ Name, Arn string }
				Object struct {
					Key, ETag string
					Size      int64
				}
			}
		}
	}
	if err := json.Unmarshal(task.Event, &event); err != nil {
		t.Fatal(err)
	}
	r := event.Records[0]
	if r.EventName != "ObjectCreated:Put" || r.EventSource != "aws:s3" || r.S3.Bucket.Arn != "arn:aws:s3:::inbox" ||
		r.S3.Object.Key != "a+b/%C3%BC%2B%25%7C.wav" || r.S3.Object.Size != 24 || r.S3.Object.ETag != ref.ETag {
		t.Errorf("event %s", task.Event)
	}
}

func TestWhatMustNotStartAnything(t *testing.T) {
	everything := fn("f", functions.Trigger{Bucket: "results"}, functions.Trigger{Bucket: "uploads"}, functions.Trigger{Bucket: "inbox"})
	in, e, s := build(registry{everything})
	for _, h := range []Hint{
		{Bucket: "results", Key: "task/1/out.json"},
		{Bucket: "uploads", Key: "in/not-a-task/x"},
		{Bucket: "uploads", Key: "in/0190a1b2-0000-7000-8000-000000000001/x"}, // a task nobody knows
		{Bucket: "uploads", Key: "ev/0190a1b2-0000-7000-8000-000000000001"},
		{Bucket: "inbox", Key: "folder/"},
		{Bucket: "other", Key: "x"},
	} {
		s.put(h.Bucket, h.Key, "data", "", born.Add(time.Minute))
		if err := in.Offer(t.Context(), h); err != nil {
			t.Errorf("%+v: %v", h, err)
		}
	}
	if err := in.Offer(t.Context(), Hint{Bucket: "inbox", Key: "gone"}); err != nil {
		t.Errorf("a gone object: %v", err)
	}
	if n, err := in.Reconcile(t.Context()); n != 0 || err != nil {
		t.Errorf("listing started %d, %v", n, err)
	}
	if got := e.all(); len(got) != 0 {
		t.Errorf("started %+v", got)
	}
}

func TestAnOutageIsAnErrorAndListingMakesUpForIt(t *testing.T) {
	in, e, s := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
	s.put("inbox", "x", "data", "", born.Add(time.Minute))
	s.err = functions.Unavailable("store_unavailable", "down")
	if err := in.Offer(t.Context(), Hint{Bucket: "inbox", Key: "x"}); err == nil {
		t.Error("a dead store is no error")
	}
	if _, err := in.Reconcile(t.Context()); err == nil {
		t.Error("a listing of a dead store is no error")
	}
	s.err, e.down = nil, true
	if err := in.Offer(t.Context(), Hint{Bucket: "inbox", Key: "x"}); err == nil {
		t.Error("a dead log is no error")
	}
	e.down = false
	if n, err := in.Reconcile(t.Context()); n != 1 || err != nil {
		t.Errorf("listing started %d, %v, want 1", n, err)
	}
	if n, err := in.Reconcile(t.Context()); n != 0 || err != nil {
		t.Errorf("second listing started %d, %v, want 0", n, err)
	}
}

func TestListingAsksTheStoreOnceAboutWhatDoesNotMatch(t *testing.T) {
	in, _, s := build(registry{fn("f", functions.Trigger{Bucket: "inbox", ContentTypes: []string{"audio/*"}})})
	for i := range 5 {
		s.put("inbox", fmt.Sprint(i), "plain text", "text/plain", born.Add(time.Minute))
	}
	for range 3 {
		if n, err := in.Reconcile(t.Context()); n != 0 || err != nil {
			t.Fatalf("started %d, %v", n, err)
		}
	}
	if s.stats != 10 { // stat and read of each
		t.Errorf("asked the store %d times, want 10", s.stats)
	}
}

func TestListingLeavesOldObjectsAlone(t *testing.T) {
	f := fn("f", functions.Trigger{Bucket: "inbox", Prefix: "a/"}, functions.Trigger{Bucket: "inbox", Prefix: "a/b/"})
	in, e, s := build(registry{f})
	s.put("inbox", "a/before the function", "1", "", born.Add(-time.Second))
	s.put("inbox", "a/b/after", "2", "", born.Add(time.Second))
	if n, err := in.Reconcile(t.Context()); n != 1 || err != nil {
		t.Errorf("started %d, %v, want 1", n, err)
	}
	if got := e.all(); len(got) != 1 {
		t.Errorf("started %+v", got)
	}
}

func TestMergeKeepsWhatCoversTheRest(t *testing.T) {
	later := born.Add(time.Hour)
	got := merge([]place{
		{"a", "x/", later}, {"a", "x/y/", born}, {"a", "x/", later}, {"b", "x/", born}, {"a", "xyz", later}, {"b", "y/", born},
	})
	want := []place{{"a", "x/", born}, {"b", "x/", born}, {"b", "y/", born}, {"a", "xyz", later}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAnAwaitedUploadStartsItsTaskOnce(t *testing.T) {
	in, e, s := build(registry{fn("f")})
	id := functions.TaskID("019b7c7a-3f00-7000-8000-000000000001") // made at born
	keys := []string{"in/" + string(id) + "/a.wav", "in/" + string(id) + "/b.txt"}
	task := functions.Task{ID: id, Function: "f", State: functions.AwaitingUpload, Route: functions.Route{Policy: functions.Auto}}
	for _, key := range keys {
		task.Inputs = append(task.Inputs, functions.Input{Name: key[len(key)-5:], ObjectRef: functions.ObjectRef{
			Bucket: "uploads", Key: key, Size: functions.UnknownSize, SHA256: "abc"}})
	}
	if _, err := e.Submit(t.Context(), functions.Event{Kind: functions.Submit, Task: id, Sub: &task}); err != nil {
		t.Fatal(err)
	}
	offer := func(key string) functions.Task {
		t.Helper()
		if err := in.Offer(t.Context(), Hint{Bucket: "uploads", Key: key}); err != nil {
			t.Fatal(err)
		}
		got, err := e.Task(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	s.put("uploads", keys[0], wav, "text/plain", born)
	if got := offer(keys[0]); got.State != functions.AwaitingUpload {
		t.Errorf("with one of two files it is %s", got.State)
	}
	task.Inputs[1].Size = 5
	s.put("uploads", keys[1], "hell", "text/plain", born)
	if got := offer(keys[1]); got.State != functions.AwaitingUpload {
		t.Errorf("with a file of another size it is %s", got.State)
	}
	s.put("uploads", keys[1], "hello", "text/plain", born)
	got := offer(keys[1])
	if got.State != functions.Queued || got.Route.Class != functions.Audio || got.Route.Device != functions.GPU {
		t.Errorf("it is %s with route %+v", got.State, got.Route)
	}
	if len(got.Inputs) != 2 || got.Inputs[0].ETag == "" || got.Inputs[0].SHA256 != "abc" || got.Inputs[1].Size != 5 {
		t.Errorf("inputs %+v", got.Inputs)
	}
	seq := got.Seq
	for range 5 {
		if got = offer(keys[0]); got.Seq != seq {
			t.Error("a later report changed the task")
		}
	}
}

func TestRunListsAtStartAndAtEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, _, s := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
		s.put("inbox", "x", "data", "", born.Add(time.Minute))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- in.Run(ctx) }()
		for i := range 3 {
			synctest.Wait()
			s.mu.Lock()
			if s.lists != i+1 {
				t.Errorf("after %d intervals there were %d listings, want %d", i, s.lists, i+1)
			}
			s.mu.Unlock()
			time.Sleep(in.Every)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		st, err := in.Status(t.Context())
		if err != nil || len(st.Buckets) != 1 || st.Buckets[0].Recovered != 1 {
			t.Errorf("status %+v, %v, want 1 recovered", st.Buckets, err)
		}
	})
}

// However hints are lost, repeated, reordered and raced, each function has one
// task for each content that a key had and a hint or a listing saw.
func TestAnyHintsStartOneTaskPerObjectVersion(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		in, e, s := build(registry{
			fn("all", functions.Trigger{Bucket: "inbox"}),
			fn("some", functions.Trigger{Bucket: "inbox", Prefix: "a"}),
		})
		s.versioned = rapid.Bool().Draw(rt, "versioned")
		e.blind = rapid.Bool().Draw(rt, "lagging")
		var hints []Hint
		for range rapid.IntRange(1, 12).Draw(rt, "writes") {
			key := rapid.SampledFrom([]string{"a", "a|b", "a%7Cb", "b", "c d"}).Draw(rt, "key")
			ref := s.put("inbox", key, rapid.SampledFrom([]string{"", "1", "22"}).Draw(rt, "data"), "", born.Add(time.Minute))
			for range rapid.IntRange(0, 3).Draw(rt, "reports") {
				hints = append(hints, Hint{Bucket: "inbox", Key: key, VersionID: ref.VersionID})
			}
		}
		hints = rapid.Permutation(hints).Draw(rt, "order")
		var wg sync.WaitGroup
		for _, h := range hints {
			wg.Go(func() {
				if err := in.Offer(t.Context(), h); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for range 2 {
			if _, err := in.Reconcile(t.Context()); err != nil {
				rt.Fatal(err)
			}
		}
		want := make(map[string]int)
		for _, o := range s.objects {
			want["all "+identity(o.ref)] = 1
			if strings.HasPrefix(o.ref.Key, "a") {
				want["some "+identity(o.ref)] = 1
			}
		}
		got := make(map[string]int)
		for _, task := range e.all() {
			got[string(task.Function)+" "+task.Key]++
		}
		if !maps.Equal(got, want) {
			rt.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestIdentityFitsTheDoorAndTellsContentsApart(t *testing.T) {
	seen := make(map[string]functions.ObjectRef)
	rapid.Check(t, func(t *rapid.T) {
		ref := functions.ObjectRef{
			Bucket: "b", Key: rapid.String().Draw(t, "key"), ETag: rapid.StringMatching(`[0-9a-f]{2}(-[0-9])?`).Draw(t, "etag"),
			Size: rapid.Int64Range(0, 3).Draw(t, "size"), VersionID: rapid.SampledFrom([]string{"", "null", "v1", strings.Repeat("v", 300)}).Draw(t, "version"),
		}
		id := identity(ref)
		if len(id) > 255 || strings.ContainsFunc(id, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			t.Fatalf("the door refuses %q", id)
		}
		if ref.VersionID == "null" {
			ref.VersionID = ""
		}
		if ref.VersionID != "" {
			ref.ETag, ref.Size = "", 0
		}
		if other, ok := seen[id]; ok && other != ref {
			t.Fatalf("%+v and %+v are both %s", ref, other, id)
		}
		seen[id] = ref
	})
}

func TestFileNamesAreAlwaysUsable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a/\\.\x00-\x20ü]{0,300}`)).Draw(t, "key")
		if err := functions.FileName(fileName(key)); err != nil {
			t.Fatalf("%q became %q: %v", key, fileName(key), err)
		}
	})
}
