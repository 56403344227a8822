package functions

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// legalMoves is written out a second time on purpose: a move added to the table
// by mistake must meet a second opinion.
var legalMoves = []string{
	"awaiting_upload>queued", "awaiting_upload>canceled", "awaiting_upload>expired",
	"queued>assigned", "queued>failed", "queued>canceled", "queued>expired",
	"assigned>succeeded", "assigned>deciding", "assigned>queued", "assigned>failed", "assigned>timed_out", "assigned>canceling",
	"deciding>queued", "deciding>failed", "deciding>timed_out", "deciding>canceled", "deciding>expired",
	"canceling>canceled", "canceling>succeeded",
	"failed>queued", "timed_out>queued", "canceled>queued", "expired>queued",
}

func TestCanMoveAllPairs(t *testing.T) {
	if len(States) != len(moves) {
		t.Fatalf("%d states, %d in the table", len(States), len(moves))
	}
	for _, from := range States {
		for _, to := range States {
			want := slices.Contains(legalMoves, string(from)+">"+string(to))
			if got := CanMove(from, to); got != want {
				t.Errorf("%s to %s: got %v, want %v", from, to, got, want)
			}
		}
		if from.Final() && CanMove(from, Queued) == (from == Succeeded) {
			t.Errorf("%s: retry allowed %v", from, CanMove(from, Queued))
		}
	}
	if CanMove("", Queued) || CanMove(Queued, "") || State("").Final() {
		t.Error("an unknown state moves")
	}
}

const id1 = TaskID("01920000-0000-7000-8000-000000000001")

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func subEvent(change func(*Task)) Event {
	t := Task{ID: id1, Function: "speech", CreatedAt: now}
	if change != nil {
		change(&t)
	}
	return Event{Kind: Submit, Task: id1, At: now, Sub: &t}
}

func asg(epoch uint64, attempt int) Event {
	return Event{Kind: Assign, Task: id1, At: now, Asg: &Placement{Epoch: epoch, Attempt: attempt, Node: "n1", Boot: "b", Device: GPU}}
}

func fin(attempt int, failure *Failure) Event {
	return Event{Kind: Finish, Task: id1, At: now.Add(time.Second), Fin: &Closing{Attempt: attempt, Outcome: Outcome{Failure: failure, GPUs: []string{"GPU-1"}}}}
}

func rel(epoch uint64, attempt int, to State, change func(*Verdict)) Event {
	v := &Verdict{Epoch: epoch, Attempt: attempt, To: to}
	if change != nil {
		change(v)
	}
	return Event{Kind: Release, Task: id1, At: now.Add(2 * time.Second), Rel: v}
}

func ctl(v Verb) Event {
	return Event{Kind: Control, Task: id1, At: now.Add(3 * time.Second), Ctl: &Request{Verb: v}}
}

var exit1 = &Failure{Class: ExitError, Message: "exit 1", ExitCode: 1}

// run folds a history with epoch 7. The last event's error is returned.
func run(t *testing.T, events ...Event) (Task, error) {
	t.Helper()
	task, err := Accept(events[0], 10)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events[1:] {
		after, err := task.Apply(e, 7, uint64(11+i))
		if i == len(events)-2 {
			return after, err
		}
		if err != nil {
			t.Fatalf("event %d: %v", i+1, err)
		}
		task = after
	}
	return task, nil
}

