package scheduler

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
)

// onGPUs fails every GPU attempt with a class, at once, until it says so no more.
func onGPUs(c functions.Class, until func(functions.Assignment) bool) func(functions.Assignment) (time.Duration, functions.Outcome) {
	return func(a functions.Assignment) (time.Duration, functions.Outcome) {
		if a.Device == functions.GPU && !until(a) {
			return 10 * time.Millisecond, failWith(c)
		}
		return succeed(a)
	}
}

func always(functions.Assignment) bool { return false }

func devicesOf(t functions.Task) (out []string) {
	for _, a := range t.Attempts {
		out = append(out, string(a.Device)+" "+string(a.Node))
	}
	return out
}

func TestTasksShareAGPU(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "shared", Device: functions.Required, GPU: &functions.GPUNeed{Memory: 4 * gib}})
		w.deploy(functions.Spec{Name: "alone", Device: functions.Required})
		n := w.node("n", 64, 1, sized(24*gib, 4))
		n.behave = forever
		after(1100 * time.Millisecond)
		var ids []functions.TaskID
		for range 5 {
			ids = append(ids, w.submit("shared", nil))
		}
		after(3 * time.Second) // the node has reported meanwhile: nobody counts twice
		for _, id := range ids[:4] {
			want(t, w, id, functions.Assigned, functions.GPU)
		}
		wantWaiting(t, s, ids[4], functions.WaitGPUBusy, "1 of 1 GPU(s): 1 leased")
		single := w.submit("alone", nil)
		w.control(ids[0], functions.Cancel)
		after(2 * time.Second)
		want(t, w, ids[4], functions.Assigned, functions.GPU)
		want(t, w, single, functions.Queued, "")
		for _, id := range ids[1:] {
			w.control(id, functions.Cancel)
		}
		after(2 * time.Second)
		want(t, w, single, functions.Assigned, functions.GPU)
	})
}

func TestALostGPUHostGivesItsTasksAway(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		for name, p := range map[functions.Name]functions.Policy{"must": functions.Required, "may": functions.Preferred} {
			w.deploy(functions.Spec{Name: name, Device: p, GPU: &functions.GPUNeed{Memory: 5 * gib}})
		}
		a := w.node("a", 64, 1, sized(24*gib, 4))
		a.behave = forever
		after(1100 * time.Millisecond)
		must, may := w.submit("must", nil), w.submit("may", nil)
		synctest.Wait()
		want(t, w, must, functions.Assigned, functions.GPU)
		want(t, w, may, functions.Assigned, functions.GPU)
		w.node("b", 64, 0)
		a.setSilent(true)
		after(29 * time.Second)
		want(t, w, must, functions.Queued, functions.GPU)
		after(35 * time.Second) // past the time in which the other waits for a GPU
		want(t, w, must, functions.Queued, functions.GPU)
		if got := devicesOf(want(t, w, may, functions.Succeeded, functions.CPU)); !slices.Equal(got, []string{"gpu a", "cpu b"}) {
			t.Errorf("ran on %v", got)
		}
		w.node("c", 64, 1, sized(24*gib, 4))
		after(2 * time.Second)
		if got := devicesOf(want(t, w, must, functions.Succeeded, functions.GPU)); !slices.Equal(got, []string{"gpu a", "gpu c"}) {
			t.Errorf("ran on %v", got)
		}
	})
}

func TestAGPUThatJoinsTakesWhatWaits(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "must", Device: functions.Required})
		w.deploy(functions.Spec{Name: "may", Device: functions.Preferred})
		w.node("old", 8, 1).behave = forever
		after(1100 * time.Millisecond)
		w.submit("may", nil)
		synctest.Wait()
		must, may := w.submit("must", nil), w.submit("may", nil)
		after(20 * time.Second)
		want(t, w, must, functions.Queued, "")
		want(t, w, may, functions.Queued, "")
		w.node("new", 8, 2)
		after(time.Second)
		for _, id := range []functions.TaskID{must, may} {
			if got := want(t, w, id, functions.Succeeded, functions.GPU); got.Last().Node != "new" {
				t.Errorf("ran on %s", got.Last().Node)
			}
		}
	})
}

