package scheduler

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
)

// lasting runs attempts for a while that depends on the device.
func lasting(gpu, cpu time.Duration) func(functions.Assignment) (time.Duration, functions.Outcome) {
	return func(a functions.Assignment) (time.Duration, functions.Outcome) {
		if a.Device == functions.GPU {
			return gpu, functions.Outcome{}
		}
		return cpu, functions.Outcome{}
	}
}

// placedOn lists the numbers of the tasks that have an attempt on a device, and
// checks their reasons.
func placedOn(t *testing.T, w *world, d functions.Device, ids []functions.TaskID, reason string) (placed []int) {
	t.Helper()
	for i, id := range ids {
		task := w.task(id)
		if task.DeviceUsed() != d {
			continue
		}
		placed = append(placed, i)
		if got := task.Last().Reason; !strings.Contains(got, reason) {
			t.Errorf("task %d: reason is %q, want %q", i, got, reason)
		}
	}
	return placed
}

func TestTasksBeyondTheSpillQueueGoToTheCPUAtOnce(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		hour := functions.Duration(time.Hour)
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred, SpillAfter: &hour, SpillQueue: 10})
		w.node("g", 32, 1).behave = lasting(time.Hour, time.Hour)
		after(1100 * time.Millisecond)
		var ids []functions.TaskID
		for range 15 {
			ids = append(ids, w.submit("f", nil))
			synctest.Wait()
		}
		if got := placedOn(t, w, functions.GPU, ids, "one is free"); !slices.Equal(got, []int{0}) {
			t.Errorf("on the GPU: %v", got)
		}
		const why = "spilled: 11 tasks of the function wait for a GPU, over its limit of 10"
		if got := placedOn(t, w, functions.CPU, ids, why); !slices.Equal(got, []int{11, 12, 13, 14}) {
			t.Errorf("on the CPU: %v", got)
		}
		wantWaiting(t, s, ids[10], functions.WaitGPUBusy, "9 of this function go first")
		must := w.submit("f", func(t *functions.Task) { t.Route = functions.Route{Policy: functions.Required}.Decide() })
		never := w.submit("f", func(t *functions.Task) { t.Route = functions.Route{Policy: functions.Never}.Decide() })
		synctest.Wait()
		want(t, w, must, functions.Queued, "")
		want(t, w, never, functions.Assigned, functions.CPU)
	})
}

func TestSpillQueueKeepsTheOrder(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		hour := functions.Duration(time.Hour)
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred, SpillAfter: &hour, SpillQueue: 3})
		var ids []functions.TaskID
		for range 12 {
			ids = append(ids, w.submit("f", nil))
		}
		w.node("g", 3, 1, func(n *fakeNode) { n.behave = lasting(10*time.Second, 15*time.Second) })
		after(1100 * time.Millisecond)
		on := func(gpu, cpu []int) {
			t.Helper()
			if got := placedOn(t, w, functions.GPU, ids, ""); !slices.Equal(got, gpu) {
				t.Errorf("on the GPU: %v, want %v", got, gpu)
			}
			if got := placedOn(t, w, functions.CPU, ids, "over its limit of 3"); !slices.Equal(got, cpu) {
				t.Errorf("on the CPU: %v, want %v", got, cpu)
			}
		}
		on([]int{0}, []int{4, 5}) // 1 to 3 wait for the GPU, the rest for room
		wantWaiting(t, s, ids[3], functions.WaitGPUBusy, "2 of this function go first")
		wantWaiting(t, s, ids[6], functions.WaitRoom, "3 of this function go first")
		wantWaiting(t, s, ids[11], functions.WaitRoom, "8 of this function go first")
		after(10 * time.Second)
		on([]int{0, 1}, []int{4, 5})
		wantWaiting(t, s, ids[6], functions.WaitGPUBusy, "2 of this function go first") // it has moved up
		wantWaiting(t, s, ids[7], functions.WaitRoom, "3 of this function go first")
		after(5 * time.Second)
		on([]int{0, 1}, []int{4, 5, 7, 8})
	})
}

