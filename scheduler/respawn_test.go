package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"pgregory.net/rapid"
)

var classes = []functions.Class{
	functions.GPUHost, functions.GPUDevice, functions.GPUImage, functions.GPUUnknown, functions.GPUHung,
	functions.GPUMemory, functions.GPULost, functions.GPUMissing, functions.GPUUnsuited, functions.Declined,
	functions.ExitError, functions.Permanent, functions.TempFail, functions.BadEntry, functions.OutOfMemory,
	functions.Crashed, functions.TimedOutRun, functions.DiskExceeded, functions.BadOutput, functions.ImageMissing,
	functions.Infra, functions.InputGone, functions.Store, functions.NodeLost, functions.Refused,
	functions.CanceledByUser, functions.QueueExpired, functions.UploadExpired,
}

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// failed is a task whose attempts ended as told, the newest just now.
func failed(p functions.Policy, d functions.Device, cs ...functions.Class) *functions.Task {
	t := &functions.Task{ID: taskID(1), State: functions.Deciding, Attempt: len(cs)}
	t.Route = functions.Route{Policy: p, ContentType: "audio/mpeg"}.Decide()
	for i, c := range cs {
		t.Attempts = append(t.Attempts, functions.Attempt{
			Number: i + 1, Node: "n", Device: d, GPUs: []string{fmt.Sprint("GPU-", i)},
			StartedAt: now.Add(-time.Second), Failure: &functions.Failure{Class: c, Message: "seen"},
		})
	}
	return t
}

func judged(t *functions.Task, v view, max int) functions.Verdict {
	fn := functions.Function{Spec: functions.Spec{Retries: functions.Retries{Max: max}}.WithDefaults()}
	v.Now = now
	return follow(t, fn, *t.Last().Failure, v)
}

// What follows the end of an attempt, in a word.
const (
	toCPU    = "cpu"      // respawned on the CPU
	toDevice = "device"   // at once on another device that is free
	toHost   = "host"     // at once on a GPU of another node that is free
	toBigger = "bigger"   // at once with more GPU memory, which is free
	wait     = "wait"     // later on a GPU
	again    = "again"    // later, on any device as before
	fail     = "failed"   // for good
	timed    = "timed"    // ended as timed out
	gone     = "canceled" // ended on request
)

func outcome(v functions.Verdict) string {
	switch {
	case v.To == functions.Queued && v.Device == functions.CPU:
		return toCPU
	case v.To == functions.Queued:
		for word, start := range map[string]string{
			toDevice: "on another GPU that is free", toHost: "on a GPU of another node", toBigger: "once more with more GPU memory", wait: "on another GPU, try",
		} {
			if strings.HasPrefix(v.Why, start) {
				return word
			}
		}
		return again
	case v.To == functions.TimedOut:
		return timed
	case v.To == functions.Canceled:
		return gone
	}
	return fail
}

