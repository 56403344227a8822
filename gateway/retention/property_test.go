package retention

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// pending is what a client has been promised by a look at the door's projection,
// and what has not reached the log yet.
type pending struct {
	until time.Time // it reaches the log by then
	land  func()
}

// history drives a world at random. Everything that other servers, nodes and
// clients do may happen at any point, in the middle of a sweep too.
type history struct {
	*world
	t       *rapid.T
	limits  Limits
	pending []pending
	lagging time.Time // since when the door's projection may lag; the leader's has no bound
	ours    map[string]intake.Owner
	foreign map[string]bool
	gone    map[string]bool // deleted by the retention
	calm    bool            // nothing fails, and nobody else acts
}

const (
	// promptly bounds the time from a look at the door to the event, and the lag
	// of what is looked at: both together must be under the grace.
	promptly = 9 * time.Minute
)

func (h *history) chance(percent int) bool {
	return rapid.IntRange(0, 99).Draw(h.t, "chance") < percent
}

func (h *history) anyTask() (functions.TaskID, bool) {
	if len(h.full.tasks) == 0 {
		return "", false
	}
	n := rapid.IntRange(1, h.made).Draw(h.t, "task")
	for id := range h.full.tasks {
		if strings.HasSuffix(string(id), fmt.Sprintf("%012x", n)) {
			return id, true
		}
	}
	return "", false
}

// advance moves the clock; whoever promised to be prompt is.
func (h *history) advance(d time.Duration) {
	for end := h.now.Add(d); h.now.Before(end); {
		next := end
		for _, p := range h.pending {
			if p.until.Before(next) {
				next = p.until
			}
		}
		if lag := h.lagging.Add(promptly); lag.Before(next) {
			next = lag
		}
		h.now = next
		for i := 0; i < len(h.pending); {
			if p := h.pending[i]; !p.until.After(h.now) {
				h.pending = append(h.pending[:i], h.pending[i+1:]...)
				p.land()
				h.check()
			} else {
				i++
			}
		}
		if !h.lagging.Add(promptly).After(h.now) {
			h.door.catchUp(h.log, len(h.log))
			h.lagging = h.now
		}
	}
}

// promise lets an event reach the log at some time within promptly.
func (h *history) promise(land func()) {
	if h.chance(50) {
		land()
		return
	}
	h.pending = append(h.pending, pending{h.now.Add(time.Duration(rapid.Int64Range(0, int64(promptly)).Draw(h.t, "delay"))), land})
}

func (h *history) store(bucket, key string) {
	h.put(bucket, key)
	o, ok := intake.OwnerOf(bucket, key)
	if !ok {
		h.foreign[bucket+"/"+key] = true
		return
	}
	h.ours[bucket+"/"+key] = o
	delete(h.gone, bucket+"/"+key)
}

func (h *history) act() {
	id, some := h.anyTask()
	task := h.full.tasks[id]
	switch what := rapid.IntRange(0, 10).Draw(h.t, "action"); {
	case what <= 1:
		h.submitAny()
	case what == 2:
		h.advance(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(h.t, "wait")))
	case what == 3: // the projections read on, each for itself
		h.door.catchUp(h.log, rapid.IntRange(0, len(h.log)).Draw(h.t, "door"))
		h.leader.catchUp(h.log, rapid.IntRange(0, len(h.log)).Draw(h.t, "leader"))
	case !some:
	case what <= 6:
		h.step(task)
	case what == 7:
		h.ctl(id, functions.Cancel)
	case what == 8:
		h.retry(id)
	case what == 9 && task.Attempt > 0: // a node that nobody waits for any more
		h.leaveAny(id, rapid.IntRange(1, task.Attempt).Draw(h.t, "late attempt"))
	case what == 10:
		h.store(intake.Results, fmt.Sprintf("%s/notes %d", id, len(h.log)))
	}
	h.check()
}

func (h *history) submitAny() {
	id := h.newID()
	sub := functions.Task{ID: id, Function: "f", CreatedAt: h.now}
	if h.chance(30) {
		h.store(intake.Bucket, "ev/"+string(id))
		sub.EventRef = &functions.ObjectRef{Bucket: intake.Bucket, Key: "ev/" + string(id)}
	}
	own := functions.ObjectRef{Bucket: intake.Bucket, Key: intake.InputKey(id, "a.wav")}
	sub.Inputs = []functions.Input{{Name: "a.wav", ObjectRef: own}}
	if h.chance(30) {
		sub.State = functions.AwaitingUpload
	}
	if sub.State == "" || h.chance(50) {
		h.store(own.Bucket, own.Key)
	}
	if keys := h.keys(); len(keys) > 0 && h.chance(50) {
		sub.Inputs = append(sub.Inputs, inputOf(rapid.SampledFrom(keys).Draw(h.t, "other's file")))
	}
	if h.chance(10) {
		return // a call that broke off: nobody's files
	}
	if err := intake.Kept(context.Background(), &h.door, id, sub.Inputs, h.now); err != nil {
		if !errors.Is(err, functions.ErrNotFound) {
			h.t.Fatal(err)
		}
		return
	}
	h.promise(func() { h.write(functions.Event{Kind: functions.Submit, Task: id, Sub: &sub}) })
}

