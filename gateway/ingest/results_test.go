package ingest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
)

// produce lets a task of fn run and leave outputs under their names; depth is
// its place in line. Only what is accepted is in its outcome.
func (o *outside) produce(t *testing.T, id functions.TaskID, fn functions.Name, depth int, state functions.State, names ...string) functions.Task {
	t.Helper()
	task := functions.Task{ID: id, Function: fn, Version: 1, Depth: depth, State: state, Attempt: 2, Outcome: &functions.Outcome{}}
	for _, name := range names {
		o.put("results", string(id)+"/1/"+name, "of an attempt that failed", "", o.now)
		ref := o.put("results", string(id)+"/2/"+name, "data of "+name, "", o.now)
		task.Outcome.Outputs = append(task.Outcome.Outputs, functions.Output{Name: name, ObjectRef: ref})
	}
	o.engine.mu.Lock()
	defer o.engine.mu.Unlock()
	o.tasks[id] = task
	return task
}

func (o *outside) started(by functions.Name) (inputs []string) {
	for _, t := range o.all() {
		if t.Function == by && t.Source == "s3" {
			inputs = append(inputs, fmt.Sprintf("%s %s@%d", t.Inputs[0].Name, t.Parent[max(0, len(t.Parent)-1):], t.Depth))
		}
	}
	slices.Sort(inputs)
	return inputs
}

func chained() (*outside, *Ingest) {
	o := &outside{newEngine(), &shelf{}, newHistory(), &ledger{}, born}
	o.deploy("f", functions.Trigger{Bucket: "results", Prefix: "pages/", Suffix: ".png"}, functions.Trigger{Bucket: "results", Suffix: "/2/all.txt"})
	o.deploy("g", functions.Trigger{Bucket: "results", Suffix: ".png"})
	o.now = born.Add(time.Hour)
	return o, o.start()
}

const (
	first  = functions.TaskID("019b7c7a-3f00-7000-8000-000000000001")
	second = functions.TaskID("019b7c7a-3f00-7000-8000-000000000002")
)

func TestOutputsStartOtherFunctionsOnceTheirTaskHasSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, in := chained()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		task := o.produce(t, first, "g", 0, functions.Assigned, "pages/1.png", "2.png", "all.txt")
		go func() { done <- in.Run(ctx) }()
		synctest.Wait()
		// The store's own events come too early, or from attempts that fail: they do not count.
		for _, ob := range o.objects {
			if err := in.Offer(ctx, Hint{Bucket: ob.ref.Bucket, Key: ob.ref.Key}); err != nil {
				t.Error(err)
			}
		}
		in.Changed([]functions.Change{{Before: functions.Queued, Task: task}})
		synctest.Wait()
		if got := slices.Concat(o.started("f"), o.started("g")); len(got) != 0 {
			t.Errorf("started %q before the task succeeded", got)
		}
		task = o.produce(t, first, "g", 0, functions.Succeeded, "pages/1.png", "2.png", "all.txt")
		for range 2 {
			in.Changed([]functions.Change{{Before: functions.Assigned, Task: task}})
		}
		synctest.Wait()
		if got, want := o.started("f"), []string{"1.png 1@1", "all.txt 1@1"}; !slices.Equal(got, want) {
			t.Errorf("f started for %q, want %q", got, want)
		}
		if got := o.started("g"); len(got) != 0 {
			t.Errorf("g started on its own outputs: %q", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestListingFindsOutputsThatTheLogDidNotReport(t *testing.T) {
	o, in := chained()
	task := o.produce(t, first, "x", 3, functions.Assigned, "pages/1.png")
	o.put("results", "no-task/1/pages/1.png", "", "", o.now)
	o.put("results", string(second)+"/1/pages/1.png", "of a task nobody knows", "", o.now)
	if n, err := in.Reconcile(t.Context()); n != 0 || err == nil {
		t.Errorf("of a running attempt: started %d, %v, want an error that holds the marks", n, err)
	}
	if m, _ := o.marks.Mark(t.Context(), "f"); !m.Until.IsZero() {
		t.Errorf("the mark moved to %v past an attempt that may still be accepted", m.Until)
	}
	task.State = functions.Succeeded
	o.tasks[first] = task
	o.now = o.now.Add(48 * time.Hour)
	if n, err := in.Reconcile(t.Context()); n != 2 || err != nil {
		t.Errorf("started %d, %v, want one of each function", n, err)
	}
	if got, want := o.started("g"), []string{"1.png 1@4"}; !slices.Equal(got, want) {
		t.Errorf("g started for %q, want %q", got, want)
	}
	if m, _ := o.marks.Mark(t.Context(), "f"); !m.Until.Equal(o.now.Add(-in.Overlap)) {
		t.Errorf("the mark is at %v", m.Until)
	}
}

func TestAChainOfFunctionsEnds(t *testing.T) {
	o, in := chained()
	in.MaxDepth = 3
	o.produce(t, first, "f", 2, functions.Succeeded, "pages/1.png")
	o.produce(t, second, "f", 3, functions.Succeeded, "pages/1.png")
	for _, id := range []functions.TaskID{first, second, second} {
		if err := in.offerOutputs(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if n, err := in.Reconcile(t.Context()); n != 0 || err != nil {
		t.Errorf("listing started %d, %v", n, err)
	}
	if got, want := o.started("g"), []string{"1.png 1@3"}; !slices.Equal(got, want) {
		t.Errorf("started for %q, want %q", got, want)
	}
	st, err := in.Status(t.Context())
	want := functions.IngestRefusal{Function: "g", Task: second, Output: "pages/1.png", Depth: 4, At: o.now}
	if err != nil || st.Refused != 1 || len(st.Refusals) != 1 || st.Refusals[0] != want || st.MaxDepth != 3 {
		t.Errorf("status %+v, %v, want one refusal %+v", st, err, want)
	}
}