// The whole table: a class, and what follows by what the fleet offers. A GPU that
// is there and not free helps an optional task as little as none.
func TestFollowEveryClassUnderEveryPolicy(t *testing.T) {
	type row struct {
		class functions.Class
		// preferred, auto, fastest; on a GPU
		none, free string
		// required; on a GPU
		needNone, needThere, needFree string
		// any policy; on the CPU
		onCPU string
	}
	table := []row{
		{functions.GPUHost, toCPU, toHost, fail, wait, wait, fail},
		{functions.GPUHung, toCPU, toHost, fail, wait, wait, fail},
		{functions.GPUImage, toCPU, toHost, fail, wait, wait, fail},
		{functions.GPUDevice, toCPU, toDevice, fail, wait, wait, fail},
		{functions.GPUUnknown, toCPU, toCPU, fail, wait, wait, fail},
		{functions.GPULost, toCPU, toDevice, fail, wait, wait, fail},
		{functions.GPUMissing, toCPU, toHost, fail, wait, wait, fail},
		{functions.GPUMemory, toCPU, toBigger, fail, wait, wait, fail},
		{functions.GPUUnsuited, toCPU, toHost, fail, wait, wait, fail},
		{functions.Declined, toCPU, toCPU, fail, wait, wait, fail},

		{functions.ExitError, fail, fail, fail, fail, fail, fail},
		{functions.Permanent, fail, fail, fail, fail, fail, fail},
		{functions.TempFail, fail, fail, fail, fail, fail, fail},
		{functions.BadEntry, fail, fail, fail, fail, fail, fail},
		{functions.OutOfMemory, fail, fail, fail, fail, fail, fail},
		{functions.Crashed, fail, fail, fail, fail, fail, fail},
		{functions.TimedOutRun, timed, timed, timed, timed, timed, timed},
		{functions.DiskExceeded, fail, fail, fail, fail, fail, fail},
		{functions.BadOutput, fail, fail, fail, fail, fail, fail},
		{functions.ImageMissing, fail, fail, fail, fail, fail, fail},

		{functions.Infra, again, again, again, again, again, again},
		{functions.InputGone, fail, fail, fail, fail, fail, fail},
		{functions.Store, again, again, again, again, again, again},
		{functions.NodeLost, again, again, again, again, again, again},
		{functions.Refused, again, again, again, again, again, again},

		{functions.CanceledByUser, gone, gone, gone, gone, gone, gone},
		{functions.QueueExpired, fail, fail, fail, fail, fail, fail},
		{functions.UploadExpired, fail, fail, fail, fail, fail, fail},
	}
	if len(table) != len(classes) {
		t.Fatalf("the table has %d classes of %d", len(table), len(classes))
	}
	nothing, there, free := view{}, view{There: true}, view{There: true, Free: true}
	for _, r := range table {
		t.Run(string(r.class), func(t *testing.T) {
			check := func(p functions.Policy, d functions.Device, v view, want string) {
				t.Helper()
				if got := outcome(judged(failed(p, d, r.class), v, 0)); got != want {
					t.Errorf("%s on a %s with %+v: %s, want %s", p, d, v, got, want)
				}
			}
			for _, p := range []functions.Policy{functions.Preferred, functions.Auto, functions.Fastest} {
				check(p, functions.GPU, nothing, r.none)
				check(p, functions.GPU, there, r.none)
				check(p, functions.GPU, free, r.free)
				check(p, functions.CPU, free, r.onCPU)
			}
			check(functions.Required, functions.GPU, nothing, r.needNone)
			check(functions.Required, functions.GPU, there, r.needThere)
			check(functions.Required, functions.GPU, free, r.needFree)
			check(functions.Never, functions.CPU, free, r.onCPU)
		})
	}
}

