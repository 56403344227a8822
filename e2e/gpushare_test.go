package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// TestTasksShareAGPU runs tasks that say what they need on one device: as many at
// once as may, and as have room. A simulated device whose memory is promised twice
// fails who comes last, as a real one does.
func TestTasksShareAGPU(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		memory string
		most   int
	}{
		{"8GiB", 4},  // by their number
		{"30GiB", 2}, // by their memory
		{"50GiB", 1},
	} {
		t.Run(c.memory, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			f.node("a", "1x80GiB")
			f.deploy("small", "device: required", fmt.Sprintf("gpu: {memory: %s}", c.memory))
			tasks := f.ended(f.submit("small", 2*c.most, 4*time.Second))
			for _, task := range tasks {
				if got := chain(task); got != "ok:SIM-a-0" {
					t.Errorf("task %s: %s; want one attempt", task.ID, got)
				}
			}
			if most := atOnce(runs(t, tasks)["SIM-a-0"]); most != c.most {
				t.Errorf("up to %d tasks had the GPU, want %d", most, c.most)
			}
		})
	}
}

// TestAHostFaultLeadsToAnotherNode sends a task whose node cannot give it a GPU to
// one that can, before the CPU.
func TestAHostFaultLeadsToAnotherNode(t *testing.T) {
	t.Parallel()
	for fault, class := range map[string]functions.Class{
		"no-toolkit": functions.GPUHost, "requirement": functions.GPUImage, "missing": functions.GPUMissing, "unsuited": functions.GPUUnsuited,
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			f.node("a", "1x80GiB", "--fail", fault)
			f.node("b", "1x80GiB")
			f.deploy("work", "spill_after: 0s")
			header, task := f.call("work", `{"sleep_ms":10}`)
			if got, want := chain(task), string(class)+":SIM-a-0 ok:SIM-b-0"; got != want {
				t.Errorf("attempts %s, want %s", got, want)
			}
			if used, why := header.Get("Spillway-Device-Used"), header.Get("Spillway-Fallback-Reason"); used != "gpu" || why != "" {
				t.Errorf("the caller is told %q, %q; want a GPU, and no fallback", used, why)
			}
		})
	}
}

// TestATaskThatTakesMoreThanItSaid has one more try, with more of a GPU.
func TestATaskThatTakesMoreThanItSaid(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.node("a", "2x24GiB", "--fail", "foreign=18GiB@0")
	f.deploy("modest", "device: preferred", "gpu: {memory: 4GiB}", "spill_after: 0s")
	eventually(t, time.Minute, "somebody else's process is seen", func() bool { return f.gpus("a")["SIM-a-0"].Used > 0 })
	if _, task := f.call("modest", `{"gpu_mib":12288}`); chain(task) != "gpu_memory:SIM-a-0 ok:SIM-a-1" {
		t.Errorf("attempts %s; want the device with more room", chain(task))
	}
}

// TestTooLongAQueueForTheGPUs sends what a function's queue for GPUs has no room
// for to the CPU at once, and says so; the others have GPUs.
func TestTooLongAQueueForTheGPUs(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.node("a", "2x80GiB")
	f.deploy("popular", "device: preferred", "spill_after: 2m", "spill_queue: 3")
	tasks := f.ended(f.submit("popular", 20, 2*time.Second))
	by := countBy(tasks, device)
	if by["gpu"] < 5 || by["cpu"] < 5 {
		t.Errorf("ran on %v; want two tasks on GPUs, three more in the queue, and others on the CPU", by)
	}
	for _, task := range tasks {
		if last := worked(task)[0]; last.Device == functions.CPU && !strings.Contains(last.Reason, "over its limit of 3") {
			t.Errorf("task %s ran on the CPU: %q", task.ID, last.Reason)
		}
	}
	t.Logf("ran on %v", by)
}
