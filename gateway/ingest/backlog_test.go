package ingest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
)

// events reports objects as MinIO would, one message for each.
func events(refs ...functions.ObjectRef) (all []string) {
	for _, r := range refs {
		e := createdEvent(r.Bucket, r.Key, r.VersionID)
		e = strings.Replace(e, `"size":1,"eTag":"forged"`, fmt.Sprintf(`"size":%d,"eTag":%q`, r.Size, r.ETag), 1)
		all = append(all, `{"Records":[`+e+`]}`)
	}
	return all
}

// running runs in until the test ends.
func running(t *testing.T, in *Ingest) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func sourceOf(t *testing.T, in *Ingest, name Source) functions.IngestSource {
	t.Helper()
	st, err := in.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range st.Sources {
		if s.Name == string(name) {
			return s
		}
	}
	return functions.IngestSource{}
}

// drowsy is a store that takes its time, and counts who waits for it.
type drowsy struct {
	*shelf
	wait time.Duration
	busy atomic.Int64
	most atomic.Int64
}

func (s *drowsy) Stat(ctx context.Context, bucket, key, version string) (functions.ObjectRef, error) {
	s.most.Store(max(s.most.Load(), s.busy.Add(1)))
	defer s.busy.Add(-1)
	select {
	case <-time.After(s.wait):
		return s.shelf.Stat(ctx, bucket, key, version)
	case <-ctx.Done():
		return functions.ObjectRef{}, context.Cause(ctx)
	}
}

func (s *drowsy) Head(ctx context.Context, bucket, key, version string, _, most int64) (functions.ObjectRef, []byte, error) {
	return headOf(ctx, s, bucket, key, version, most)
}

// A report of the fast target is answered while the store is still asked about
// its object, and about no more objects at once than there are workers.
func TestFastReportsAreAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, e, shelf := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
		s := &drowsy{shelf: shelf, wait: time.Second}
		in.Objects = s
		stop := running(t, in)
		h := NewHook(in, WebhookFast, "t")
		synctest.Wait() // the first listing is over
		began := time.Now()
		for i := range 2 * offers {
			ref := shelf.put("inbox", fmt.Sprint(i), "data", "", time.Time{}) // too old for listing
			if got := post(h, "Bearer t", events(ref)[0]); got != http.StatusOK {
				t.Errorf("answered %d", got)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the answers took %s", took)
		}
		if got := len(e.all()); got != 0 {
			t.Errorf("%d tasks before the store answered", got)
		}
		time.Sleep(2*time.Second + time.Millisecond)
		if got := len(e.all()); got != 2*offers {
			t.Errorf("%d tasks, want %d", got, 2*offers)
		}
		if got := s.most.Load(); got != offers {
			t.Errorf("%d objects looked at at once, want %d", got, offers)
		}
		stop()
		if got := sourceOf(t, in, WebhookFast); got.Hints != 2*offers || got.Started != 2*offers || got.Dropped != 0 {
			t.Errorf("figures %+v", got)
		}
	})
}

// Where nobody works the backlog off, it takes so many and drops the rest, which
// is counted and answered; listing finds them.
func TestAFullBacklogDropsReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, e, s := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
		h := NewHook(in, WebhookFast, "t")
		for i := range manyHints {
			ref := functions.ObjectRef{Bucket: "inbox", Key: fmt.Sprint("no", i), ETag: "e"}
			if got := post(h, "Bearer t", events(ref)[0]); got != http.StatusOK {
				t.Fatalf("report %d was answered with %d", i, got)
			}
		}
		lost := s.put("inbox", "lost", "data", "", born.Add(time.Minute))
		if got := post(h, "Bearer t", events(lost)[0]); got != http.StatusServiceUnavailable {
			t.Errorf("answered %d with a full backlog", got)
		}
		again := events(functions.ObjectRef{Bucket: "inbox", Key: "no0", ETag: "e"})[0]
		if got := post(h, "Bearer t", again); got != http.StatusOK {
			t.Errorf("what waits already was answered with %d", got)
		}
		if got := sourceOf(t, in, WebhookFast); got.Dropped != 1 {
			t.Errorf("figures %+v", got)
		}
		stop := running(t, in)
		synctest.Wait()
		if got := e.all(); len(got) != 1 || got[0].Inputs[0].Key != "lost" {
			t.Errorf("tasks %+v", got)
		}
		if got := post(h, "Bearer t", again); got != http.StatusOK {
			t.Errorf("answered %d after the backlog was worked off", got)
		}
		synctest.Wait()
		stop()
		if got := sourceOf(t, in, WebhookFast); got.Dropped != 1 || got.Hints != manyHints+2 {
			t.Errorf("figures %+v", got)
		}
	})
}

