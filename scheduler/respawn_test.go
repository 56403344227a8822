package scheduler

import (
	"fmt"
	"slices"
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

func TestFollowEveryClassUnderEveryPolicy(t *testing.T) {
	const (
		cpu   = "to the CPU"
		again = "again"
		fail  = "failed"
		timed = "timed out"
		gone  = "canceled"
	)
	type row struct{ optional, required, elsewhere string } // preferred and auto; required alone; required with another GPU free
	table := map[functions.Class]row{
		functions.GPUHost: {cpu, fail, again}, functions.GPUDevice: {cpu, fail, again}, functions.GPUImage: {cpu, fail, again},
		functions.GPUUnknown: {cpu, fail, again}, functions.GPUHung: {cpu, fail, again}, functions.GPUMemory: {cpu, fail, again},
		functions.GPULost: {cpu, fail, again}, functions.GPUMissing: {cpu, fail, again}, functions.GPUUnsuited: {cpu, fail, again},
		functions.Declined: {cpu, fail, again},
		functions.Infra:    {again, again, again}, functions.Store: {again, again, again},
		functions.NodeLost: {again, again, again}, functions.Refused: {again, again, again},
		functions.TimedOutRun: {timed, timed, timed}, functions.CanceledByUser: {gone, gone, gone},
	}
	name := func(v functions.Verdict) string {
		switch {
		case v.To == functions.Queued && v.Device == functions.CPU:
			return cpu
		case v.To == functions.Queued:
			return again
		case v.To == functions.TimedOut:
			return timed
		case v.To == functions.Canceled:
			return gone
		}
		return fail
	}
	for _, c := range classes {
		want, ok := table[c]
		if !ok {
			want = row{fail, fail, fail}
		}
		t.Run(string(c), func(t *testing.T) {
			for _, p := range []functions.Policy{functions.Preferred, functions.Auto} {
				if got := name(judged(failed(p, functions.GPU, c), view{}, 0)); got != want.optional {
					t.Errorf("%s: %s, want %s", p, got, want.optional)
				}
			}
			if got := name(judged(failed(functions.Required, functions.GPU, c), view{}, 0)); got != want.required {
				t.Errorf("required: %s, want %s", got, want.required)
			}
			if got := name(judged(failed(functions.Required, functions.GPU, c), view{GPUFree: true, GPUElsewhere: true}, 0)); got != want.elsewhere {
				t.Errorf("required, another there: %s, want %s", got, want.elsewhere)
			}
			onCPU := name(judged(failed(functions.Never, functions.CPU, c), view{}, 0))
			if c.GPUFault() && onCPU != fail || !c.GPUFault() && onCPU != want.required {
				t.Errorf("never: %s", onCPU)
			}
		})
	}
}

func TestFollowBudgets(t *testing.T) {
	lost := functions.GPULost
	for _, tt := range []struct {
		name string
		task *functions.Task
		view view
		max  int
		want string
	}{
		{"a sick device is left for a free one", failed(functions.Preferred, functions.GPU, lost), view{GPUFree: true}, 0, "on another GPU that is free: gpu_lost (seen)"},
		{"only once", failed(functions.Preferred, functions.GPU, lost, lost), view{GPUFree: true}, 0, "on the CPU instead: gpu_lost (seen)"},
		{"memory needs a larger one", failed(functions.Preferred, functions.GPU, functions.GPUMemory), view{GPUFree: true}, 0, "on the CPU instead: gpu_memory (seen)"},
		{"a larger one is free", failed(functions.Preferred, functions.GPU, functions.GPUMemory), view{LargerFree: true}, 0, "on another GPU that is free: gpu_memory (seen)"},
		{"a host fault does not wait for a device", failed(functions.Preferred, functions.GPU, functions.GPUHost), view{GPUFree: true, LargerFree: true}, 0, "on the CPU instead: gpu_host (seen)"},
		{"required has three tries", failed(functions.Required, functions.GPU, lost, lost, lost), view{GPUElsewhere: true}, 0, "gave up: gpu_lost (seen); a GPU is required and 3 attempts on GPUs have failed"},
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
}

// TestFollowAlwaysEnds plays whole lives with random failures and fleets.
func TestFollowAlwaysEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := rapid.SampledFrom([]functions.Policy{functions.Required, functions.Preferred, functions.Auto, functions.Never}).Draw(t, "policy")
		max := rapid.IntRange(0, 10).Draw(t, "retries")
		task := failed(policy, functions.GPU)
		own, gpus := 0, 0
		for range 200 {
			device := functions.GPU
			if demandOf(task.Route, task.Only) == wantsCPU {
				device = functions.CPU
			}
			c := rapid.SampledFrom(classes).Draw(t, "class")
			task.Attempt++
			task.Attempts = append(task.Attempts, functions.Attempt{
				Number: task.Attempt, Node: "n", Device: device, GPUs: []string{"g"}, StartedAt: now,
				Failure: &functions.Failure{Class: c},
			})
			v := judged(task, view{
				GPUFree: rapid.Bool().Draw(t, "free"), LargerFree: rapid.Bool().Draw(t, "larger"), GPUElsewhere: rapid.Bool().Draw(t, "there"),
			}, max)
			if ownFault(c) {
				own++
			}
			if device == functions.GPU && c.GPUFault() {
				gpus++
			}
			switch {
			case v.Attempt != task.Attempt || v.Why == "":
				t.Fatalf("verdict without its attempt or reason: %+v", v)
			case v.Device != "" && (v.Device != functions.CPU || !c.GPUFault() || policy == functions.Required || v.Fallback != c):
				t.Fatalf("%s under %s changed the device: %+v", c, policy, v)
			case v.Fallback != "" && v.Device != functions.CPU:
				t.Fatalf("fallback without the CPU: %+v", v)
			case v.To == functions.Queued && !c.GPUFault() && !v.NotBefore.After(now):
				t.Fatalf("%s is tried again without a pause", c)
			case gpus > maxGPUTries || own > max+1:
				t.Fatalf("%d GPU attempts, %d own failures with %d retries", gpus, own, max)
			}
			if v.To != functions.Queued {
				if v.Failure == nil || !functions.CanMove(functions.Deciding, v.To) {
					t.Fatalf("ends wrongly: %+v", v)
				}
				return
			}
			task.Last().Then = v.Why
			if v.Device != "" {
				task.Only = v.Device
			}
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
