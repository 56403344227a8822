package scheduler

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage runs a story in virtual time: one leader, and what the story adds.
func stage(t *testing.T, story func(t *testing.T, w *world, s *Scheduler)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s := w.newScheduler(t)
		stop := w.lead(s)
		defer func() {
			if err := stop(); err != nil {
				t.Errorf("term ended with %v", err)
			}
			w.close()
			for _, wrong := range w.wrongs {
				t.Error(wrong)
			}
		}()
		synctest.Wait() // the term has begun
		story(t, w, s)
	})
}

func after(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

func want(t *testing.T, w *world, id functions.TaskID, state functions.State, device functions.Device) functions.Task {
	t.Helper()
	task := w.task(id)
	if task.State != state || task.DeviceUsed() != device {
		t.Fatalf("task is %s on %q, want %s on %q: %+v", task.State, task.DeviceUsed(), state, device, task.Attempts)
	}
	return task
}

func wantWaiting(t *testing.T, s *Scheduler, id functions.TaskID, code functions.WaitCode, sentence string) {
	t.Helper()
	synctest.Wait() // the leader has read all that happened
	got, ok := s.Explain(id)
	if !ok || got.Code != code || !strings.Contains(got.Reason, sentence) {
		t.Fatalf("explained as %+v (%v), want %s: ...%s...", got, ok, code, sentence)
	}
}

func forever(functions.Assignment) (time.Duration, functions.Outcome) {
	return 1000 * time.Hour, functions.Outcome{}
}

func TestTaskRunsAtOnceWhenAPlaceIsFree(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f"})
		w.node("n", 4, 0)
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		synctest.Wait()
		if got := w.task(id).State; got != functions.Assigned {
			t.Fatalf("state is %s in the moment of its submission, want assigned", got)
		}
		after(100 * time.Millisecond)
		want(t, w, id, functions.Succeeded, functions.CPU)
	})
}

func TestBusyGPUSpillsAfterItsTime(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred})
		w.node("g", 8, 1).behave = forever
		after(1100 * time.Millisecond)
		w.submit("f", nil)
		synctest.Wait()
		id := w.submit("f", nil)
		after(29 * time.Second)
		want(t, w, id, functions.Queued, "")
		wantWaiting(t, s, id, functions.WaitGPUBusy, "1 of 1 GPU(s): 1 leased, 0 quarantined; it goes to the CPU in 1s")
		after(1100 * time.Millisecond)
		task := want(t, w, id, functions.Assigned, functions.CPU)
		if got := task.Last().Reason; got != "spilled after 30s: every GPU is busy" {
			t.Errorf("reason is %q", got)
		}
	})
}

func TestRequiredWaitsForAGPUAndExpires(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Required, QueueTimeout: functions.Duration(time.Minute)})
		w.node("c", 8, 0)
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		after(59 * time.Second)
		wantWaiting(t, s, id, functions.WaitNoGPUNode, "no ready node has a GPU")
		after(1100 * time.Millisecond)
		if task := want(t, w, id, functions.Expired, ""); task.Failure.Class != functions.QueueExpired {
			t.Errorf("failure is %+v", task.Failure)
		}
	})
}

func TestPreferredGoesToTheCPUAtOnceWithoutGPUs(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred})
		n := w.node("g", 8, 1)
		after(1100 * time.Millisecond)
		n.setGPU(0, functions.GPUQuarantined)
		synctest.Wait()
		id := w.submit("f", nil)
		synctest.Wait()
		task := want(t, w, id, functions.Assigned, functions.CPU)
		if got := task.Last().Reason; got != "on the CPU at once: every GPU is quarantined" {
			t.Errorf("reason is %q", got)
		}
	})
}

func TestUploadExpires(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f"})
		id := w.submit("f", func(t *functions.Task) { t.State = functions.AwaitingUpload })
		late := w.submit("f", func(t *functions.Task) { t.State = functions.AwaitingUpload })
		after(23*time.Hour + 59*time.Minute)
		wantWaiting(t, s, id, functions.WaitUpload, "it expires in 1m0s")
		w.control(late, functions.Uploaded)
		after(2 * time.Minute)
		if task := want(t, w, id, functions.Expired, ""); task.Failure.Class != functions.UploadExpired {
			t.Errorf("failure is %+v", task.Failure)
		}
		wantWaiting(t, s, late, functions.WaitNoNode, "no node has joined")
	})
}

