package objects_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
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