func TestAHostFaultTriesAnotherNode(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred})
		w.node("a", 8, 2).behave = onGPUs(functions.GPUHost, always)
		b := w.node("b", 8, 3)
		after(1100 * time.Millisecond)
		if got := devicesOf(submitted(t, w, "f")); !slices.Equal(got, []string{"gpu a", "gpu b"}) {
			t.Errorf("ran on %v", got)
		}
		b.mu.Lock()
		b.behave = onGPUs(functions.GPUHung, always)
		b.mu.Unlock()
		got := submitted(t, w, "f")
		if d := devicesOf(got); len(d) != 3 || d[0] != "gpu a" || d[1] != "gpu b" || got.DeviceUsed() != functions.CPU || got.Fallback != functions.GPUHung {
			t.Errorf("ran on %v, fallback %s", d, got.Fallback)
		}
	})
}

// submitted runs a task to its success.
func submitted(t *testing.T, w *world, fn functions.Name) functions.Task {
	t.Helper()
	id := w.submit(fn, nil)
	after(2 * time.Second)
	task := w.task(id)
	if task.State != functions.Succeeded {
		t.Fatalf("task is %s: %+v", task.State, task.Attempts)
	}
	return task
}

// A task that ran out of GPU memory asks for twice as much, where there is room
// for that, else for a device alone, else for a larger one.
func TestGPUMemoryAsksForMoreOnce(t *testing.T) {
	four := &functions.GPUNeed{Memory: 4 * gib}
	for _, tt := range []struct {
		name string
		need *functions.GPUNeed
		gpus []functions.Bytes // sizes, in GiB
		want functions.GPUClaim
		gpu  int // that the second attempt gets; -1 = none
	}{
		{"twice", four, []functions.Bytes{24}, functions.GPUClaim{Count: 1, Memory: 8 * gib}, 0},
		{"alone", four, []functions.Bytes{8}, functions.GPUClaim{Count: 1, Memory: 4 * gib, Exclusive: true}, 0},
		{"undeclared, on a larger one", nil, []functions.Bytes{16, 24}, functions.GPUClaim{Count: 1}, 1},
		{"undeclared, and none is larger", nil, []functions.Bytes{16, 16}, functions.GPUClaim{}, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stage(t, func(t *testing.T, w *world, s *Scheduler) {
				w.deploy(functions.Spec{Name: "f", Device: functions.Preferred, GPU: tt.need})
				var orders []functions.Assignment
				n := w.node("n", 8, len(tt.gpus), sized(0, 4), func(n *fakeNode) {
					for i, size := range tt.gpus {
						n.info.GPUs[i].Memory, n.info.GPUs[i].Free = size*gib, size*gib-functions.GPUOverhead
					}
				})
				n.behave = func(a functions.Assignment) (time.Duration, functions.Outcome) {
					n.mu.Lock()
					orders = append(orders, a)
					n.mu.Unlock()
					return onGPUs(functions.GPUMemory, always)(a)
				}
				after(1100 * time.Millisecond)
				got := submitted(t, w, "f")
				n.mu.Lock()
				defer n.mu.Unlock()
				second := got.Attempts[1]
				if tt.gpu < 0 {
					if len(got.Attempts) != 2 || second.Device != functions.CPU {
						t.Errorf("ran on %v", devicesOf(got))
					}
					return
				}
				if len(got.Attempts) != 3 || second.Device != functions.GPU || got.DeviceUsed() != functions.CPU || got.Fallback != functions.GPUMemory {
					t.Fatalf("ran on %v, fallback %s", devicesOf(got), got.Fallback)
				}
				if c := orders[1].Claim; c.Memory != tt.want.Memory || c.Exclusive != tt.want.Exclusive || second.GPUs[0] != n.info.GPUs[tt.gpu].UUID {
					t.Errorf("the second attempt asks for %+v and gets %v", c, second.GPUs)
				}
			})
		})
	}
}