func TestApplyGuards(t *testing.T) {
	plain := subEvent(nil)
	upload := subEvent(func(t *Task) { t.State = AwaitingUpload })
	other := asg(7, 1)
	other.Task = "01920000-0000-7000-8000-000000000002"
	for _, c := range []struct {
		name   string
		events []Event
		want   State // empty: the last event is void
	}{
		{"accepted", []Event{plain}, Queued},
		{"accepted without its bytes", []Event{upload}, AwaitingUpload},
		{"a submitted final state is not believed", []Event{subEvent(func(t *Task) { t.State = Succeeded })}, Queued},
		{"accepted twice", []Event{plain, plain}, ""},
		{"event of another task", []Event{plain, other}, ""},
		{"event without content", []Event{plain, {Kind: Assign, Task: id1}}, ""},
		{"event of an unknown kind", []Event{plain, {Kind: "new", Task: id1}}, ""},
		{"kind and content differ", []Event{plain, {Kind: Finish, Task: id1, Asg: &Placement{Epoch: 7, Attempt: 1}}}, ""},

		{"placed", []Event{plain, asg(7, 1)}, Assigned},
		{"placed by an old leader", []Event{plain, asg(6, 1)}, ""},
		{"placed by a leader to come", []Event{plain, asg(8, 1)}, ""},
		{"placed as the wrong attempt", []Event{plain, asg(7, 2)}, ""},
		{"placed twice", []Event{plain, asg(7, 1), asg(7, 2)}, ""},
		{"placed before its bytes came", []Event{upload, asg(7, 1)}, ""},

		{"finished", []Event{plain, asg(7, 1), fin(1, nil)}, Succeeded},
		{"attempt failed", []Event{plain, asg(7, 1), fin(1, exit1)}, Deciding},
		{"finished before it ran", []Event{plain, fin(0, nil)}, ""},
		{"finished twice", []Event{plain, asg(7, 1), fin(1, nil), fin(1, nil)}, ""},
		{"an old attempt finishes", []Event{plain, asg(7, 1), rel(7, 1, Queued, nil), asg(7, 2), fin(1, nil)}, ""},
		{"a released attempt finishes", []Event{plain, asg(7, 1), rel(7, 1, Queued, nil), fin(1, nil)}, ""},

		{"lost and queued again", []Event{plain, asg(7, 1), rel(7, 1, Queued, nil)}, Queued},
		{"settled as failed", []Event{plain, asg(7, 1), fin(1, exit1), rel(7, 1, Failed, nil)}, Failed},
		{"settled as timed out", []Event{plain, asg(7, 1), fin(1, exit1), rel(7, 1, TimedOut, nil)}, TimedOut},
		{"waited too long", []Event{plain, rel(7, 0, Expired, nil)}, Expired},
		{"its bytes never came", []Event{upload, rel(7, 0, Expired, nil)}, Expired},
		{"settled by an old leader", []Event{plain, asg(7, 1), rel(6, 1, Queued, nil)}, ""},
		{"settled about an old attempt", []Event{plain, asg(7, 1), rel(7, 1, Queued, nil), asg(7, 2), rel(7, 1, Queued, nil)}, ""},
		{"settled after the end", []Event{plain, asg(7, 1), fin(1, nil), rel(7, 1, Queued, nil)}, ""},
		{"a leader cannot make a result", []Event{plain, asg(7, 1), rel(7, 1, Succeeded, nil)}, ""},
		{"a leader cannot settle on deciding", []Event{plain, asg(7, 1), rel(7, 1, Deciding, nil)}, ""},
		{"a leader cannot settle on canceling", []Event{plain, asg(7, 1), rel(7, 1, Canceling, nil)}, ""},
		{"settled on nothing", []Event{plain, asg(7, 1), rel(7, 1, "", nil)}, ""},
		{"queued again while queued", []Event{plain, rel(7, 0, Queued, nil)}, ""},
		{"a running task cannot expire", []Event{plain, asg(7, 1), rel(7, 1, Expired, nil)}, ""},

		{"canceled while queued", []Event{plain, ctl(Cancel)}, Canceled},
		{"canceled while awaiting its bytes", []Event{upload, ctl(Cancel)}, Canceled},
		{"canceled while the leader decides", []Event{plain, asg(7, 1), fin(1, exit1), ctl(Cancel)}, Canceled},
		{"cancel asked while it runs", []Event{plain, asg(7, 1), ctl(Cancel)}, Canceling},
		{"cancel asked twice", []Event{plain, asg(7, 1), ctl(Cancel), ctl(Cancel)}, ""},
		{"cancel came too late", []Event{plain, asg(7, 1), fin(1, nil), ctl(Cancel)}, ""},
		{"the result was faster than the stop", []Event{plain, asg(7, 1), ctl(Cancel), fin(1, nil)}, Succeeded},
		{"stopped on request", []Event{plain, asg(7, 1), ctl(Cancel), fin(1, exit1)}, Canceled},
		{"node lost while stopping", []Event{plain, asg(7, 1), ctl(Cancel), rel(7, 1, Queued, nil)}, Canceled},

		{"retried after failure", []Event{plain, asg(7, 1), fin(1, exit1), rel(7, 1, Failed, nil), ctl(Retry)}, Queued},
		{"retried after cancel", []Event{plain, ctl(Cancel), ctl(Retry)}, Queued},
		{"a success is not retried", []Event{plain, asg(7, 1), fin(1, nil), ctl(Retry)}, ""},
		{"a waiting task is not retried", []Event{plain, ctl(Retry)}, ""},
		{"nothing to retry without bytes", []Event{upload, rel(7, 0, Expired, func(v *Verdict) { v.Failure = &Failure{Class: UploadExpired} }), ctl(Retry)}, ""},
		{"bytes came", []Event{upload, ctl(Uploaded)}, Queued},
		{"bytes came while their wait was being ended", []Event{upload, ctl(Uploaded), rel(7, 0, Expired, func(v *Verdict) { v.Failure = &Failure{Class: UploadExpired} })}, ""},
		{"bytes came twice", []Event{upload, ctl(Uploaded), ctl(Uploaded)}, ""},
		{"unknown verb", []Event{plain, ctl("dance")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := run(t, c.events...)
			if c.want == "" {
				if !errors.Is(err, ErrStale) {
					t.Fatalf("got %s and %v, want a void event", got.State, err)
				}
				return
			}
			if err != nil || got.State != c.want {
				t.Fatalf("got %s, %v, want %s", got.State, err, c.want)
			}
			if got.State.Final() != !got.FinishedAt.IsZero() {
				t.Errorf("%s with finished_at %v", got.State, got.FinishedAt)
			}
			if got.Seq != uint64(10+len(c.events)-1) {
				t.Errorf("seq %d", got.Seq)
			}
		})
	}
}