func TestSilentNodeLosesItsAttempts(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f"})
		a := w.node("a", 8, 0)
		a.behave = forever
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		synctest.Wait()
		w.node("b", 4, 0)
		a.setSilent(true)
		after(24 * time.Second)
		want(t, w, id, functions.Assigned, functions.CPU)
		after(5 * time.Second)
		task := want(t, w, id, functions.Succeeded, functions.CPU)
		if task.Attempt != 2 || task.Attempts[0].Failure.Class != functions.NodeLost || task.Last().Node != "b" {
			t.Errorf("attempts are %+v", task.Attempts)
		}
	})
}

func TestRestartedNodeLosesItsAttemptsAtOnce(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f"})
		n := w.node("a", 8, 0)
		n.behave = forever
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		synctest.Wait()
		n.mu.Lock()
		n.behave = succeed
		n.mu.Unlock()
		n.reboot()
		after(3 * time.Second)
		if task := want(t, w, id, functions.Succeeded, functions.CPU); task.Attempt != 2 {
			t.Errorf("attempts are %+v", task.Attempts)
		}
	})
}

func TestUnansweredOrderIsRepeatedAsTheSameAttempt(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f"})
		n := w.node("a", 8, 0)
		after(1100 * time.Millisecond)
		n.setSilent(true)
		id := w.submit("f", nil)
		after(6 * time.Second)
		n.setSilent(false)
		after(4 * time.Second)
		if task := want(t, w, id, functions.Succeeded, functions.CPU); task.Attempt != 1 {
			t.Errorf("attempts are %+v", task.Attempts)
		}
	})
}

func TestNewLeaderAdoptsAndRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deploy(functions.Spec{Name: "f"})
		old, heir := w.newScheduler(t), w.newScheduler(t)
		stop := w.lead(old)
		n := w.node("a", 8, 0)
		n.behave = forever
		after(1100 * time.Millisecond)
		runs := w.submit("f", nil)
		synctest.Wait()
		if err := stop(); err != nil {
			t.Error(err)
		}
		queued := w.submit("f", nil)
		lost := w.submit("f", nil) // assigned by the old leader, which died before the order
		w.mu.Lock()
		w.write([]functions.Event{{Kind: functions.Assign, Task: lost, At: time.Now(), Asg: &functions.Placement{
			Epoch: w.epoch, Attempt: 1, Node: "a", Boot: n.info.Boot, Device: functions.CPU, Reason: "r",
		}}})
		w.mu.Unlock()
		stop = w.lead(heir)
		after(3 * time.Second)
		for _, id := range []functions.TaskID{runs, queued, lost} {
			if task := want(t, w, id, functions.Assigned, functions.CPU); task.Attempt != 1 {
				t.Errorf("attempts are %+v", task.Attempts)
			}
		}
		n.mu.Lock()
		if n.starts != 3 || len(n.held) != 3 {
			t.Errorf("node started %d attempts and holds %d, want 3 and 3", n.starts, len(n.held))
		}
		n.mu.Unlock()
		if err := stop(); err != nil {
			t.Error(err)
		}
		w.close()
	})
}

func TestCancelKillsUntilTheEnd(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f"})
		w.node("a", 8, 0).behave = forever
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		synctest.Wait()
		w.control(id, functions.Cancel)
		after(time.Second)
		want(t, w, id, functions.Canceled, functions.CPU)
	})
}

func TestStrayAttemptIsKilled(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f"})
		n := w.node("a", 8, 0)
		n.behave = forever
		after(1100 * time.Millisecond)
		task := functions.Task{ID: taskID(999), Function: "f"}
		if err := n.admit(t.Context(), functions.Assignment{Attempt: 1, Boot: n.info.Boot, Task: task, Function: w.fns["f"]}); err != nil {
			t.Fatal(err)
		}
		after(4 * time.Second)
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.held) != 0 {
			t.Error("an attempt that the log does not know still runs")
		}
	})
}

func TestRefusedGPUTaskGoesElsewhere(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred})
		a := w.node("a", 8, 1)
		a.answer = func() (bool, bool) { return true, false }
		w.node("b", 8, 1)
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		after(2 * time.Second)
		if task := want(t, w, id, functions.Succeeded, functions.GPU); task.Last().Node != "b" || task.Attempt != 2 {
			t.Errorf("attempts are %+v", task.Attempts)
		}
	})
}