// Run ends although hints wait and a store does not answer.
func TestStoppingLeavesTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, e, shelf := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
		in.Objects = &drowsy{shelf: shelf, wait: time.Hour}
		stop := running(t, in)
		synctest.Wait()
		for i := range 3 * offers {
			ref := shelf.put("inbox", fmt.Sprint(i), "data", "", time.Time{})
			if err := in.Later(WebhookFast, []byte(events(ref)[0])); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		began := time.Now()
		stop()
		if took := time.Since(began); took != 0 || len(e.all()) != 0 {
			t.Errorf("stopping took %s, and there are %d tasks", took, len(e.all()))
		}
	})
}

// The same object, reported by both targets and twice by each at one moment, is
// looked at once and has one task; whoever waits for it gets the outcome.
func TestOneLookAtWhatIsReportedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, e, shelf := build(registry{fn("f", functions.Trigger{Bucket: "inbox"}), fn("g", functions.Trigger{Bucket: "inbox"})})
		s := &drowsy{shelf: shelf, wait: time.Second}
		in.Objects = s
		stop := running(t, in)
		synctest.Wait()
		fast, durable := NewHook(in, WebhookFast, "t"), NewHook(in, WebhookDurable, "t")
		event := events(shelf.put("inbox", "x", "data", "", time.Time{}))[0]
		answers := make(chan int, 2)
		for range 2 {
			if got := post(fast, "Bearer t", event); got != http.StatusOK {
				t.Errorf("fast answered %d", got)
			}
			go func() { answers <- post(durable, "Bearer t", event) }()
		}
		synctest.Wait()
		if len(answers) > 0 {
			t.Error("durable was answered before the task was there")
		}
		for range 2 {
			if got := <-answers; got != http.StatusOK {
				t.Errorf("durable answered %d", got)
			}
		}
		if got := post(durable, "Bearer t", event); got != http.StatusOK { // later once more
			t.Errorf("durable answered %d", got)
		}
		stop()
		if got := len(e.all()); got != 2 || e.void != 0 {
			t.Errorf("%d tasks, %d needless submits", got, e.void)
		}
		if shelf.stats != 2 { // stat and read
			t.Errorf("asked the store %d times", shelf.stats)
		}
		f, d := sourceOf(t, in, WebhookFast), sourceOf(t, in, WebhookDurable)
		if f.Started+d.Started != 2 || f.Duplicates+d.Duplicates < 6 || d.Hints != 3 {
			t.Errorf("figures %+v, %+v", f, d)
		}
	})
}

// An outage is told to all who report the object, so that the durable target
// sends it again.
func TestWhoJoinsAnOfferSharesItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, e, shelf := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
		in.Objects = &drowsy{shelf: shelf, wait: time.Second}
		event := events(shelf.put("inbox", "x", "data", "", time.Time{}))[0]
		durable := NewHook(in, WebhookDurable, "t")
		e.down = true
		answers := make(chan int, 2)
		for range 2 {
			go func() { answers <- post(durable, "Bearer t", event) }()
		}
		for range 2 {
			if got := <-answers; got != http.StatusServiceUnavailable {
				t.Errorf("answered %d while the log was down", got)
			}
		}
		e.down = false
		if got := post(durable, "Bearer t", event); got != http.StatusOK || len(e.all()) != 1 {
			t.Errorf("answered %d afterwards, %d tasks", got, len(e.all()))
		}
	})
}
