package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/containerd/containerdtest"
)

// TestRehearsalWithRealContainers adds GPUs that are not there to each real
// runtime: what it launches for them are real containers, and the faults are ours.
func TestRehearsalWithRealContainers(t *testing.T) {
	for name, args := range map[string]func(t *testing.T) []string{
		"docker": func(*testing.T) []string { return nil },
		"containerd": func(t *testing.T) []string {
			return []string{"--containerd", containerdtest.Start(t, containerdtest.Machine(t)).Address}
		},
		"oci": func(t *testing.T) []string { needOCI(t); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			needShell(t, "")
			faults := newFaulty(t, "")
			srv := server(t, append([]string{"--runtime", name, "--simulate-gpu", "2x80GiB", "--fail-file", faults.path}, args(t)...)...)
			eventually(t, time.Minute, "the GPUs are offered", func() bool { return idle(t, srv) == 2 })
			faults.write("device@0\nmissing:first=1@1")
			rehearse(t, srv)
		})
	}
}

// idle is how many GPUs the server's node has of which all is free.
func idle(t *testing.T, srv *harness.Server) (n int) {
	found, err := srv.Node(t.Context(), nodeName(t))
	if err != nil {
		return 0
	}
	for _, g := range found.GPUs {
		if g.State == functions.GPUFree && g.Reason == "" {
			n++
		}
	}
	return n
}

// rehearse meets a device that is not found, and once a program that does not see
// the other one.
func rehearse(t *testing.T, srv *harness.Server) {
	t.Helper()
	deploySpec(t, srv, shell("where", `echo "{\"device\":\"$TASK_DEVICE\",\"gpus\":\"$TASK_SIMULATED_GPUS\",\"visible\":\"$NVIDIA_VISIBLE_DEVICES\"}" > $TASK_RESULT_FILE`))
	want := func(chained, gpus string) {
		t.Helper()
		task := run(t, srv, "where", `{}`, map[string]string{"Spillway-Device": "preferred"})
		if got := chain(task); got != chained {
			t.Fatalf("attempts %s, want %s", got, chained)
		}
		var saw struct{ Device, GPUs, Visible string }
		if err := srv.JSON(t.Context(), "GET", "/v1/tasks/"+string(task.ID)+"/result", nil, &saw); err != nil {
			t.Fatal(err)
		}
		if saw.Device != task.DeviceUsed || saw.GPUs != gpus || saw.Visible != "void" {
			t.Errorf("the container saw %+v; want what the task used (%s), %q, and no real GPU", saw, task.DeviceUsed, gpus)
		}
	}
	first, second := "SIM-"+nodeName(t)+"-0", "SIM-"+nodeName(t)+"-1"
	want("gpu_device:"+first+" gpu_missing:"+second+" ok:cpu", "")
	eventually(t, time.Minute, "nothing holds the GPUs any more", func() bool { return idle(t, srv) == 2 })
	want("gpu_device:"+first+" ok:"+second, second)

	task := run(t, srv, "where", `{}`, map[string]string{"Spillway-Device": "never"})
	if chain(task) != "ok:cpu" || strings.Contains(task.FallbackReason, "gpu") {
		t.Errorf("a task for the CPU: %s, %q; want nothing of the rehearsal", chain(task), task.FallbackReason)
	}
}

// TestACanaryReadmitsAGPU sees a device come back although no task tries it: the
// node does, with a container that does nothing.
func TestACanaryReadmitsAGPU(t *testing.T) {
	needShell(t, "")
	faults := newFaulty(t, "")
	srv := server(t, "--simulate-gpu", "1x80GiB", "--fail-file", faults.path)
	deploySpec(t, srv, shell("where", "true", "spill_after: 0s"))
	host := func() (functions.GPUHostInfo, []functions.GPUInfo) {
		n, err := srv.Node(t.Context(), nodeName(t))
		if err != nil || n.GPUHost == nil {
			return functions.GPUHostInfo{}, nil
		}
		return *n.GPUHost, n.GPUs
	}
	ready := func() bool {
		h, gpus := host()
		return h.State == functions.GPUHostReady && len(gpus) == 1 && gpus[0].State == functions.GPUFree
	}
	eventually(t, time.Minute, "the GPU is offered", ready)
	faults.write("no-toolkit")
	for range 2 {
		run(t, srv, "where", `{}`, map[string]string{"Spillway-Device": "preferred"})
	}
	eventually(t, time.Minute, "the GPUs are off", func() bool { h, _ := host(); return h.State == functions.GPUHostOff })
	if h, _ := host(); !strings.Contains(h.Reason, "could not select device driver") {
		t.Errorf("the host says %q, want the engine's words", h.Reason)
	}
	faults.write("slow=3s # the toolkit is installed, and the trial can be watched")
	eventually(t, time.Minute, "they are tried, and no task is there", func() bool { h, _ := host(); return strings.Contains(h.Reason, "tries whether") })
	eventually(t, time.Minute, "they are back", ready)
	if task := run(t, srv, "where", `{}`, map[string]string{"Spillway-Device": "required"}); len(task.Attempts) != 1 {
		t.Errorf("attempts %s; want one, on the GPU", chain(task))
	}
}
