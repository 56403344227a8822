package sqs

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/ingest"
	"github.com/spillway/spillway/gateway/intake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// message is one in the stand-in's queue.
type message struct {
	id, body string
	hidden   time.Time // until then
	handle   string    // of the newest receipt
	received int
}

// standIn is a queue that speaks the service's protocol: AWS JSON 1.0.
type standIn struct {
	t      *testing.T
	url    string
	second time.Duration // of its clock; longer ones leave a busy machine time to prolong

	mu        sync.Mutex // guards the fields below
	messages  []*message
	prolonged int
	fail      int           // so many requests are answered with 500
	arrived   chan struct{} // closed and replaced when something changes
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	s := &standIn{t: t, second: time.Second, arrived: make(chan struct{})}
	srv := httptest.NewServer(s)
	s.url = srv.URL
	t.Cleanup(func() {
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

func (s *standIn) changed() {
	close(s.arrived)
	s.arrived = make(chan struct{})
}

func (s *standIn) send(id, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, &message{id: id, body: body})
	s.changed()
}

// left returns the ids of the messages that are in the queue.
func (s *standIn) left() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.messages {
		ids = append(ids, m.id)
	}
	return ids
}

func (s *standIn) await(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.After(time.Minute)
	for {
		s.mu.Lock()
		done, change := ok(), s.arrived
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-change:
		case <-deadline:
			s.t.Fatalf("waited a minute: %s", what)
		}
	}
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	var in struct {
		QueueUrl, ReceiptHandle              string
		VisibilityTimeout                    int
		MaxNumberOfMessages, WaitTimeSeconds int
	}
	if err != nil || json.Unmarshal(raw, &in) != nil || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	if s.fail > 0 {
		s.fail--
		s.changed()
		s.mu.Unlock()
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	hide := time.Duration(in.VisibilityTimeout) * s.second
	switch r.Header.Get("X-Amz-Target") {
	case "AmazonSQS.ReceiveMessage":
		if in.MaxNumberOfMessages != 10 || in.WaitTimeSeconds != 20 || hide == 0 {
			s.t.Errorf("received with %+v", in)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"Messages": s.receive(r.Context(), hide)})
	case "AmazonSQS.DeleteMessage":
		s.mu.Lock()
		s.messages = slices.DeleteFunc(s.messages, func(m *message) bool { return m.handle == in.ReceiptHandle })
		s.changed()
		s.mu.Unlock()
		fmt.Fprint(w, "{}")
	case "AmazonSQS.ChangeMessageVisibility":
		s.mu.Lock()
		for _, m := range s.messages {
			if m.handle == in.ReceiptHandle {
				m.hidden = time.Now().Add(hide)
				s.prolonged++
			}
		}
		s.changed()
		s.mu.Unlock()
		fmt.Fprint(w, "{}")
	default:
		s.t.Errorf("unexpected call %s", r.Header.Get("X-Amz-Target"))
	}
}

// receive is a long poll.
func (s *standIn) receive(ctx context.Context, hide time.Duration) []map[string]any {
	for {
		out := []map[string]any{}
		s.mu.Lock()
		again := time.Hour
		for _, m := range s.messages {
			if wait := time.Until(m.hidden); wait > 0 {
				again = min(again, wait)
				continue
			}
			m.received++
			m.hidden, m.handle = time.Now().Add(hide), fmt.Sprintf("%s-%d", m.id, m.received)
			sum := md5.Sum([]byte(m.body))
			out = append(out, map[string]any{
				"MessageId": m.id, "ReceiptHandle": m.handle, "Body": m.body, "MD5OfBody": hex.EncodeToString(sum[:]),
				"Attributes": map[string]string{"ApproximateReceiveCount": fmt.Sprint(m.received)},
			})
		}
		if len(out) > 0 {
			s.changed()
		}
		change := s.arrived
		s.mu.Unlock()
		if len(out) > 0 {
			return out
		}
		t := time.NewTimer(again)
		select {
		case <-t.C:
		case <-change:
		case <-ctx.Done():
			t.Stop()
			return out
		}
		t.Stop()
	}
}

// ledger counts how often each message was taken.
type ledger struct {
	mu    sync.Mutex // guards tries
	tries map[string]int
}

