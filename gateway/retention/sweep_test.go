package retention

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

func sweepOf(t *testing.T, r *Retention) {
	t.Helper()
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestLifeOfFiles follows one task's files from its end to theirs.
func TestLifeOfFiles(t *testing.T) {
	w := newWorld()
	r := w.retention(limits, nil)
	id := w.submit()
	w.put(intake.Bucket, "ev/"+string(id))
	w.now = w.now.Add(1000 * time.Hour)
	sweepOf(t, r)
	w.run(id, nil)
	for _, c := range []struct {
		after time.Duration // the end
		left  int           // objects
		mark  functions.Stored
	}{
		{time.Hour, 6, ""},
		{limits.Logs + time.Minute, 6, functions.StoredLogs},
		{limits.Logs + limits.Grace, 6, ""},
		{limits.Logs + limits.Grace + 2*time.Minute, 5, ""},
		{limits.Inputs + time.Minute, 5, functions.StoredInputs},
		{limits.Inputs + limits.Grace + 2*time.Minute, 3, ""},
		{limits.Outputs + time.Minute, 3, functions.StoredOutputs},
		{limits.Outputs + limits.Grace + 2*time.Minute, 0, ""},
	} {
		w.now = w.full.tasks[id].FinishedAt.Add(c.after)
		before := w.full.tasks[id].Purged
		sweepOf(t, r)
		task := w.full.tasks[id]
		if got := len(w.store); got != c.left {
			t.Errorf("after %s there are %d objects, want %d: %v", c.after, got, c.left, w.keys())
		}
		for _, k := range []functions.Stored{functions.StoredInputs, functions.StoredOutputs, functions.StoredLogs} {
			if fresh := before.Of(k) != task.Purged.Of(k); fresh != (k == c.mark) {
				t.Errorf("after %s: %s newly given up %v", c.after, k, fresh)
			}
		}
	}
	logged := len(w.log)
	sweepOf(t, r)
	if len(w.log) != logged {
		t.Error("a sweep with nothing to do wrote to the log")
	}
}

// TestRetryAndPurgeAtTheSameMoment: whichever is first in the log wins, and the
// files are there if and only if the task runs again.
func TestRetryAndPurgeAtTheSameMoment(t *testing.T) {
	for _, retryFirst := range []bool{true, false} {
		w := newWorld()
		r := w.retention(limits, nil)
		id := w.submit()
		w.run(id, exit1)
		w.now = w.now.Add(limits.Outputs + time.Hour)
		var retried bool
		if retryFirst {
			w.writing = func() { retried = w.ctl(id, functions.Retry) }
		}
		sweepOf(t, r)
		w.writing = func() {}
		if !retryFirst {
			retried = w.ctl(id, functions.Retry)
		}
		task := w.full.tasks[id]
		if retried != retryFirst || task.State.Final() == retryFirst || task.Purged.Inputs.IsZero() != retryFirst {
			t.Fatalf("retry first %v: retried %v, %s, %+v", retryFirst, retried, task.State, task.Purged)
		}
		w.now = w.now.Add(time.Hour)
		sweepOf(t, r)
		if got := len(w.keys("uploads/in")); got != map[bool]int{true: 1, false: 0}[retryFirst] {
			t.Errorf("retry first %v: %d inputs are left", retryFirst, got)
		}
	}
}

// TestRetriedTaskKeepsItsNewFiles: marks from before a retry are not for what
// comes after it, even while a sweep that saw them is deleting.
func TestRetriedTaskKeepsItsNewFiles(t *testing.T) {
	w := newWorld()
	l := limits
	l.Inputs = 0
	r := w.retention(l, nil)
	id := w.submit()
	w.run(id, exit1)
	w.now = w.now.Add(l.Outputs + time.Hour)
	sweepOf(t, r)
	w.now = w.now.Add(time.Hour)
	w.refuse = func(string) error { // the first deletion
		if w.full.tasks[id].Attempt == 1 {
			if !w.ctl(id, functions.Retry) {
				t.Error("a task that has its inputs was not retried")
			}
			w.run(id, nil)
			w.catchUp()
			old := []functions.Input{inputOf("results/" + string(id) + "/1/a.txt")}
			if err := intake.Kept(t.Context(), &w.door, "", old, w.now); !errors.Is(err, functions.ErrNotFound) {
				t.Errorf("a file that is being deleted was not refused as an input: %v", err)
			}
		}
		return nil
	}
	sweepOf(t, r)
	if got := len(w.keys(string(id) + "/2")); got != 4 {
		t.Errorf("%d files of the new attempt are left, want 4: %v", got, w.keys())
	}
	if len(w.deleted) == 0 {
		t.Error("the old attempt's files were not being deleted")
	}
}

// TestGraceCountsFromTheLog: not from the time that an event bears, which may
// have taken long to get there, and not across a time without the log.
func TestGraceCountsFromTheLog(t *testing.T) {
	w := newWorld()
	r := w.retention(limits, nil)
	w.run(w.submit(), nil)
	w.now = w.now.Add(100 * time.Hour)
	w.writing = func() { w.now = w.now.Add(time.Hour) } // the log is slow
	sweepOf(t, r)
	w.writing = func() {}
	wait := func(d time.Duration, want int) {
		t.Helper()
		w.now = w.now.Add(d)
		sweepOf(t, r)
		if got := len(w.store); got != want {
			t.Errorf("%d files are left, want %d", got, want)
		}
	}
	wait(limits.Grace-time.Minute, 5)
	w.silent = functions.Unavailable("log_unavailable", "down")
	if err := r.Sweep(t.Context()); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("a log that is down: %v", err)
	}
	w.silent = nil
	wait(2*time.Minute, 5)
	wait(limits.Grace-time.Minute, 5)
	r = w.retention(limits, nil) // another leader, which has not seen the time pass
	wait(2*time.Minute, 5)
	wait(limits.Grace+time.Minute, 0)
}