// train runs some tasks of a function on each device, so that there is data.
func train(w *world, fn functions.Name, n int) {
	for range n {
		for _, p := range []functions.Policy{functions.Required, functions.Never} {
			w.submit(fn, func(t *functions.Task) { t.Route = functions.Route{Policy: p}.Decide() })
		}
		after(time.Minute)
	}
}

func TestFastestSharesTheQueueOut(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Fastest})
		w.node("g", 32, 1).behave = lasting(2*time.Second, 9*time.Second)
		after(1100 * time.Millisecond)
		train(w, "f", minSamples)
		var ids []functions.TaskID
		for range 10 {
			ids = append(ids, w.submit("f", nil))
		}
		synctest.Wait()
		if got := placedOn(t, w, functions.GPU, ids, "policy fastest: a free GPU is expected to finish in about 2 s, the CPU in about 9 s"); !slices.Equal(got, []int{0}) {
			t.Errorf("on the GPU: %v", got)
		}
		// The GPU is done with 0 in 2 s and with 1, 2 and 3 in 4, 6 and 8 s.
		const why = "policy fastest: the CPU is expected to finish in about 9 s, the next GPU in about 10 s"
		if got := placedOn(t, w, functions.CPU, ids, why); !slices.Equal(got, []int{4, 5, 6, 7, 8, 9}) {
			t.Errorf("on the CPU: %v", got)
		}
		w1, _ := s.Explain(ids[1])
		w3, _ := s.Explain(ids[3])
		if w1.NextGPU != 2 || w1.ExpectedGPU != 4 || w1.ExpectedCPU != 9 || w3.NextGPU != 2 || w3.ExpectedGPU != 8 {
			t.Errorf("waiting: %+v\n%+v", w1, w3)
		}
		after(7 * time.Second)
		if got := placedOn(t, w, functions.GPU, ids, "a free GPU"); !slices.Equal(got, []int{0, 1, 2, 3}) {
			t.Errorf("on the GPU in the end: %v", got)
		}
	})
}

func TestFastestTakesTheCPUWhereThatIsFaster(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Fastest})
		w.node("g", 2, 1).behave = lasting(9*time.Second, 2*time.Second)
		after(1100 * time.Millisecond)
		first := w.submit("f", nil)
		after(10 * time.Second)
		want(t, w, first, functions.Succeeded, functions.GPU) // nothing is known, so that it is tried
		train(w, "f", minSamples)
		a, b, c := w.submit("f", nil), w.submit("f", nil), w.submit("f", nil)
		synctest.Wait()
		task := want(t, w, a, functions.Assigned, functions.CPU)
		if got, want := task.Last().Reason, "policy fastest: the CPU is expected to finish in about 2 s, a free GPU in about 9 s"; got != want {
			t.Errorf("reason is %q, want %q", got, want)
		}
		want(t, w, b, functions.Assigned, functions.CPU)
		want(t, w, c, functions.Queued, "") // no core is left for either device
		after(3 * time.Second)
		want(t, w, c, functions.Assigned, functions.CPU)
	})
}

func TestFastestOutlastsATaskThatHangs(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		soon := functions.Duration(time.Second)
		w.deploy(functions.Spec{Name: "f", Device: functions.Fastest, SpillAfter: &soon, Timeout: functions.Duration(time.Hour)})
		n := w.node("g", 8, 1)
		n.behave = lasting(20*time.Second, 30*time.Second)
		after(1100 * time.Millisecond)
		train(w, "f", minSamples)
		n.mu.Lock()
		n.behave = lasting(time.Hour, 30*time.Second)
		n.mu.Unlock()
		w.submit("f", nil)
		after(15 * time.Second)
		id := w.submit("f", nil) // the GPU is expected in 5 s
		after(5 * time.Second)
		want(t, w, id, functions.Queued, "")
		after(26 * time.Second)
		want(t, w, id, functions.Assigned, functions.CPU)
	})
}