func newLedger() *ledger { return &ledger{tries: map[string]int{}} }

func (l *ledger) take(body []byte) (try int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tries[string(body)]++
	return l.tries[string(body)]
}

func (s *standIn) run(cfg Config) (stop func()) {
	s.t.Helper()
	cfg.URL, cfg.Endpoint = s.url+"/1/inbox", s.url
	q, err := New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
}

func TestMessagesAreDeletedOnceTaken(t *testing.T) {
	s, l := newStandIn(t), newLedger()
	stop := s.run(Config{Take: func(_ context.Context, body []byte) error { l.take(body); return nil }})
	defer stop()
	for i := range 15 {
		s.send(fmt.Sprint(i), fmt.Sprintf("body %d ü\"", i))
	}
	s.await("the queue is empty", func() bool { return len(s.messages) == 0 })
	for body, n := range l.tries {
		if n != 1 {
			t.Errorf("%s was taken %d times", body, n)
		}
	}
	if len(l.tries) != 15 {
		t.Errorf("%d taken, want 15", len(l.tries))
	}
}

// A server that dies after the task is durable and before the message is deleted
// gets the message again, and starts nothing new.
func TestCrashBeforeTheDeletionStartsNothingTwice(t *testing.T) {
	s, d := newStandIn(t), &desk{}
	in := ingest.New(ingest.Config{Functions: d, Objects: store{d}, Door: d, Tasks: d, Marks: d})
	s.second = 4 * time.Second
	ctx, die := context.WithCancel(t.Context())
	taken := make(chan struct{})
	stop := s.run(Config{Visibility: time.Second, Take: func(own context.Context, body []byte) error {
		if err := in.Message(own, ingest.SQS, body); err != nil {
			t.Error(err)
		}
		close(taken)
		<-ctx.Done()
		return errors.New("killed")
	}})
	s.send("1", `{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"inbox"},"object":{"key":"a+b"}}}]}`)
	<-taken
	die()
	stop()
	if got := s.left(); len(got) != 1 {
		t.Fatalf("the queue holds %q, want the message", got)
	}
	stop = s.run(Config{Visibility: time.Second, Take: func(ctx context.Context, body []byte) error { return in.Message(ctx, ingest.SQS, body) }})
	defer stop()
	s.await("the message comes again", func() bool { return len(s.messages) == 0 })
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.offers != 2 || d.tasks != 1 {
		t.Errorf("offered %d times, %d tasks, want 2 and 1", d.offers, d.tasks)
	}
}

// What the queue's messages look like beside one object: a test event of AWS,
// and what nobody can read.
func TestMessagesThatReportNothing(t *testing.T) {
	s, d := newStandIn(t), &desk{}
	in := ingest.New(ingest.Config{Functions: d, Objects: store{d}, Door: d, Tasks: d, Marks: d})
	stop := s.run(Config{Visibility: time.Second, Take: func(ctx context.Context, body []byte) error { return in.Message(ctx, ingest.SQS, body) }})
	defer stop()
	s.send("test", `{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"inbox"}`)
	s.send("poison", "no JSON")
	s.await("the test event is deleted and the poison comes again", func() bool {
		return len(s.messages) == 1 && s.messages[0].id == "poison" && s.messages[0].received >= 2
	})
}

// desk is everything around an ingest: one function, one object, and a ledger
// whose reader lags behind, so that the door alone decides.
type desk struct {
	mu     sync.Mutex // guards the fields below
	key    string
	offers int
	tasks  int
}

func (d *desk) Versions(functions.Name) []functions.Function { return d.List() }

func (d *desk) List() []functions.Function {
	return []functions.Function{{Spec: functions.Spec{Name: "f", Triggers: []functions.Trigger{{Bucket: "inbox"}}}, Version: 1}}
}

func (d *desk) Arrived(_ context.Context, t functions.Task, _ string) (functions.Task, error) {
	return t, errors.New("no upload is awaited here")
}

func (d *desk) Accept(_ context.Context, c intake.Call) (intake.Ticket, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.offers++
	if d.key == c.Key {
		return intake.Ticket{Replayed: true}, nil
	}
	d.key = c.Key
	d.tasks++
	return intake.Ticket{}, nil
}

