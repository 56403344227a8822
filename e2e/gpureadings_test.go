package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// TestAGPUThatFellOffTheBus is not offered until a reading shows it mended.
func TestAGPUThatFellOffTheBus(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	faults := newFaulty(t, "lost@0")
	f.node("a", "2x80GiB", "--fail-file", faults.path)
	f.deploy("work", "device: preferred", "spill_after: 1m")
	if _, task := f.call("work", `{"sleep_ms":10}`); chain(task) != "gpu_lost:SIM-a-0 ok:SIM-a-1" {
		t.Errorf("attempts %s; want the other device after the one that failed", chain(task))
	}
	lost := func() functions.GPUInfo { return f.gpus("a")["SIM-a-0"] }
	eventually(t, time.Minute, "the device is ejected", func() bool { return lost().State == functions.GPUEjected })
	if why := lost().Reason; !strings.Contains(why, "fallen off the bus") {
		t.Errorf("it says %q; want what the driver has reported", why)
	}
	if _, task := f.call("work", `{"sleep_ms":10}`); chain(task) != "ok:SIM-a-1" {
		t.Errorf("attempts %s; want none on the device that is lost", chain(task))
	}
	faults.write("# it was reset")
	eventually(t, 90*time.Second, "the device is back", func() bool { return lost().State == functions.GPUFree && lost().Reason == "" })
}

// TestAProbeThatFallsSilent keeps tasks off GPUs of which nobody knows anything,
// and lets them come back.
func TestAProbeThatFallsSilent(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	faults := newFaulty(t, "")
	f.node("a", "1x80GiB", "--fail-file", faults.path)
	f.deploy("must", "device: required")
	f.ended(f.submit("must", 1, 10*time.Millisecond))
	faults.write("stale")
	eventually(t, time.Minute, "the GPU is not offered", func() bool { return f.gpus("a")["SIM-a-0"].State == functions.GPUUnread })
	n, err := f.Node(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if n.GPUHost == nil || n.GPUHost.State != functions.GPUHostOff || !strings.Contains(n.GPUHost.Reason, "gives no answer") {
		t.Errorf("the host says %+v; want that it is off, and why", n.GPUHost)
	}
	waiting := f.submit("must", 1, 10*time.Millisecond)
	eventually(t, time.Minute, "the task says why it waits", func() bool {
		task, err := f.Task(t.Context(), waiting[0])
		return err == nil && task.Waiting != nil && task.Waiting.Reason != ""
	})
	faults.write("")
	f.ended(waiting)
}

// TestSomebodyElseUsesAGPU leaves a device to a program that is not ours, as
// long as that runs.
func TestSomebodyElseUsesAGPU(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	faults := newFaulty(t, "foreign=70GiB@0 # a notebook that somebody has forgotten")
	f.node("a", "2x80GiB", "--fail-file", faults.path)
	f.deploy("alone", "device: required")
	eventually(t, time.Minute, "it is seen", func() bool { return f.gpus("a")["SIM-a-0"].Used == 70*functions.GiB })
	tasks := f.ended(f.submit("alone", 4, 200*time.Millisecond))
	if by := countBy(tasks, onDevice); by["SIM-a-1"] != len(tasks) {
		t.Errorf("ran on %v; want the device that is free", by)
	}
	faults.write("")
	eventually(t, time.Minute, "both devices are used again", func() bool {
		return len(countBy(f.ended(f.submit("alone", 4, 200*time.Millisecond)), onDevice)) == 2
	})
}