func TestFollowBudgets(t *testing.T) {
	lost, memory := functions.GPULost, functions.GPUMemory
	free, there := view{Free: true, There: true}, view{There: true}
	ago := func(t *functions.Task, d time.Duration) *functions.Task {
		t.Attempts[0].StartedAt = now.Add(-d)
		return t
	}
	for _, tt := range []struct {
		name string
		task *functions.Task
		view view
		max  int
		want string
	}{
		{"a sick device is left for a free one", failed(functions.Preferred, functions.GPU, lost), free, 0, "on another GPU that is free: gpu_lost (seen)"},
		{"only once", failed(functions.Preferred, functions.GPU, lost, lost), free, 0, "on the CPU instead: gpu_lost (seen)"},
		{"nor late", ago(failed(functions.Preferred, functions.GPU, lost), 5*time.Minute), free, 0, "on the CPU instead: gpu_lost (seen)"},
		{"platform failures between do not count", failed(functions.Preferred, functions.GPU, functions.NodeLost, functions.Refused, lost), free, 0, "on another GPU that is free: gpu_lost (seen)"},
		{"memory is given more once", failed(functions.Preferred, functions.GPU, memory), free, 0, "once more with more GPU memory or a GPU alone, which is free: gpu_memory (seen)"},
		{"and no more", failed(functions.Preferred, functions.GPU, memory, memory), free, 0, "on the CPU instead: gpu_memory (seen)"},
		{"a host fault does not wait for a device", failed(functions.Preferred, functions.GPU, functions.GPUHost), there, 0, "on the CPU instead: gpu_host (seen)"},
		{"required waits longer each time", failed(functions.Required, functions.GPU, lost, functions.GPUHost), there, 0, "on another GPU, try 3 of 3: gpu_host (seen)"},
		{"required has three tries, and tells of all", failed(functions.Required, functions.GPU, lost, functions.NodeLost, functions.GPUHost, functions.Declined), free, 0, "gave up: a GPU is required and 3 attempts on GPUs have failed: attempt 1 on n GPU-0: gpu_lost (seen); attempt 3 on n GPU-2: gpu_host (seen); attempt 4 on n GPU-3: declined (seen)"},
		{"and half an hour", ago(failed(functions.Required, functions.GPU, lost), 30*time.Minute), free, 0, "gave up: a GPU is required and GPUs have failed it for too long: attempt 1 on n GPU-0: gpu_lost (seen)"},
		{"required, and nothing suits", failed(functions.Required, functions.GPU, functions.GPUImage), view{}, 0, "gave up: a GPU is required and no other suitable one is there: attempt 1 on n GPU-0: gpu_image (seen)"},
		{"retries are counted", failed(functions.Never, functions.CPU, functions.ExitError, functions.NodeLost, functions.ExitError), view{}, 2, "retry 2 of 2 in 2s: exit_error"},
		{"and end", failed(functions.Never, functions.CPU, functions.ExitError, functions.Crashed, functions.ExitError), view{}, 2, "gave up: exit_error, and all 2 retries are used"},
		{"backoff doubles", failed(functions.Never, functions.CPU, functions.Infra, functions.Infra, functions.Infra), view{}, 0, "again in 4s, not counted as a retry: infrastructure (seen)"},
		{"ten of ours in a row", failed(functions.Never, functions.CPU, slices.Repeat([]functions.Class{functions.Infra}, 10)...), view{}, 0, "gave up: 10 failures of the platform in a row, the last one infrastructure (seen)"},
		{"refusals are cheap", failed(functions.Never, functions.CPU, slices.Repeat([]functions.Class{functions.Refused}, 20)...), view{}, 0, "again in 1m0s, not counted as a retry: refused (seen)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := judged(tt.task, tt.view, tt.max).Why; got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
	old := failed(functions.Never, functions.CPU, functions.Refused, functions.Refused)
	old.Attempts[0].StartedAt = now.Add(-7 * time.Hour)
	if v := judged(old, view{}, 0); v.To != functions.Failed || v.Failure.Class != functions.Refused {
		t.Errorf("refused for longer than the queue timeout: %+v", v)
	}
	if v := judged(failed(functions.Required, functions.GPU, lost, functions.GPUHost), there, 0); !v.NotBefore.Equal(now.Add(2 * time.Second)) {
		t.Errorf("the second pause ends at %s", v.NotBefore)
	}
}

// TestFollowAlwaysEnds plays whole lives with random failures, budgets and
// fleets, through the rules of the log, which forgets old attempts.
func TestFollowAlwaysEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := rapid.SampledFrom([]functions.Policy{functions.Required, functions.Preferred, functions.Auto, functions.Fastest, functions.Never}).Draw(t, "policy")
		max := rapid.IntRange(0, 10).Draw(t, "retries")
		likely := rapid.SampledFrom([][]functions.Class{classes, classes[:10], {functions.Refused, functions.GPULost, functions.GPUMemory, functions.Refused}}).Draw(t, "classes")
		fn := functions.Function{Spec: functions.Spec{
			Retries: functions.Retries{Max: max},
			GPU:     &functions.GPUNeed{Tries: rapid.IntRange(0, 10).Draw(t, "tries"), Memory: functions.Bytes(rapid.IntRange(0, 1).Draw(t, "memory")) * gib},
		}.WithDefaults()}
		tries, within := fn.Budget(policy == functions.Required)
		at := now
		sub := functions.Task{ID: taskID(1), Function: "f", Route: functions.Route{Policy: policy, ContentType: "audio/mpeg"}.Decide()}
		task, err := functions.Accept(functions.Event{Kind: functions.Submit, Task: sub.ID, At: at, Sub: &sub}, 1)
		apply := func(e functions.Event) {
			e.Task, e.At = task.ID, at
			if task, err = task.Apply(e, 1, task.Seq+1); err != nil {
				t.Fatal(err)
			}
		}
		own, gpus, first := 0, 0, time.Time{}
		for range 2000 {
			used := functions.GPU
			if demandOf(task.Route, task.Only) == wantsCPU {
				used = functions.CPU
			}
			if used == functions.GPU && gpus > 0 && at.Sub(first) > within {
				return // the queue ends it, or lets it go to the CPU
			}
			apply(functions.Event{Kind: functions.Assign, Asg: &functions.Placement{Epoch: 1, Attempt: task.Attempt + 1, Node: "n", Device: used, GPUs: []string{"g"}}})
			began := at
			at = at.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "s")) * time.Second)
			c := rapid.SampledFrom(likely).Draw(t, "class")
			f := functions.Failure{Class: c, Message: "seen"}
			ended := task
			if c.Platform() { // an attempt that never says how it ended
				ended.Attempts = slices.Clone(task.Attempts)
				ended.Last().Failure = &f
			} else {
				apply(functions.Event{Kind: functions.Finish, Fin: &functions.Closing{Attempt: task.Attempt, Node: "n", Outcome: functions.Outcome{Failure: &f}}})
				ended = task
			}
			free := rapid.Bool().Draw(t, "free")
			v := follow(&ended, fn, f, view{Now: at, Free: free, There: free || rapid.Bool().Draw(t, "there")})
			if ownFault(c) {
				own++
			}
			if used == functions.GPU && c.GPUFault() {
				if gpus++; gpus == 1 {
					first = began
				}
			}
			switch {
			case v.Attempt != task.Attempt || v.Why == "":
				t.Fatalf("verdict without its attempt or reason: %+v", v)
			case v.Device != "" && (v.Device != functions.CPU || !c.GPUFault() || policy == functions.Required || v.Fallback != c):
				t.Fatalf("%s under %s changed the device: %+v", c, policy, v)
			case v.Fallback != "" && v.Device != functions.CPU:
				t.Fatalf("fallback without the CPU: %+v", v)
			case v.To == functions.Queued && !c.GPUFault() && !v.NotBefore.After(at):
				t.Fatalf("%s is tried again without a pause", c)
			case gpus > tries || own > max+1:
				t.Fatalf("%d GPU attempts of %d, %d own failures with %d retries", gpus, tries, own, max)
			}
			if v.To != functions.Queued && (v.Failure == nil || !functions.CanMove(functions.Deciding, v.To)) {
				t.Fatalf("ends wrongly: %+v", v)
			}
			lost := v
			lost.Epoch = 1
			if lost.Failure == nil {
				lost.Failure = &f
			}
			apply(functions.Event{Kind: functions.Release, Rel: &lost})
			if v.To != functions.Queued {
				return
			}
			at = later(at, v.NotBefore)
		}
		t.Fatal("never ends")
	})
}

