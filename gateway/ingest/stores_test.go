package ingest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/embedded"
	"github.com/spillway/spillway/functions/objects/miniotest"
	"github.com/spillway/spillway/gateway/ingest"
	"github.com/spillway/spillway/gateway/intake"
)

// desk stands for the log, its projection, the registry and the door: it counts
// the tasks of each key.
type desk struct {
	mu   sync.Mutex // guards keys
	keys map[string]int
	fns  []functions.Function
}

func newDesk(triggers ...functions.Trigger) *desk {
	spec := functions.Spec{Name: "f", Image: "i", Triggers: triggers}.WithDefaults()
	return &desk{keys: make(map[string]int), fns: []functions.Function{{Spec: spec, Version: 1, CreatedAt: time.Now().Add(-time.Minute)}}}
}

func (d *desk) List() []functions.Function { return d.fns }

func (d *desk) Versions(functions.Name) []functions.Function { return d.fns }

func (d *desk) Mark(context.Context, functions.Name) (functions.Mark, error) {
	return functions.Mark{}, nil
}

func (d *desk) Move(context.Context, functions.Name, functions.Mark) error { return nil }

func (d *desk) Accept(_ context.Context, c intake.Call) (intake.Ticket, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keys[c.Key] > 0 {
		return intake.Ticket{Replayed: true}, nil
	}
	d.keys[c.Key]++
	return intake.Ticket{}, nil
}

func (d *desk) Task(_ context.Context, id functions.TaskID) (functions.Task, error) {
	return functions.Task{}, functions.NotFound("task_not_found", "no task %s", id)
}

func (d *desk) ByKey(_ context.Context, _ functions.Name, key string) (functions.TaskID, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return "", d.keys[key] > 0, nil
}

func (d *desk) Arrived(_ context.Context, t functions.Task, _ string) (functions.Task, error) {
	return t, nil
}

func (d *desk) started() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.keys)
}

func (d *desk) ingest(st *objects.Store) *ingest.Ingest {
	return ingest.New(ingest.Config{Functions: d, Objects: st, Door: d, Tasks: d, Marks: d})
}

func put(t *testing.T, st *objects.Store, bucket, key string) {
	t.Helper()
	if _, err := st.Put(t.Context(), bucket, key, strings.NewReader(key), -1, "text/plain"); err != nil {
		t.Fatal(err)
	}
}