// TestFilesThatOthersNeed: outputs that an unfinished task works on stay for as
// long as it takes, and no new task gets files that are given up.
func TestFilesThatOthersNeed(t *testing.T) {
	w := newWorld()
	r := w.retention(limits, nil)
	first := w.submit()
	w.run(first, nil)
	out := w.keys("results", "/1/a.txt")[0]
	second := w.submit(inputOf(out))
	w.now = w.now.Add(1000 * time.Hour)
	for range 3 {
		sweepOf(t, r)
		w.now = w.now.Add(time.Hour)
	}
	if !slices.Contains(w.keys(), out) || len(w.keys("uploads/in/"+string(first))) != 0 {
		t.Fatalf("left: %v", w.keys())
	}
	w.catchUp()
	if err := intake.Kept(t.Context(), &w.door, "", []functions.Input{inputOf(out)}, w.now); err != nil {
		t.Errorf("what is kept anyway was refused: %v", err)
	}
	w.run(second, nil)
	sweepOf(t, r)
	w.catchUp()
	err := intake.Kept(t.Context(), &w.door, "", []functions.Input{inputOf(out)}, w.now)
	var e *functions.Error
	if !errors.As(err, &e) || e.Code != "inputs_expired" {
		t.Errorf("an input that is given up was not refused: %v", err)
	}
	w.now = w.now.Add(time.Hour)
	sweepOf(t, r)
	if slices.Contains(w.keys(), out) {
		t.Error("nobody needs it any more, and it is still there")
	}
}

func TestForeignObjectsAreLeftAloneAndNamedOnce(t *testing.T) {
	w := newWorld()
	var logs bytes.Buffer
	r := w.retention(limits, &logs)
	id := string(w.newID())
	foreign := []string{"uploads/mine.txt", "uploads/in/x/y", "uploads/in/" + id, "uploads/ev/" + id + "/x", "results/00000000-0000-4000-8000-000000000000/1/a",
		"results/readme", "results/" + id + "/0/a", "results/" + id + "/01/a", "results/" + id + "/1.tmp", "results/" + id + "/1", "results/" + id + "/1/../a", "other/in/" + id + "/a"}
	for _, f := range foreign {
		bucket, key, _ := strings.Cut(f, "/")
		w.put(bucket, key)
	}
	w.put(intake.Bucket, "in/"+id+"/ours")
	w.now = w.now.Add(9000 * time.Hour)
	sweepOf(t, r)
	sweepOf(t, r)
	if len(w.deleted) != 1 || len(w.store) != len(foreign) {
		t.Errorf("deleted %v", w.deleted)
	}
	if n := strings.Count(logs.String(), "left alone"); n != 3 {
		t.Errorf("reported %d times, want once for each of the three places:\n%s", n, &logs)
	}
}

// TestSweepStopsAtYoungTasks: what is too young is not even looked at.
func TestSweepStopsAtYoungTasks(t *testing.T) {
	w := newWorld()
	for range 5 {
		w.run(w.submit(), nil)
	}
	w.now = w.now.Add(limits.Logs + time.Hour)
	for range 50 {
		w.run(w.submit(), nil)
	}
	w.catchUp()
	asked := 0
	w.hook = func() { asked++ }
	sweepOf(t, w.retention(limits, nil))
	if asked > 20 {
		t.Errorf("the sweep asked %d times for 5 old tasks", asked)
	}
}