func TestAcceptRefuses(t *testing.T) {
	wrong := subEvent(nil)
	wrong.Task = "01920000-0000-7000-8000-000000000002"
	for _, e := range []Event{{Kind: Submit, Task: id1}, asg(7, 1), wrong} {
		if _, err := Accept(e, 1); !errors.Is(err, ErrStale) {
			t.Errorf("%+v was accepted: %v", e, err)
		}
	}
	got, err := Accept(subEvent(func(t *Task) {
		t.Attempt, t.Attempts = 3, []Attempt{{Number: 3}}
		t.Outcome, t.Failure, t.Fallback, t.Only, t.FinishedAt = &Outcome{}, exit1, GPUHost, CPU, now
	}), 5)
	if err != nil || got.Attempt != 0 || got.Attempts != nil || got.Outcome != nil || got.Failure != nil || got.Fallback != "" || got.Only != "" || !got.FinishedAt.IsZero() || got.QueuedAt != now {
		t.Errorf("a new task has a past: %+v, %v", got, err)
	}
}

func TestApplyKeepsTheStory(t *testing.T) {
	nb := now.Add(time.Hour)
	lost := &Failure{Class: NodeLost, Message: "node n1 is silent"}
	events := []Event{
		subEvent(nil), asg(7, 1), fin(1, &Failure{Class: GPUHost, Message: "no driver"}),
		rel(7, 1, Queued, func(v *Verdict) {
			v.NotBefore, v.Device, v.Fallback, v.Why = nb, CPU, GPUHost, "respawned on the CPU"
		}),
	}
	got, err := run(t, events...)
	if err != nil {
		t.Fatal(err)
	}
	if got.Only != CPU || got.Fallback != GPUHost || got.NotBefore != nb || got.Outcome != nil || got.QueuedAt != events[3].At {
		t.Errorf("respawn: %+v", got)
	}
	if a := got.Last(); a.Failure.Class != GPUHost || a.Then != "respawned on the CPU" || a.GPUs[0] != "GPU-1" || a.EndedAt.IsZero() {
		t.Errorf("attempt 1: %+v", a)
	}
	before := got
	again, err := got.Apply(asg(7, 2), 7, 20)
	if err != nil || !again.NotBefore.IsZero() || again.DeviceUsed() != GPU || len(again.Attempts) != 2 {
		t.Fatalf("placed again: %+v, %v", again, err)
	}
	if len(got.Attempts) != 1 || got.Attempts[0].Then != before.Attempts[0].Then || got.State != Queued {
		t.Errorf("Apply changed its receiver: %+v", got)
	}
	gone, err := again.Apply(rel(7, 2, Failed, func(v *Verdict) { v.Failure = lost }), 7, 21)
	if err != nil || gone.Failure != lost || gone.Last().Failure != lost || got.Attempts[0].Failure == lost {
		t.Errorf("lost: %+v, %v", gone, err)
	}
	retry := ctl(Retry)
	retry.Ctl.Device = GPU
	fresh, err := gone.Apply(retry, 7, 22)
	if err != nil || fresh.Failure != nil || fresh.Fallback != "" || fresh.Only != GPU || !fresh.FinishedAt.IsZero() || fresh.Attempt != 2 {
		t.Errorf("retry: %+v, %v", fresh, err)
	}
	if (&Task{}).Last() != nil || (&Task{}).DeviceUsed() != "" {
		t.Error("a new task has an attempt")
	}
}