// The embedded store reports an object before its uploader hears of it, so the
// task is there when the upload returns.
func TestTheEmbeddedStoreStartsTasksAtOnce(t *testing.T) {
	d := newDesk(functions.Trigger{Bucket: "inbox", Suffix: ".txt"}, functions.Trigger{Bucket: "results"})
	c := embedded.Config{Root: t.TempDir(), Addr: miniotest.FreeAddr(t), AccessKey: "key", SecretKey: "secret-secret"}
	st, err := objects.New(objects.Config{Endpoint: "http://" + c.Addr, AccessKey: c.AccessKey, SecretKey: c.SecretKey, Embedded: true})
	if err != nil {
		t.Fatal(err)
	}
	in := d.ingest(st)
	ready := make(chan struct{})
	c.Ready, c.Created = ready, in.Created
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- embedded.Run(ctx, c) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	<-ready
	for _, bucket := range []string{"inbox", "results", "uploads"} {
		if err := st.EnsureBucket(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		put(t, st, "inbox", fmt.Sprintf("a/%d.txt", i))
		put(t, st, "inbox", fmt.Sprintf("a/%d.png", i))
		put(t, st, "results", fmt.Sprintf("a/%d.txt", i))
		if got := d.started(); got != i+1 {
			t.Fatalf("after %d uploads there are %d tasks", i+1, got)
		}
	}
	put(t, st, "inbox", "a/0.txt") // the same content again is the same object
	if n, err := in.Reconcile(t.Context()); n != 0 || err != nil || d.started() != 20 {
		t.Errorf("listing started %d, %v; there are %d tasks", n, err, d.started())
	}
	noLies(t, d, in, 20)
}

// Real MinIO with a fast and a durable webhook target, a receiver that is away,
// and a crash of the store: every acknowledged object has one task in the end.
func TestMinIOStartsTasksThroughWebhookAndListing(t *testing.T) {
	miniotest.Binary(t)
	const token = "token"
	d := newDesk(functions.Trigger{Bucket: "inbox", Prefix: "in/"})
	var hook atomic.Value
	var delivered atomic.Int64
	away := atomic.Bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		delivered.Add(1)
		hook.Load().(http.Handler).ServeHTTP(w, r)
	}))
	defer srv.Close()
	dir, queue := t.TempDir(), filepath.Join(t.TempDir(), "queue")
	env := append(miniotest.WebhookEnv("FAST", srv.URL, token, ""), miniotest.WebhookEnv("DURABLE", srv.URL, token, queue)...)
	m := miniotest.Start(t, miniotest.Options{Env: env, Dir: dir})
	in := d.ingest(m.Store)
	hook.Store(http.Handler(ingest.NewHook(in, ingest.Webhook, token)))
	for _, bucket := range []string{"inbox", "uploads"} {
		if err := m.Store.EnsureBucket(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	targets := []string{miniotest.WebhookARN("FAST"), miniotest.WebhookARN("DURABLE")}
	if err := in.SetNotifications(t.Context(), m.Store, append(targets, miniotest.WebhookARN("UNKNOWN"))); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("a target that MinIO does not know: %v", err)
	}
	if st, err := in.Status(t.Context()); err != nil || len(st.Buckets) != 2 || st.Buckets[0].Notifications == "" {
		t.Errorf("status %+v, %v", st.Buckets, err)
	}
	for range 2 { // the second time nothing changes
		if err := in.SetNotifications(t.Context(), m.Store, targets); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		put(t, m.Store, "inbox", fmt.Sprintf("in/a b+%d.txt", i))
	}
	await(t, "both targets report", func() bool { return delivered.Load() >= 20 })
	if got := d.started(); got != 10 {
		t.Errorf("%d tasks, want 10", got)
	}
	away.Store(true)
	for i := range 10 {
		put(t, m.Store, "inbox", fmt.Sprintf("in/away %d.txt", i))
	}
	m.Kill()
	away.Store(false)
	again := miniotest.Start(t, miniotest.Options{Env: env, Dir: dir})
	n, err := d.ingest(again.Store).Reconcile(t.Context())
	if err != nil {
		t.Error(err)
	}
	t.Logf("the listing made up for %d of 10", n)
	if got := d.started(); got != 20 {
		t.Errorf("%d tasks, want 20", got)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, tasks := range d.keys {
		if tasks != 1 {
			t.Errorf("%s has %d tasks", key, tasks)
		}
	}
}

// A bucket with versions whose events are all lost: listing starts a task for
// every version of every key, however odd.
func TestListingFindsEveryVersionInMinIO(t *testing.T) {
	m := miniotest.Start(t, miniotest.Options{})
	for _, bucket := range []string{"inbox", "uploads"} {
		if err := m.Store.EnsureBucket(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	client, err := minio.New(strings.TrimPrefix(m.Endpoint, "http://"), &minio.Options{Creds: credentials.NewStaticV4(miniotest.AccessKey, miniotest.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.EnableVersioning(t.Context(), "inbox"); err != nil {
		t.Fatal(err)
	}
	d := newDesk(functions.Trigger{Bucket: "inbox"})
	for range 3 {
		for _, key := range []string{"a b+c%20", "ü/漢字.txt", "x"} {
			put(t, m.Store, "inbox", key)
		}
	}
	if err := m.Store.Delete(t.Context(), functions.ObjectRef{Bucket: "inbox", Key: "x"}); err != nil { // a marker: the versions stay
		t.Fatal(err)
	}
	in := d.ingest(m.Store)
	for _, want := range []int{9, 0} {
		if n, err := in.Reconcile(t.Context()); n != want || err != nil {
			t.Errorf("listing started %d, %v, want %d", n, err, want)
		}
	}
	noLies(t, d, in, 9)
}

// noLies offers what is not there, which must start nothing.
func noLies(t *testing.T, d *desk, in *ingest.Ingest, tasks int) {
	t.Helper()
	for _, key := range []string{"gone", "../inbox/x", "../../etc/passwd", "a/../x", "/x", "no\x01such", strings.Repeat("k", 2000), "\xff", "..", "folder/"} {
		body, err := json.Marshal(map[string]any{"Records": []any{map[string]any{
			"eventName": "s3:ObjectCreated:Put",
			"s3":        map[string]any{"bucket": map[string]string{"name": "inbox"}, "object": map[string]string{"key": url.QueryEscape(key)}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Message(t.Context(), ingest.Webhook, body); err != nil && !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("%.20q: %v", key, err)
		}
	}
	if got := d.started(); got != tasks {
		t.Errorf("%d tasks, want %d", got, tasks)
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited a minute: %s", what)
		}
	}
}