// A new leader orders what the old one had decided, and asks for as much for a
// task that still waits.
func TestANewLeaderKeepsWhatGrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deploy(functions.Spec{Name: "f", Device: functions.Required, GPU: &functions.GPUNeed{Memory: 4 * gib}})
		w.deploy(functions.Spec{Name: "hog", Device: functions.Required, Priority: 9})
		n := w.node("n", 64, 1, sized(24*gib, 4))
		var mu sync.Mutex // guards claims
		claims := map[functions.TaskID][]functions.GPUClaim{}
		n.behave = func(a functions.Assignment) (time.Duration, functions.Outcome) {
			mu.Lock()
			claims[a.Task.ID] = append(claims[a.Task.ID], a.Claim)
			mu.Unlock()
			if a.Function.Name == "hog" {
				return 10 * time.Second, functions.Outcome{}
			}
			return onGPUs(functions.GPUMemory, func(a functions.Assignment) bool { return a.Attempt > 1 })(a)
		}
		old, heir := w.newScheduler(t), w.newScheduler(t)
		stop := w.lead(old)
		after(1100 * time.Millisecond)
		waits := w.submit("f", nil)
		after(500 * time.Millisecond) // it pauses after its first attempt
		w.submit("hog", nil)
		after(3 * time.Second)
		want(t, w, waits, functions.Queued, functions.GPU)
		if err := stop(); err != nil {
			t.Error(err)
		}
		m := w.node("m", 64, 1, sized(12*gib, 4), func(m *fakeNode) { m.behave = n.behave })
		told := w.submit("f", nil) // the old leader has decided, and the node was not told
		w.mu.Lock()
		w.write([]functions.Event{{Kind: functions.Assign, Task: told, At: time.Now(), Asg: &functions.Placement{
			Epoch: w.epoch, Attempt: 1, Node: "m", Boot: m.info.Boot, Device: functions.GPU, GPUs: []string{"GPU-m-0"}, Reason: "r",
			Claim: functions.GPUClaim{Count: 1, Memory: 9 * gib},
		}}})
		w.mu.Unlock()
		stop = w.lead(heir)
		after(30 * time.Second)
		want(t, w, waits, functions.Succeeded, functions.GPU)
		mu.Lock()
		if got := claims[waits]; len(got) != 2 || got[1].Memory != 8*gib || got[1].Exclusive {
			t.Errorf("the one that waited asked for %+v", got)
		}
		if got := claims[told]; len(got) == 0 || got[0].Memory != 9*gib {
			t.Errorf("the one that was decided asked for %+v", got)
		}
		mu.Unlock()
		if err := stop(); err != nil {
			t.Error(err)
		}
		w.close()
	})
}

func TestWhatAHostSaysOfItsGPUsCounts(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred})
		w.deploy(functions.Spec{Name: "new", Device: functions.Preferred, GPU: &functions.GPUNeed{MinDriver: "580"}})
		n := w.node("n", 8, 1)
		tell := func(h functions.GPUHostInfo) {
			n.mu.Lock()
			n.info.GPUHost = &h
			n.mu.Unlock()
			n.beat()
			synctest.Wait()
		}
		expect := func(fn functions.Name, d functions.Device, reason string) {
			t.Helper()
			if got := submitted(t, w, fn); got.DeviceUsed() != d || !strings.Contains(got.Last().Reason, reason) {
				t.Errorf("%s ran on %s: %s", fn, got.DeviceUsed(), got.Last().Reason)
			}
		}
		after(1100 * time.Millisecond)
		tell(functions.GPUHostInfo{State: functions.GPUHostReady, Driver: "535.104.05"})
		expect("f", functions.GPU, "one is free")
		expect("new", functions.CPU, "no ready node offers 1 healthy GPU(s) and the rest")
		tell(functions.GPUHostInfo{State: functions.GPUHostReady, Unsuited: []functions.UnsuitedImage{{Image: "scratch", Until: time.Now().Add(10 * time.Second)}}})
		expect("f", functions.CPU, "no ready node offers 1 healthy GPU(s) and the rest")
		after(10 * time.Second)
		expect("f", functions.GPU, "one is free")
		tell(functions.GPUHostInfo{State: functions.GPUHostOff, Reason: "could not select device driver"})
		expect("f", functions.CPU, "every GPU is quarantined")
	})
}

// What a node that has not been heard yet has, nobody can know.
func TestNeverIsSaidOfHeardNodesAlone(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "many", Device: functions.Required, GPU: &functions.GPUNeed{Count: 16}})
		w.node("n", 8, 8)
		after(1100 * time.Millisecond)
		id := w.submit("many", nil)
		wantWaiting(t, s, id, functions.WaitTooBig, "no node can ever run this: it needs 16 GPUs and the largest node has 8")
		s.ask(func(tm *term) { tm.node("silent") })
		wantWaiting(t, s, id, functions.WaitTooBig, "no ready node offers 16 healthy GPU(s)")
	})
}

// What a GPU failed comes back to it, where a GPU is required and there is no
// other: once the node offers it again.
func TestRequiredWaitsUntilTheGPUIsWellAgain(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Required})
		broken := true
		n := w.node("n", 8, 1)
		n.behave = func(a functions.Assignment) (time.Duration, functions.Outcome) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if broken {
				n.info.GPUs[0].State = functions.GPUQuarantined
				return 10 * time.Millisecond, failWith(functions.GPUDevice)
			}
			return succeed(a)
		}
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		after(5 * time.Minute)
		want(t, w, id, functions.Queued, functions.GPU)
		wantWaiting(t, s, id, functions.WaitGPUBusy, "1 quarantined")
		n.mu.Lock()
		broken = false
		n.mu.Unlock()
		n.setGPU(0, functions.GPUFree)
		after(time.Second)
		if got := want(t, w, id, functions.Succeeded, functions.GPU); got.Attempt != 2 {
			t.Errorf("attempts are %+v", got.Attempts)
		}
	})
}

