package scheduler

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
)

func TestACallsOwnRetriesWinOverTheFunctions(t *testing.T) {
	exit := functions.ExitError
	twice := &functions.Retries{Max: 2, Backoff: functions.Duration(time.Minute)}
	for name, c := range map[string]struct {
		own   *functions.Retries
		age   time.Duration
		fails []functions.Class
		pause time.Duration // 0 = no retry
		why   string
	}{
		"none of its own":       {nil, 0, []functions.Class{exit}, time.Second, "retry 1 of 5"},
		"the first":             {twice, 0, []functions.Class{exit}, time.Minute, "retry 1 of 2"},
		"the second":            {twice, 0, []functions.Class{exit, exit}, 2 * time.Minute, "retry 2 of 2"},
		"no third":              {twice, 0, []functions.Class{exit, exit, exit}, 0, "all 2 retries are used"},
		"it wants none":         {&functions.Retries{}, 0, []functions.Class{exit}, 0, "the call has no retries"},
		"young enough":          {twice, 70 * time.Second, []functions.Class{exit}, time.Minute, "retry 1 of 2"},
		"the second is too old": {twice, 100 * time.Second, []functions.Class{exit, exit}, 0, "past the age of 1m40s"},
		"ours do not count":     {twice, 0, []functions.Class{functions.Infra, exit}, time.Minute, "retry 1 of 2"},
	} {
		t.Run(name, func(t *testing.T) {
			task := failed(functions.Never, functions.CPU, c.fails...)
			task.Retries, task.MaxAge, task.CreatedAt = c.own, functions.Duration(c.age), now.Add(-time.Second)
			got := judged(task, view{}, 5)
			if !strings.Contains(got.Why, c.why) {
				t.Errorf("it says %q, want %q", got.Why, c.why)
			}
			if again := got.To == functions.Queued; again != (c.pause > 0) || again && got.NotBefore.Sub(now) != c.pause {
				t.Errorf("%s at %s, want a pause of %s", got.To, got.NotBefore, c.pause)
			}
		})
	}
}

// aged submits a task with a limit on its age.
func (w *world) aged(fn functions.Name, age time.Duration) functions.TaskID {
	return w.submit(fn, func(t *functions.Task) { t.MaxAge = functions.Duration(age) })
}

func TestACallsAgeWinsOverTheQueueTimeout(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", QueueTimeout: functions.Duration(time.Minute)})
		usual := w.submit("f", nil)
		short, long := w.aged("f", 10*time.Second), w.aged("f", 2*time.Minute)
		again := w.aged("f", 10*time.Second)
		states := func(want ...functions.State) {
			t.Helper()
			for i, id := range []functions.TaskID{usual, short, long} {
				if got := w.task(id).State; got != want[i] {
					t.Errorf("task %d is %s, want %s", i+1, got, want[i])
				}
			}
		}
		after(9500 * time.Millisecond)
		states(functions.Queued, functions.Queued, functions.Queued)
		after(time.Second)
		states(functions.Queued, functions.Expired, functions.Queued)
		if f := w.task(short).Failure; f.Class != functions.QueueExpired || !strings.Contains(f.Message, "10s old") {
			t.Errorf("failure is %+v", f)
		}
		w.control(again, functions.Retry) // whose age began to count before: now the function's limit holds
		after(49 * time.Second)
		states(functions.Queued, functions.Expired, functions.Queued)
		after(time.Second)
		states(functions.Expired, functions.Expired, functions.Queued)
		if got := w.task(again).State; got != functions.Queued {
			t.Errorf("the task that a client asked for again is %s", got)
		}
		after(time.Minute)
		states(functions.Expired, functions.Expired, functions.Expired)
	})
}

// Two tasks come back from attempts in the other order than they were accepted:
// each still expires at its own age.
func TestAgeCountsFromAcceptanceThroughRetries(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Retries: functions.Retries{Max: 1, Backoff: functions.Duration(20 * time.Second)}})
		fails := map[functions.TaskID]time.Duration{taskID(1): 30 * time.Second, taskID(2): 5 * time.Second}
		w.node("n", 2, 0).behave = func(a functions.Assignment) (time.Duration, functions.Outcome) {
			if d, ok := fails[a.Task.ID]; ok {
				return d, functions.Outcome{Failure: &functions.Failure{Class: functions.ExitError}}
			}
			return forever(a)
		}
		after(1100 * time.Millisecond)
		older := w.aged("f", time.Minute)
		after(20 * time.Second)
		younger := w.aged("f", time.Minute)
		synctest.Wait()
		w.submit("f", nil) // these take the places of both, for good
		w.submit("f", nil)
		after(15 * time.Second)
		want(t, w, older, functions.Queued, functions.CPU)
		want(t, w, younger, functions.Queued, functions.CPU)
		after(24500 * time.Millisecond)
		want(t, w, older, functions.Queued, functions.CPU)
		after(time.Second)
		want(t, w, older, functions.Expired, functions.CPU)
		want(t, w, younger, functions.Queued, functions.CPU)
		after(20 * time.Second)
		want(t, w, younger, functions.Expired, functions.CPU)
	})
}
