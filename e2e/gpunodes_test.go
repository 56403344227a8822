package e2e

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// TestEachGPUFault meets each fault on the first of a node's two GPUs, and looks
// at what becomes of a task that prefers a GPU, and at what its caller is told.
func TestEachGPUFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault string
		want  string // chain of attempts
	}{
		{"hang@0", "gpu_hung:SIM-a-0 ok:cpu"}, // first: it takes the launch's whole 30 seconds
		{"no-toolkit@0", "gpu_host:SIM-a-0 ok:cpu"},
		{"device@0", "gpu_device:SIM-a-0 ok:SIM-a-1"},
		{"device", "gpu_device:SIM-a-0 gpu_device:SIM-a-1 ok:cpu"},
		{"requirement@0", "gpu_image:SIM-a-0 ok:cpu"},
		{"hook@0", "gpu_unknown:SIM-a-0 ok:cpu"},
		{"oom@0", "gpu_memory:SIM-a-0 ok:cpu"},
		{"lost@0", "gpu_lost:SIM-a-0 ok:SIM-a-1"},
		{"missing@0", "gpu_missing:SIM-a-0 ok:cpu"},
		{"unsuited@0", "gpu_unsuited:SIM-a-0 ok:cpu"},
		{"declined@0", "declined:SIM-a-0 ok:cpu"},
		{"slow=1s", "ok:SIM-a-0"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			f.node("a", "2x80GiB", "--fail", c.fault)
			f.deploy("work", "spill_after: 0s")
			header, task := f.call("work", `{"sleep_ms":10}`)
			if got := chain(task); got != c.want {
				t.Errorf("attempts %s, want %s", got, c.want)
			}
			used, last := "gpu", c.want[strings.LastIndex(c.want, ":")+1:]
			first, _, _ := strings.Cut(c.want, ":")
			reason := "" // only what ends on the CPU has fallen back
			if last == "cpu" {
				used, reason = "cpu", first+": "
			}
			got := header.Get("Spillway-Fallback-Reason")
			if header.Get("Spillway-Device-Requested") != "preferred" || header.Get("Spillway-Device-Used") != used ||
				!strings.HasPrefix(got, reason) || (reason == "") != (got == "") {
				t.Errorf("the caller is told %q, %q, %q; want preferred, %s and why: %q",
					header.Get("Spillway-Device-Requested"), header.Get("Spillway-Device-Used"), got, used, reason)
			}
			if n := header.Get("Spillway-Attempts"); n != strconv.Itoa(len(task.Attempts)) {
				t.Errorf("the caller is told of %s attempts of %d", n, len(task.Attempts))
			}
		})
	}
}

// TestGPUTasksSpread runs many tasks on three nodes with two GPUs each: all are
// used, and none has two tasks at once. A simulated device that two tasks have
// at once fails the second, as a real one does.
func TestGPUTasksSpread(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, id := range []string{"a", "b", "c"} {
		f.node(id, "2x80GiB")
	}
	f.deploy("alone", "device: required")
	tasks := f.ended(f.submit("alone", 36, time.Second))
	for _, task := range tasks {
		if len(worked(task)) != 1 {
			t.Errorf("task %s took %s; want one attempt", task.ID, chain(task))
		}
	}
	byNode, byDevice := countBy(tasks, onNode), countBy(tasks, onDevice)
	if len(byNode) != 3 || len(byDevice) != 6 {
		t.Errorf("ran on %v, %v; want every GPU of three nodes", byNode, byDevice)
	}
	apart(t, tasks)
	t.Logf("tasks by node %v, by device %v", byNode, byDevice)
}

// span is the first half of a task's run on a device, by the node's clock. What
// the clock of an attempt's end is late by is far less than the other half.
type span struct {
	task     functions.TaskID
	from, to time.Time
}

// runs are the spans of tasks by device, in their order.
func runs(t *testing.T, tasks []harness.Task) map[string][]span {
	t.Helper()
	spans := map[string][]span{}
	for _, task := range tasks {
		a := task.Attempts[len(task.Attempts)-1]
		ms := map[functions.Phase]float64{}
		for _, p := range a.Phases {
			ms[p.Phase] += p.MS
		}
		to := a.EndedAt.Add(-time.Duration(ms[functions.PhaseCollect] * float64(time.Millisecond)))
		run := time.Duration(ms[functions.PhaseRun] * float64(time.Millisecond))
		if run <= 0 {
			t.Errorf("task %s has no time of its run: %+v", task.ID, a.Phases)
		}
		for _, id := range a.GPUs {
			spans[id] = append(spans[id], span{task.ID, to.Add(-run), to.Add(-run / 2)})
		}
	}
	for _, all := range spans {
		slices.SortFunc(all, func(a, b span) int { return a.from.Compare(b.from) })
	}
	return spans
}