func TestWaitingSaysWhatEarlierTasksTook(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		hour := functions.Duration(time.Hour)
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred, SpillAfter: &hour})
		w.node("g", 32, 1).behave = lasting(40*time.Second, 12*time.Second)
		after(1100 * time.Millisecond)
		w.submit("f", nil)
		id := w.submit("f", nil)
		after(10 * time.Second)
		got, _ := s.Explain(id)
		if got.NextGPU != 0 || got.ExpectedGPU != 0 || got.ExpectedCPU != 0 || strings.Contains(got.Reason, "about") {
			t.Errorf("numbers without data: %+v", got)
		}
		after(2 * time.Minute)
		train(w, "f", minSamples)
		w.submit("f", nil)
		after(time.Second)
		id = w.submit("f", nil)
		must := w.submit("f", func(t *functions.Task) { t.Route = functions.Route{Policy: functions.Required}.Decide() })
		after(9 * time.Second)
		wantWaiting(t, s, id, functions.WaitGPUBusy, "; next GPU free in about 30 s; the CPU would finish sooner (about 12 s against about 70 s)")
		if got, _ = s.Explain(id); got.NextGPU != 30 || got.ExpectedGPU != 70 || got.ExpectedCPU != 12 {
			t.Errorf("waiting: %+v", got)
		}
		if got, _ = s.Explain(must); got.NextGPU != 30 || got.ExpectedGPU < 70 || got.ExpectedCPU != 0 {
			t.Errorf("waiting for a GPU alone: %+v", got)
		}
	})
}

type historyFunc func(yield func(functions.Task, error) bool)

func (h historyFunc) Succeeded(context.Context, int) iter.Seq2[functions.Task, error] {
	return iter.Seq2[functions.Task, error](h)
}

func TestANewLeaderKnowsWhatTasksTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer w.close()
		w.deploy(functions.Spec{Name: "f", Device: functions.Fastest})
		s := w.newScheduler(t)
		s.cfg.History = historyFunc(func(yield func(functions.Task, error) bool) {
			for i := range 2 * minSamples {
				a := functions.Attempt{Number: 1, Device: functions.GPU, StartedAt: time.Now().Add(-time.Hour), EndedAt: time.Now().Add(-time.Minute)}
				a.Phases = []functions.Span{{Phase: functions.PhasePull, MS: 60_000}, {Phase: functions.PhaseLaunch, MS: 500}, {Phase: functions.PhaseRun, MS: 19_500}}
				if i%2 == 0 {
					a.Device, a.Phases[2].MS = functions.CPU, 4500
				}
				task := functions.Task{ID: taskID(uint64(1000 + i)), Function: "f", Version: 1, State: functions.Succeeded, Attempts: []functions.Attempt{a}}
				a.EndedAt = a.EndedAt.Add(time.Duration(i) * time.Second) // no two alike
				task.Attempts[0] = a
				if !yield(task, nil) {
					return
				}
			}
			yield(functions.Task{}, errors.New("the disk is full"))
		})
		stop := w.lead(s)
		w.node("g", 8, 1)
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		synctest.Wait()
		task := want(t, w, id, functions.Assigned, functions.CPU)
		if got, want := task.Last().Reason, "policy fastest: the CPU is expected to finish in about 5 s, a free GPU in about 20 s"; got != want {
			t.Errorf("reason is %q, want %q", got, want)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestGapsAreClosed holds the places of tasks in a lane against the truth when
// they leave from everywhere.
func TestGapsAreClosed(t *testing.T) {
	p := newPool()
	q := newQueue(p)
	li := q.lane(laneKey{}, &version{name: "f"})
	l := q.lanes[li]
	add := func(n uint64) {
		k, _ := keyOf(taskID(n))
		q.push(p.add(k), li)
	}
	for i := range uint64(50) {
		add(i + 1)
	}
	for i, at := range []int{7, 7, 7, 0, 3, 46 - 1, 20, 43} {
		s := q.nth(l, min(at, l.n-1))
		q.remove(s)
		add(100 + uint64(i))
		for n := range l.n {
			if got := q.ahead(q.nth(l, n)); got != n {
				t.Fatalf("after %d went: %d in front of number %d", at, got, n)
			}
		}
	}
	if q.nth(l, l.n) != none {
		t.Error("there is one behind the last")
	}
}