// A device that is sick for good is no other to wait for.
func TestRequiredComesBackWhenTheOtherIsSick(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Required})
		w.node("n", 8, 2, func(n *fakeNode) {
			n.info.GPUs[1].State = functions.GPUEjected
			n.behave = onGPUs(functions.GPUDevice, func(a functions.Assignment) bool { return a.Attempt > 1 })
		})
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		after(2 * time.Second)
		if got := want(t, w, id, functions.Succeeded, functions.GPU); got.Attempt != 2 || got.Last().GPUs[0] != "GPU-n-0" {
			t.Errorf("attempts are %+v", got.Attempts)
		}
	})
}

func TestRequiredEndsWithTheWholeStory(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Required})
		w.deploy(functions.Spec{Name: "brief", Device: functions.Required, GPU: &functions.GPUNeed{Within: functions.Duration(time.Minute)}})
		w.deploy(functions.Spec{Name: "picky", Device: functions.Required})
		n := w.node("n", 8, 1)
		n.behave = onGPUs(functions.GPUUnknown, always)
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		after(10 * time.Second)
		got := want(t, w, id, functions.Failed, functions.GPU)
		if got.Attempt != 3 || strings.Count(got.Failure.Message, "on n GPU-n-0: gpu_unknown (as told)") != 3 || got.Failure.Class != functions.GPUUnknown || got.Failure.Hint == "" {
			t.Errorf("%d attempts, failure %+v", got.Attempt, got.Failure)
		}

		n.mu.Lock()
		n.behave = func(a functions.Assignment) (time.Duration, functions.Outcome) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.info.GPUs[0].State = functions.GPUEjected
			return 10 * time.Millisecond, failWith(functions.GPULost)
		}
		n.mu.Unlock()
		id = w.submit("brief", nil)
		after(58 * time.Second)
		want(t, w, id, functions.Queued, functions.GPU)
		after(4 * time.Second)
		got = want(t, w, id, functions.Failed, functions.GPU)
		if got.Attempt != 1 || got.Failure.Class != functions.GPULost || !strings.Contains(got.Failure.Message, "no other was had in 1m0s since the first failed: attempt 1 on n GPU-n-0: gpu_lost") {
			t.Errorf("%d attempts, failure %+v", got.Attempt, got.Failure)
		}

		n.mu.Lock()
		n.behave = onGPUs(functions.GPUUnsuited, always)
		n.mu.Unlock()
		n.setGPU(0, functions.GPUFree)
		id = w.submit("picky", nil)
		after(time.Second)
		got = want(t, w, id, functions.Failed, functions.GPU)
		if got.Attempt != 1 || !strings.Contains(got.Failure.Message, "no other suitable one is there") {
			t.Errorf("a program that the driver does not suit: %d attempts, %+v", got.Attempt, got.Failure)
		}
	})
}

// An optional task that waits for another GPU for longer than its function allows
// goes to the CPU.
func TestOptionalLeavesGPUsInTime(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		spill := functions.Duration(time.Hour)
		w.deploy(functions.Spec{Name: "f", Device: functions.Preferred, SpillAfter: &spill, GPU: &functions.GPUNeed{Within: functions.Duration(20 * time.Second)}})
		w.deploy(functions.Spec{Name: "hog", Device: functions.Required, Priority: 9})
		n := w.node("n", 8, 2)
		n.behave = func(a functions.Assignment) (time.Duration, functions.Outcome) {
			if a.Function.Name == "hog" {
				return forever(a)
			}
			switch {
			case a.Device == functions.GPU && a.Attempt == 1:
				return time.Second, failWith(functions.GPULost)
			case a.Device == functions.GPU:
				return time.Second, failWith(functions.Infra)
			}
			return succeed(a)
		}
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		after(2100 * time.Millisecond) // both attempts have failed, and it pauses
		w.submit("hog", nil)
		w.submit("hog", nil)
		after(15 * time.Second)
		want(t, w, id, functions.Queued, functions.GPU)
		after(10 * time.Second)
		got := want(t, w, id, functions.Succeeded, functions.CPU)
		if r := got.Last().Reason; r != "on the CPU: GPUs have failed it for 20s" {
			t.Errorf("reason is %q", r)
		}
	})
}