func TestLifeBeginsWhenAClientAsksAgain(t *testing.T) {
	task := failed(functions.Preferred, functions.GPU, functions.GPULost, functions.ExitError, functions.ExitError)
	task.Earlier = 2
	if got := life(task); len(got) != 1 || got[0].Number != 3 {
		t.Errorf("life is %+v", got)
	}
	if av := avoid(task); !av.empty() {
		t.Errorf("avoids %+v of an earlier life", av)
	}
	task.Earlier = 3
	if got := life(task); len(got) != 0 {
		t.Errorf("life has attempts before its first: %+v", got)
	}
}

// However a task ended before a client asked for it again, its first refusal
// after that is no reason to give it up.
func TestARetryStartsItsBudgetsAnew(t *testing.T) {
	var (
		expire = func(s *history) { s.rel(functions.Expired, functions.QueueExpired) }
		cancel = func(s *history) { s.ctl(functions.Cancel) }
	)
	for name, end := range map[string]func(*history){"after it expired in the queue": expire, "after it was canceled in the queue": cancel} {
		t.Run(name, func(t *testing.T) {
			s := begin(t, now.Add(-8*time.Hour))
			s.asg()
			s.rel(functions.Queued, functions.Refused)
			end(s)
			s.at = now.Add(-time.Second)
			s.ctl(functions.Retry)
			s.asg()
			refused := *s.task.Last()
			refused.Failure = &functions.Failure{Class: functions.Refused}
			s.task.Attempts[len(s.task.Attempts)-1] = refused
			if v := judged(&s.task, view{}, 0); v.To != functions.Queued {
				t.Errorf("one refusal ends it: %+v", v)
			}
		})
	}
}

// history is a task and the moment of its next event, in epoch 1.
type history struct {
	t    *testing.T
	task functions.Task
	at   time.Time
	seq  uint64
}

func begin(t *testing.T, at time.Time) *history {
	task := functions.Task{ID: taskID(1), Function: "f", CreatedAt: at}
	task, err := functions.Accept(functions.Event{Kind: functions.Submit, Task: task.ID, At: at, Sub: &task}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return &history{t: t, task: task, at: at, seq: 1}
}

func (h *history) apply(e functions.Event) {
	h.t.Helper()
	h.seq++
	e.Task, e.At = h.task.ID, h.at
	var err error
	if h.task, err = h.task.Apply(e, 1, h.seq); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) asg() {
	h.t.Helper()
	h.apply(functions.Event{Kind: functions.Assign, Asg: &functions.Placement{Epoch: 1, Attempt: h.task.Attempt + 1, Node: "n", Device: functions.CPU}})
}

func (h *history) rel(to functions.State, class functions.Class) {
	h.t.Helper()
	h.apply(functions.Event{Kind: functions.Release, Rel: &functions.Verdict{
		Epoch: 1, Attempt: h.task.Attempt, To: to, Failure: &functions.Failure{Class: class},
	}})
}

func (h *history) ctl(v functions.Verb) {
	h.t.Helper()
	h.apply(functions.Event{Kind: functions.Control, Ctl: &functions.Request{Verb: v}})
}