func TestEverRefusedGPUTaskSpills(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred})
		w.node("a", 8, 1).answer = func() (bool, bool) { return true, false }
		w.node("b", 8, 0)
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		after(90 * time.Second)
		task := want(t, w, id, functions.Succeeded, functions.CPU)
		if task.Attempt > 14 || task.Fallback != "" {
			t.Errorf("%d attempts, fallback %q; want few and none", task.Attempt, task.Fallback)
		}
	})
}

func TestGPUFaultRespawnsOnTheCPU(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred})
		w.node("a", 8, 1).behave = func(a functions.Assignment) (time.Duration, functions.Outcome) {
			if a.Device == functions.GPU {
				return 40 * time.Millisecond, failWith(functions.GPUHost)
			}
			return succeed(a)
		}
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		after(200 * time.Millisecond)
		task := want(t, w, id, functions.Succeeded, functions.CPU)
		if task.Fallback != functions.GPUHost || task.Attempts[0].Then != "on the CPU instead: gpu_host (as told)" {
			t.Errorf("fallback %q, then %q", task.Fallback, task.Attempts[0].Then)
		}
	})
}

func TestLongQueueDelaysNobodyElse(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "many"})
		w.deploy(functions.Spec{Name: "one"})
		w.node("a", 4, 0)
		after(1100 * time.Millisecond)
		for range 4000 {
			w.submit("many", nil)
		}
		after(time.Second)
		id := w.submit("one", nil)
		after(200 * time.Millisecond) // one run of whatever holds the node, and its own
		want(t, w, id, functions.Succeeded, functions.CPU)
		if got := s.QueueLength("many"); got < 3900 || got != w.count(functions.Queued) {
			t.Errorf("queue length is %d, want %d", got, w.count(functions.Queued))
		}
	})
}

func TestWeightsPrioritiesAndCaps(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "heavy", Weight: 3})
		w.deploy(functions.Spec{Name: "light", Weight: 1})
		w.deploy(functions.Spec{Name: "urgent", Priority: 10, Concurrency: 1})
		n := w.node("a", 4, 0)
		var order []functions.Name
		n.behave = func(a functions.Assignment) (time.Duration, functions.Outcome) {
			n.mu.Lock()
			defer n.mu.Unlock()
			order = append(order, a.Task.Function)
			return 100 * time.Millisecond, functions.Outcome{}
		}
		for range 40 {
			w.submit("light", nil)
			w.submit("heavy", nil)
		}
		var last functions.TaskID
		for range 10 {
			last = w.submit("urgent", nil)
		}
		after(1010 * time.Millisecond)
		wantWaiting(t, s, last, functions.WaitConcurrency, "runs 1 of at most 1 tasks at once; 8 of this function go first")
		after(900 * time.Millisecond)
		n.mu.Lock()
		counts := map[functions.Name]int{}
		for _, f := range order {
			counts[f]++
		}
		n.mu.Unlock()
		// 9 or 10 turns of 4 places: one is always urgent, the other three go 3 to 1.
		if u, h, l := counts["urgent"], counts["heavy"], counts["light"]; u < 9 || h < 3*l-3 || h > 3*l+3 {
			t.Errorf("started %v, want 1 urgent per turn and 3 heavy per light", counts)
		}
	})
}

func TestRetryKeepsTheDevice(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred, Retries: functions.Retries{Max: 2, Backoff: functions.Duration(10 * time.Second)}})
		w.node("a", 8, 1).behave = func(functions.Assignment) (time.Duration, functions.Outcome) {
			return time.Second, failWith(functions.ExitError)
		}
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		after(5 * time.Second)
		wantWaiting(t, s, id, functions.WaitDelay, "in 6s")
		after(time.Minute)
		task := want(t, w, id, functions.Failed, functions.GPU)
		if task.Attempt != 3 || slices.ContainsFunc(task.Attempts, func(a functions.Attempt) bool { return a.Device != functions.GPU }) {
			t.Errorf("attempts are %+v", task.Attempts)
		}
		w.control(id, functions.Retry) // a new life has new retries
		after(2 * time.Minute)
		if task := w.task(id); task.Attempt != 6 || task.State != functions.Failed {
			t.Errorf("after a retry: %s, attempt %d", task.State, task.Attempt)
		}
	})
}