func TestFailuresAreTriedAgain(t *testing.T) {
	w := newWorld()
	r := w.retention(limits, nil)
	for range 300 { // more than one message of the log
		w.run(w.submit(), nil)
		w.now = w.now.Add(time.Second)
	}
	w.now = w.now.Add(100 * time.Hour)
	sweepOf(t, r)
	w.now = w.now.Add(time.Hour)
	locked := w.keys("uploads")[7]
	w.refuse = func(key string) error {
		if key == locked {
			return functions.NewError(functions.ErrForbidden, "store_forbidden", "it is locked")
		}
		return nil
	}
	sweepOf(t, r) // one object that cannot be deleted keeps none of the others
	if got := w.keys(); len(got) != 1 || got[0] != locked {
		t.Errorf("%d objects are left", len(got))
	}
	if got := testutil.ToFloat64(r.metrics.failed); got != 1 {
		t.Errorf("%v failures counted, want 1", got)
	}

	w = newWorld()
	r = w.retention(limits, nil)
	for range 50 {
		w.run(w.submit(), nil)
	}
	w.now = w.now.Add(100 * time.Hour)
	sweepOf(t, r)
	w.now = w.now.Add(time.Hour)
	down := functions.Unavailable("store_unavailable", "down")
	asked := 0
	w.refuse = func(string) error { asked++; return down }
	if err := r.Sweep(t.Context()); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("a store that is down: %v", err)
	}
	if asked > 3*patience {
		t.Errorf("a store that is down was asked %d times", asked)
	}
	w.refuse = func(string) error { return nil }
	w.listing = down
	if err := r.Sweep(t.Context()); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("a store that does not list: %v", err)
	}
	w.listing = nil
	sweepOf(t, r)
	if len(w.store) != 0 {
		t.Errorf("%d objects are left", len(w.store))
	}
}

func TestFigures(t *testing.T) {
	w := newWorld()
	r := w.retention(limits, nil)
	reg := prometheus.NewRegistry()
	reg.MustRegister(r.Collectors()...)
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	w.run(w.submit(), nil)
	var size float64
	for _, k := range w.keys("results") {
		if !strings.HasSuffix(k, ".log.jsonl") {
			size += float64(w.store[k])
		}
	}
	w.now = w.now.Add(100 * time.Hour)
	sweepOf(t, r)
	w.now = w.now.Add(time.Hour)
	sweepOf(t, r)
	for kind, want := range map[functions.Stored]float64{functions.StoredInputs: 1, functions.StoredOutputs: 3, functions.StoredLogs: 1} {
		if got := testutil.ToFloat64(r.metrics.deleted.WithLabelValues(string(kind))); got != want {
			t.Errorf("%v %s deleted, want %v", got, kind, want)
		}
		if got := testutil.ToFloat64(r.metrics.purged.WithLabelValues(string(kind))); got != 1 {
			t.Errorf("%v tasks with %s purged, want 1", got, kind)
		}
	}
	if got := testutil.ToFloat64(r.metrics.bytes.WithLabelValues("outputs")); got != size {
		t.Errorf("%v bytes freed, want %v", got, size)
	}
	if got := testutil.ToFloat64(r.metrics.last); got != float64(w.now.Unix()) {
		t.Errorf("last sweep at %v", got)
	}
}

// TestRun: it sweeps soon after its start and at every interval, keeps its pace,
// and ends when it is told to, in the middle of a sweep too.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.now = time.Now().Add(-100 * time.Hour)
		for range 100 {
			w.submit()
		}
		for id := range w.full.tasks {
			w.run(id, nil)
		}
		var sweeps []time.Duration
		start := time.Now()
		r, err := New(Config{Tasks: w, Log: counted{w, func() { sweeps = append(sweeps, time.Since(start)) }}, Objects: w, Keep: limits, Rate: 10, Every: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(time.Hour + firstSweep + 30*time.Second) // 30 s into the sweep that deletes
		synctest.Wait()
		if !slices.Equal(sweeps, []time.Duration{firstSweep, firstSweep + time.Hour}) {
			t.Errorf("sweeps at %v", sweeps)
		}
		if got := len(w.deleted); got < 299 || got > 300 { // of 500
			t.Errorf("%d deletions in 30 s at 10 per second", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// counted tells when a sweep begins.
type counted struct {
	*world
	began func()
}

func (c counted) LastSeq(ctx context.Context) (uint64, error) {
	c.began()
	return c.world.LastSeq(ctx)
}

func TestNewRefusesNonsense(t *testing.T) {
	w := newWorld()
	if _, err := New(Config{Tasks: w, Log: w}); err == nil {
		t.Error("no store was no error")
	}
	if _, err := New(Config{Tasks: w, Log: w, Objects: w, Keep: Limits{Logs: -1}}); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("a negative limit: %v", err)
	}
}