func TestUploadedBringsInputsAndRoute(t *testing.T) {
	e := ctl(Uploaded)
	route := Route{ContentType: "audio/wav"}.Decide()
	e.Ctl.Inputs, e.Ctl.Route = []Input{{Name: "speech.wav"}}, &route
	got, err := run(t, subEvent(func(t *Task) { t.State = AwaitingUpload }), e)
	if err != nil || got.Inputs[0].Name != "speech.wav" || got.Route.Device != GPU || got.QueuedAt != e.At {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	task, err := Accept(subEvent(nil), 1)
	for n := 1; n <= 100 && err == nil; n++ {
		if task, err = task.Apply(asg(7, n), 7, 1); err == nil {
			task, err = task.Apply(rel(7, n, Queued, nil), 7, 1)
		}
	}
	if err != nil || task.Attempt != 100 || len(task.Attempts) != maxAttempts || task.Last().Number != 100 || task.Attempts[0].Number != 69 {
		t.Errorf("attempt %d, %d kept, %v", task.Attempt, len(task.Attempts), err)
	}
}

// What GPUs did to a task, and since when it is refused, outlives any number of
// refusals; the claim of an attempt is kept with it.
func TestAFullHistoryForgetsRefusalsFirst(t *testing.T) {
	task, err := Accept(subEvent(nil), 1)
	apply := func(e Event) {
		if err == nil {
			task, err = task.Apply(e, 7, 1)
		}
	}
	n := 0
	lost := func() {
		n++
		e := asg(7, n)
		e.Asg.Device, e.Asg.Claim = GPU, GPUClaim{Count: 1, Memory: GiB}
		apply(e)
		apply(rel(7, n, Queued, func(v *Verdict) { v.Failure = &Failure{Class: GPULost} }))
	}
	lost()
	for range 2 {
		for range 50 {
			n++
			apply(asg(7, n))
			apply(rel(7, n, Queued, func(v *Verdict) { v.Failure = &Failure{Class: Refused} }))
		}
		lost()
	}
	var kept []int
	for _, a := range task.Attempts {
		if a.Failure.Class == GPULost {
			kept = append(kept, a.Number)
			if a.Claim.Memory != GiB {
				t.Errorf("attempt %d asked for %+v", a.Number, a.Claim)
			}
		}
	}
	if err != nil || len(task.Attempts) != maxAttempts || !slices.Equal(kept, []int{1, 52, 103}) || task.Attempts[1].Number != 2 {
		t.Errorf("kept %v of %d, then attempt %d: %v", kept, len(task.Attempts), task.Attempts[1].Number, err)
	}
}

// TestPurge: files are given up only when the task has ended, once each, and a
// task without its inputs cannot run again.
func TestPurge(t *testing.T) {
	purge := func(at time.Time, what ...Stored) Event {
		return Event{Kind: Control, Task: id1, At: at, Ctl: &Request{Verb: Purge, Stored: what}}
	}
	task, err := Accept(subEvent(nil), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := task.Apply(purge(now, StoredInputs), 0, 2); !errors.Is(err, ErrStale) {
		t.Errorf("a queued task was purged: %v", err)
	}
	task, err = task.Apply(Event{Kind: Control, Task: id1, At: now, Ctl: &Request{Verb: Cancel}}, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	ended, late := task.FinishedAt, now.Add(time.Hour)
	logs, err := task.Apply(purge(late, StoredLogs), 0, 3)
	if err != nil || !logs.Purged.Logs.Equal(late) || !logs.Purged.Inputs.IsZero() || logs.State != Canceled || !logs.FinishedAt.Equal(ended) {
		t.Errorf("got %+v, %v", logs, err)
	}
	retry := Event{Kind: Control, Task: id1, At: late, Ctl: &Request{Verb: Retry}}
	if again, err := logs.Apply(retry, 0, 4); err != nil || again.State != Queued || again.Purged != (Purged{}) {
		t.Errorf("a task without its old log cannot be retried, or its new one counts as purged: %v", err)
	}
	if _, err := logs.Apply(purge(late, StoredLogs), 0, 4); !errors.Is(err, ErrStale) {
		t.Errorf("purged twice: %v", err)
	}
	if _, err := logs.Apply(purge(late, "everything"), 0, 4); !errors.Is(err, ErrStale) {
		t.Errorf("an unknown kind was purged: %v", err)
	}
	gone, err := logs.Apply(purge(late, StoredInputs, StoredOutputs), 0, 4)
	if err != nil || gone.Purged.Inputs.IsZero() || gone.Purged.Outputs.IsZero() {
		t.Errorf("got %+v, %v", gone.Purged, err)
	}
	if _, err := gone.Apply(retry, 0, 5); !errors.Is(err, ErrStale) {
		t.Errorf("a task without inputs was retried: %v", err)
	}
}

func TestMultipartLengths(t *testing.T) {
	m := Multipart{PartSize: 10}
	for _, c := range []struct {
		size  int64
		parts int
		last  int64
	}{{1, 1, 1}, {10, 1, 10}, {11, 2, 1}, {95, 10, 5}} {
		if got := m.Parts(c.size); got != c.parts || m.Length(c.size, got) != c.last || m.Length(c.size, got+1) != 0 || m.Length(c.size, 0) != 0 {
			t.Errorf("%d bytes: %d parts, last of %d", c.size, got, m.Length(c.size, got))
		}
	}
}