// step takes a task forward.
func (h *history) step(task functions.Task) {
	id, n := task.ID, task.Attempt
	switch task.State {
	case functions.AwaitingUpload:
		h.store(intake.Bucket, intake.InputKey(id, "a.wav"))
		h.write(functions.Event{Kind: functions.Control, Task: id, Ctl: &functions.Request{Verb: functions.Uploaded, Inputs: task.Inputs}})
	case functions.Queued:
		h.write(functions.Event{Kind: functions.Assign, Task: id, Asg: &functions.Placement{Epoch: epoch, Attempt: n + 1, Node: "n", Boot: "b", Device: functions.CPU}})
	case functions.Assigned, functions.Canceling:
		h.leaveAny(id, n)
		if h.chance(50) {
			h.end(id, nil)
		} else {
			h.end(id, exit1)
		}
	}
}

func (h *history) leaveAny(id functions.TaskID, n int) {
	for _, name := range []string{"/a.txt", ".log.jsonl", ".result"} {
		h.store(intake.Results, fmt.Sprintf("%s/%d%s", id, n, name))
	}
}

// retry is what the gateway does, on its own projection.
func (h *history) retry(id functions.TaskID) {
	t, err := h.door.Task(context.Background(), id)
	if err != nil || !t.State.Final() || t.State == functions.Succeeded || !t.Purged.Inputs.IsZero() ||
		intake.Kept(context.Background(), &h.door, id, t.Inputs, h.now) != nil {
		return
	}
	h.promise(func() { h.ctl(id, functions.Retry) })
}

// check holds the world to the one promise: what a task that has not ended
// needs has not been deleted.
func (h *history) check() {
	for id, t := range h.full.tasks {
		if t.State.Final() {
			continue
		}
		refs := make([]functions.ObjectRef, 0, 3)
		for _, in := range t.Inputs {
			refs = append(refs, in.ObjectRef)
		}
		if t.EventRef != nil {
			refs = append(refs, *t.EventRef)
		}
		for _, ref := range refs {
			if h.gone[ref.Bucket+"/"+ref.Key] {
				h.t.Fatalf("task %s is %s and needs %s/%s, which the retention has deleted", id, t.State, ref.Bucket, ref.Key)
			}
		}
	}
}

// Delete checks every single deletion.
func (h *history) Delete(ctx context.Context, ref functions.ObjectRef) error {
	if !h.calm && h.chance(10) {
		return functions.Unavailable("store_unavailable", "down")
	}
	path := ref.Bucket + "/" + ref.Key
	before := len(h.deleted)
	err := h.world.Delete(ctx, ref)
	if err != nil || len(h.deleted) == before {
		return err
	}
	o, ours := h.ours[path]
	if !ours {
		h.t.Fatalf("%s is not ours and was deleted", path)
	}
	t, known := h.full.tasks[o.Task]
	limit := h.limits.of(o.Kind)
	switch {
	case limit == 0:
		h.t.Fatalf("%s was to be kept for ever", path)
	case known && t.State.Final() && o.Attempt > t.Earlier && h.now.Sub(t.FinishedAt) < limit:
		h.t.Fatalf("%s was deleted %s after its task's end", path, h.now.Sub(t.FinishedAt))
	case known && !t.State.Final() && (o.Attempt > t.Earlier || o.Kind == functions.StoredInputs):
		h.t.Fatalf("%s was deleted; its task is %s", path, t.State)
	case !known && h.now.Sub(o.Task.Time()) < max(limit, intake.Forgotten):
		h.t.Fatalf("%s was deleted; its task may be accepted yet", path)
	}
	h.gone[path] = true
	h.check()
	return nil
}

// TestNothingNeededIsEverDeletedAndEverythingElseIs, for any history.
func TestNothingNeededIsEverDeletedAndEverythingElseIs(t *testing.T) {
	deletions := 0
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]time.Duration{0, 30 * time.Minute, 2 * time.Hour, 100 * time.Hour})
		h := &history{world: newWorld(), t: t, ours: map[string]intake.Owner{}, foreign: map[string]bool{}, gone: map[string]bool{},
			limits: Limits{Inputs: limit.Draw(t, "inputs"), Outputs: limit.Draw(t, "outputs"), Logs: limit.Draw(t, "logs"), Grace: 20 * time.Minute}}
		h.lagging = h.now
		r, err := New(Config{Tasks: h, Log: h, Objects: h, Keep: h.limits, Rate: 1_000_000, Now: func() time.Time { return h.now }, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		h.hook = func() {
			if !h.calm && h.chance(15) {
				h.act()
			}
		}
		for range rapid.IntRange(2, 15).Draw(t, "rounds") {
			for range rapid.IntRange(1, 6).Draw(t, "actions") {
				h.act()
			}
			if h.chance(30) {
				h.advance(time.Duration(rapid.Int64Range(0, int64(120*time.Hour)).Draw(t, "long wait")))
			}
			_ = r.Sweep(context.Background()) // it may meet a store that is down
		}
		deletions += len(h.deleted)

		// Everything ends, and the store works.
		h.calm = true
		h.advance(time.Hour)
		for id := range h.full.tasks {
			for !h.full.tasks[id].State.Final() {
				h.step(h.full.tasks[id])
			}
		}
		for range 3 {
			h.advance(200 * time.Hour)
			if err := r.Sweep(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range h.keys() {
			if o := h.ours[key]; !h.foreign[key] && h.limits.of(o.Kind) > 0 {
				t.Fatalf("%s is still there", key)
			}
		}
		for key := range h.foreign {
			if _, there := h.world.store[key]; !there {
				t.Fatalf("%s was not ours to delete", key)
			}
		}
	})
	if deletions == 0 && !testing.Short() { // a sixth of the short runs, of 20 histories each, have none
		t.Error("no history had anything deleted in it")
	}
}
