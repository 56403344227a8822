package objects_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects/miniotest"
)

// Rules of others are kept, of every kind: MinIO knows queues alone, other
// stores know more.
func TestForeignNotificationsOfEveryKindAreKept(t *testing.T) {
	const have = `<NotificationConfiguration>` +
		`<QueueConfiguration><Id>q</Id><Queue>arn:x:sqs::a:queue</Queue><Event>s3:ObjectRemoved:*</Event></QueueConfiguration>` +
		`<QueueConfiguration><Id>spillway-0</Id><Queue>arn:minio:sqs::OLD:webhook</Queue><Event>s3:ObjectCreated:*</Event></QueueConfiguration>` +
		`<TopicConfiguration><Id>t</Id><Topic>arn:x:sns::a:topic</Topic><Event>s3:ObjectCreated:*</Event></TopicConfiguration>` +
		`<CloudFunctionConfiguration><Id>l</Id><CloudFunction>arn:x:lambda::a:fn</CloudFunction><Event>s3:ObjectCreated:*</Event></CloudFunctionConfiguration>` +
		`</NotificationConfiguration>`
	var set string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, have)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		set = string(body)
	}))
	defer srv.Close()
	err := newStore(t, srv.URL, "").SetNotifications(t.Context(), "uploads",
		[]string{"arn:minio:sqs::FAST:webhook", "arn:minio:sqs::DURABLE:webhook"}, []functions.Trigger{{Bucket: "uploads", Prefix: "in/"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"<Id>q</Id>", "<Queue>arn:x:sqs::a:queue</Queue>", "<Id>t</Id>", "<Topic>arn:x:sns::a:topic</Topic>",
		"<Id>l</Id>", "<CloudFunction>arn:x:lambda::a:fn</CloudFunction>",
		"<Id>spillway-0</Id>", "<Queue>arn:minio:sqs::FAST:webhook</Queue>", "<Id>spillway-1</Id>", "<Queue>arn:minio:sqs::DURABLE:webhook</Queue>",
	} {
		if strings.Count(set, part) != 1 {
			t.Errorf("%s is %d times in %s", part, strings.Count(set, part), set)
		}
	}
	if strings.Contains(set, "OLD") {
		t.Errorf("our old rule is still in %s", set)
	}
}

// Two targets of one bucket, prefix and event are both told of an object: a
// quick one that forgets what it cannot deliver, and a lasting one.
func TestBothTargetsHearOfAnObject(t *testing.T) {
	heard := make(chan string, 16)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			heard <- r.URL.Path
		}
	}))
	t.Cleanup(hook.Close)
	m := miniotest.Start(t, miniotest.Options{Env: slices.Concat(
		miniotest.WebhookEnv("FAST", hook.URL+"/fast", "token", ""),
		miniotest.WebhookEnv("DURABLE", hook.URL+"/durable", "token", t.TempDir()))})
	if err := m.Store.EnsureBucket(t.Context(), "uploads"); err != nil {
		t.Fatal(err)
	}
	targets := []string{miniotest.WebhookARN("FAST"), miniotest.WebhookARN("DURABLE")}
	deadline := time.Now().Add(time.Minute)
	for { // MinIO answers a moment before it knows its targets
		err := m.Store.SetNotifications(t.Context(), "uploads", targets, []functions.Trigger{{Bucket: "uploads", Prefix: "in/"}})
		if err == nil {
			break
		}
		if !errors.Is(err, functions.ErrInvalid) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if _, err := m.Store.Put(t.Context(), "uploads", "in/x", strings.NewReader("x"), 1, ""); err != nil {
		t.Fatal(err)
	}
	for missing := map[string]bool{"/fast": true, "/durable": true}; len(missing) > 0; {
		select {
		case path := <-heard:
			delete(missing, path)
		case <-time.After(time.Minute):
			t.Fatalf("nothing came to %v", missing)
		}
	}
}
