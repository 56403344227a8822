package ingest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

func createdEvent(bucket, key, version string) string {
	return fmt.Sprintf(`{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":%q},"object":{"key":%q,"versionId":%q,"size":1,"eTag":"forged"}}}`, bucket, url.QueryEscape(key), version)
}

func post(h http.Handler, auth, body string) int {
	r := httptest.NewRequest(http.MethodPost, "/internal/s3-events", strings.NewReader(body))
	if auth != "" {
		r.Header.Set("Authorization", auth)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// An event has no authority: whatever it says, only what the store holds and a
// trigger wants starts a task, once.
func TestEventsThatLieStartNothing(t *testing.T) {
	in, e, s := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
	h := NewHook(in, WebhookDurable, "token")
	s.put("inbox", "real", "data", "", born)
	s.put("secret", "real", "data", "", born)
	for _, c := range []struct {
		name, auth, body string
		want, tasks      int
	}{
		{"no token", "", `{"Records":[` + createdEvent("inbox", "real", "") + `]}`, 403, 0},
		{"a wrong token", "Bearer t0ken", `{"Records":[` + createdEvent("inbox", "real", "") + `]}`, 403, 0},
		{"a bucket that nothing watches", "Bearer token", `{"Records":[` + createdEvent("secret", "real", "") + `]}`, 200, 0},
		{"no such object", "Bearer token", `{"Records":[` + createdEvent("inbox", "no", "") + `]}`, 200, 0},
		{"no such version", "Bearer token", `{"Records":[` + createdEvent("inbox", "real", "v9") + `]}`, 200, 0},
		{"out of the bucket", "Bearer token", `{"Records":[` + createdEvent("inbox", "../secret/real", "") + `]}`, 200, 0},
		{"an output", "Bearer token", `{"Records":[` + createdEvent("results", "x", "") + `]}`, 200, 0},
		{"a removal", "Bearer token", `{"Records":[` + strings.Replace(createdEvent("inbox", "real", ""), "ObjectCreated:Put", "ObjectRemoved:Delete", 1) + `]}`, 200, 0},
		{"not UTF-8", "Bearer token", "{\"Records\":[{\"eventName\":\"s3:ObjectCreated:Put\",\"s3\":{\"bucket\":{\"name\":\"inbox\"},\"object\":{\"key\":\"\xff\"}}}]}", 200, 0},
		{"an escape that is not UTF-8", "Bearer token", `{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"inbox"},"object":{"key":"%FF"}}}]}`, 200, 0},
		{"a broken escape", "Bearer token", `{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"inbox"},"object":{"key":"%zz"}}}]}`, 200, 0},
		{"other types", "Bearer token", `{"Records":[{"eventName":7,"s3":[]}]}`, 200, 0},
		{"a list", "Bearer token", `[]`, 200, 0},
		{"cut off", "Bearer token", `{"Records":[` + createdEvent("inbox", "real", ""), 200, 0},
		{"too long", "Bearer token", `{"Records":[` + createdEvent("inbox", "real", "") + `]}` + strings.Repeat(" ", maxEvent), 200, 1}, // what it holds is whole
		{"a probe", "Bearer token", "", 200, 1},
		{"white space", "Bearer token", "\r\n", 200, 1},
		{"the truth among lies", "Bearer token", `{"Records":[` + createdEvent("inbox", "no", "") + "," + createdEvent("inbox", "real", "") + `]}`, 200, 1},
	} {
		if got := post(h, c.auth, c.body); got != c.want {
			t.Errorf("%s: answered %d, want %d", c.name, got, c.want)
		}
		if got := len(e.all()); got != c.tasks {
			t.Errorf("%s: %d tasks, want %d", c.name, got, c.tasks)
		}
	}
}

func TestAnEventOfTenThousandRecords(t *testing.T) {
	in, e, s := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
	var records []string
	for i := range 10_000 {
		records = append(records, fmt.Sprintf(`{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"inbox"},"object":{"key":"%d"}}}`, i%50))
	}
	for i := range 40 {
		s.put("inbox", fmt.Sprint(i), "x", "", born)
	}
	if got := post(NewHook(in, Webhook, "t"), "Bearer t", `{"Records":[`+strings.Join(records, ",")+`]}`); got != 200 {
		t.Errorf("answered %d", got)
	}
	if got := len(e.all()); got != 40 {
		t.Errorf("%d tasks, want 40", got)
	}
	if s.stats > 150 {
		t.Errorf("asked the store %d times: the same record is looked at again and again", s.stats)
	}
}

func TestOddKeysAreTakenAsTheyAre(t *testing.T) {
	in, e, s := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
	h := NewHook(in, Webhook, "t")
	keys := []string{"a b", "a+b", "100%", "%2F", "ü/漢字", "a..b", "../x", "x/../y", "tab\there", "line\nbreak", "\x01", "q?a=b&c", "a|b", strings.Repeat("long/", 200) + "x"}
	for i, key := range keys {
		s.put("inbox", key, "data", "", born)
		if got := post(h, "Bearer t", `{"Records":[`+createdEvent("inbox", key, "")+`]}`); got != 200 {
			t.Errorf("%q: answered %d", key, got)
		}
		all := e.all()
		found := false
		for _, task := range all {
			found = found || task.Inputs[0].Key == key
		}
		if len(all) != i+1 || !found {
			t.Errorf("%q: %d tasks, found %t", key, len(all), found)
		}
	}
}

// swapped shows one content and then, when it is read, has another.
type swapped struct {
	*shelf
	then func()
}

func (s swapped) Stat(ctx context.Context, bucket, key, version string) (functions.ObjectRef, error) {
	ref, err := s.shelf.Stat(ctx, bucket, key, version)
	s.then()
	return ref, err
}

func (s swapped) Head(ctx context.Context, bucket, key, version string, _, most int64) (functions.ObjectRef, []byte, error) {
	return headOf(ctx, s, bucket, key, version, most)
}

func TestObjectsThatChangeWhileTheyAreLookedAt(t *testing.T) {
	for _, versioned := range []bool{false, true} {
		in, e, s := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
		s.versioned = versioned
		old := s.put("inbox", "x", "old", "", born)
		changed := false
		in.Objects = swapped{s, func() {
			if !changed {
				changed = true
				s.put("inbox", "x", "new", "", born.Add(time.Minute))
			}
		}}
		for range 2 { // of the old content, and of the new
			if err := in.Offer(t.Context(), Hint{Bucket: "inbox", Key: "x", VersionID: old.VersionID}); err != nil {
				t.Error(err)
			}
			old.VersionID = ""
		}
		if got, want := len(e.all()), map[bool]int{false: 1, true: 2}[versioned]; got != want {
			t.Errorf("versions %t: %d tasks, want %d", versioned, got, want)
		}
	}
	in, e, s := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
	s.put("inbox", "x", "old", "", born)
	in.Objects = swapped{s, func() { s.objects = nil }}
	if err := in.Offer(t.Context(), Hint{Bucket: "inbox", Key: "x"}); err != nil || len(e.all()) != 0 {
		t.Errorf("deleted meanwhile: %v, %d tasks", err, len(e.all()))
	}
}

// MinIO opens a connection and says nothing, to see whether the target is there.
func TestAConnectionWithoutARequest(t *testing.T) {
	in, _, _ := build(nil)
	srv := httptest.NewServer(NewHook(in, Webhook, "t"))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if st, err := in.Status(t.Context()); err != nil || len(st.Sources) != 0 {
		t.Errorf("it was counted: %+v, %v", st.Sources, err)
	}
}

func TestFiguresOfHints(t *testing.T) {
	in, _, s := build(registry{fn("f", functions.Trigger{Bucket: "inbox"}), fn("g", functions.Trigger{Bucket: "inbox", ContentTypes: []string{"audio/*"}})})
	s.put("inbox", "x", "data", "", born)
	plain, durable := NewHook(in, Webhook, "t"), NewHook(in, WebhookDurable, "t")
	event := `{"Records":[` + createdEvent("inbox", "x", "") + `]}`
	post(plain, "Bearer t", event)
	post(durable, "Bearer t", event)
	post(durable, "Bearer t", "{")
	s.err = functions.Unavailable("x", "away")
	if got := post(plain, "Bearer t", event); got != 503 {
		t.Errorf("with the store away the answer is %d", got)
	}
	in.Trouble(SQS, functions.Unavailable("x", "no queue"))
	st, err := in.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]functions.IngestSource{
		"webhook":         {Hints: 2, Started: 1, Failures: 2}, // one of each function
		"webhook:durable": {Hints: 1, Duplicates: 1, Rejected: 1},
		"sqs":             {Failures: 1},
	}
	for _, got := range st.Sources {
		w := want[got.Name]
		if got.Hints != w.Hints || got.Started != w.Started || got.Duplicates != w.Duplicates || got.Rejected != w.Rejected || got.Failures != w.Failures {
			t.Errorf("%s: %+v, want %+v", got.Name, got, w)
		}
		delete(want, got.Name)
	}
	if len(want) != 0 {
		t.Errorf("no figures of %v", want)
	}
}