// atOnce is how many of the spans have a moment in common.
func atOnce(spans []span) (most int) {
	for _, at := range spans {
		n := 0
		for _, s := range spans {
			if !s.from.After(at.from) && s.to.After(at.from) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// apart fails where two tasks ran on one device at the same time.
func apart(t *testing.T, tasks []harness.Task) {
	t.Helper()
	for id, all := range runs(t, tasks) {
		for i, s := range all[1:] {
			if s.from.Before(all[i].to) {
				t.Errorf("device %s: task %s began at %s, and %s had just begun and ran beyond %s", id, s.task, s.from, all[i].task, all[i].to)
			}
		}
	}
}

// TestTooManyTasksForTheGPUs lets those that have waited for a GPU for as long
// as they may go to the CPU, and says so.
func TestTooManyTasksForTheGPUs(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.node("a", "2x80GiB")
	f.deploy("hasty", "device: preferred", "spill_after: 300ms")
	tasks := f.ended(f.submit("hasty", 12, 2*time.Second))
	for _, task := range tasks {
		last := worked(task)[len(worked(task))-1]
		if last.Device == functions.CPU && !strings.Contains(last.Reason, "spilled after 300ms: every GPU is busy") {
			t.Errorf("task %s ran on the CPU: %q", task.ID, last.Reason)
		}
	}
	if by := countBy(tasks, device); by["gpu"] < 2 || by["cpu"] < 2 {
		t.Errorf("ran on %v; want both GPUs busy, and what they left on the CPU", by)
	}
}

// TestAGPUNodeDiesUnderLoad kills a node with its tasks: others run them, once.
func TestAGPUNodeDiesUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, id := range []string{"a", "b", "c"} {
		f.node(id, "2x80GiB")
	}
	f.deploy("work", "device: required")
	ids := f.submit("work", 24, 3*time.Second) // node b has its share of them for longer than it takes to see that
	eventually(t, time.Minute, "node b works", func() bool { return f.running("b") > 0 })
	f.nodes["b"].Kill()
	killed := time.Now()
	tasks := f.ended(ids)
	lost := 0
	for _, task := range tasks {
		all := worked(task)
		for _, a := range all[:len(all)-1] {
			if a.Node != "b" || a.Failure == nil || a.Failure.Class != functions.NodeLost {
				t.Errorf("task %s: %s; want only attempts on node b to be lost", task.ID, chain(task))
			}
			lost++
		}
		if last := all[len(all)-1]; last.Node == "b" && last.EndedAt.After(killed.Add(time.Second)) {
			t.Errorf("task %s ended on node b, which was dead", task.ID)
		}
	}
	if lost == 0 {
		t.Error("no attempt was lost: the node held none when it was killed")
	}
	if all := listAll(t.Context(), t, f.Server); len(all) != len(ids) {
		t.Errorf("%d tasks are listed of %d", len(all), len(ids))
	}
}

// TestGPUsThatJoinLate take the tasks that wait for them.
func TestGPUsThatJoinLate(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.node("a", "1x80GiB")
	f.deploy("must", "device: required")
	f.deploy("may", "device: preferred", "spill_after: 2m")
	long := f.submit("must", 1, 10*time.Minute)[0]
	eventually(t, time.Minute, "the one GPU is busy", func() bool { return f.running("a") == 1 })
	waiting := append(f.submit("must", 2, 100*time.Millisecond), f.submit("may", 2, 100*time.Millisecond)...)
	for _, id := range waiting {
		eventually(t, time.Minute, "it says why it waits", func() bool {
			task, err := f.Task(t.Context(), id)
			return err == nil && task.Waiting != nil && (task.Waiting.Code == functions.WaitGPUBusy || task.Waiting.Code == functions.WaitTurn)
		})
	}
	f.node("b", "2x80GiB")
	for _, task := range f.ended(waiting) {
		if got := worked(task); len(got) != 1 || got[0].Node != "b" || got[0].Device != functions.GPU {
			t.Errorf("task %s: %s; want one attempt on a GPU of the node that came", task.ID, chain(task))
		}
	}
	if err := f.JSON(t.Context(), http.MethodPost, "/v1/tasks/"+string(long)+"/cancel", nil, nil); err != nil {
		t.Errorf("cancel: %v", err)
	}
}