// store is the desk's one object.
type store struct{ *desk }

func (store) List(context.Context, string, string, string) iter.Seq2[functions.ObjectRef, error] {
	return func(func(functions.ObjectRef, error) bool) {}
}

func (store) ListSince(context.Context, string, string, time.Time) iter.Seq2[functions.Listed, error] {
	return func(func(functions.Listed, error) bool) {}
}

func (d *desk) Head(_ context.Context, bucket, key, _ string, _, _ int64) (functions.ObjectRef, []byte, error) {
	if key != "a b" {
		return functions.ObjectRef{}, nil, functions.NotFound("object_not_found", "no %s", key)
	}
	return functions.ObjectRef{Bucket: bucket, Key: key, ETag: "1", Size: 0}, []byte{}, nil
}

func (d *desk) Task(context.Context, functions.TaskID) (functions.Task, error) {
	return functions.Task{}, functions.NotFound("task_not_found", "none")
}

func (d *desk) ByKey(context.Context, functions.Name, string) (functions.TaskID, bool, error) {
	return "", false, nil
}

func (d *desk) Mark(context.Context, functions.Name) (functions.Mark, error) {
	return functions.Mark{}, nil
}

func (d *desk) Move(context.Context, functions.Name, functions.Mark) error { return nil }

func TestWhatFailsComesAgainAndPoisonStays(t *testing.T) {
	s, l := newStandIn(t), newLedger()
	stop := s.run(Config{Visibility: time.Second, Take: func(_ context.Context, body []byte) error {
		if try := l.take(body); string(body) == "poison" || try < 2 {
			return errors.New("not now")
		}
		return nil
	}})
	defer stop()
	s.send("a", "good")
	s.send("b", "poison")
	s.await("the good one is deleted and the poison received again", func() bool {
		return len(s.messages) == 1 && s.messages[0].id == "b" && s.messages[0].received >= 3
	})
}

func TestASlowMessageStaysHidden(t *testing.T) {
	s, l := newStandIn(t), newLedger()
	s.second = 4 * time.Second
	slow := make(chan struct{})
	stop := s.run(Config{Visibility: time.Second, Take: func(ctx context.Context, body []byte) error {
		l.take(body)
		select {
		case <-slow:
		case <-ctx.Done():
		}
		return nil
	}})
	defer stop()
	s.send("a", "slow")
	s.await("it was prolonged beyond its first while", func() bool { return s.prolonged >= 13 }) // three times a second
	if s.messages[0].received != 1 {
		t.Errorf("received %d times, want once", s.messages[0].received)
	}
	close(slow)
	s.await("it is deleted", func() bool { return len(s.messages) == 0 })
}

func TestAQueueThatDoesNotAnswerEndsNothing(t *testing.T) {
	s, l := newStandIn(t), newLedger()
	s.fail = 1
	troubles := make(chan error, 10)
	stop := s.run(Config{Take: func(_ context.Context, body []byte) error { l.take(body); return nil }, Trouble: func(err error) { troubles <- err }})
	defer stop()
	s.send("a", "x")
	s.await("it is taken after the queue is back", func() bool { return len(s.messages) == 0 })
	if err := <-troubles; err == nil {
		t.Error("nobody heard of it")
	}
}

func TestNewRefusesWhatIsNoQueue(t *testing.T) {
	for _, u := range []string{"", "inbox", "ftp://x/y", "://"} {
		if _, err := New(Config{URL: u}); err == nil {
			t.Errorf("%q was taken", u)
		}
	}
}

func TestRegionOfAQueue(t *testing.T) {
	for u, want := range map[string]string{
		"https://sqs.eu-west-9.amazonaws.com/1/q":     "eu-west-9",
		"https://sqs.cn-north-1.amazonaws.com.cn/1/q": "cn-north-1",
		"https://eu-west-1.queue.amazonaws.com/1/q":   "eu-west-1",
		"http://127.0.0.1:9324/1/q":                   "us-east-1",
		"http://sqs.internal/q":                       "us-east-1",
	} {
		if got := regionOf(u); got != want {
			t.Errorf("%s: %s, want %s", u, got, want)
		}
	}
}
