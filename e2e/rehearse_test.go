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
			eventually(t, 30*time.Second, "the GPUs are offered", func() bool {
				n, err := srv.Node(t.Context(), nodeName(t))
				return err == nil && len(n.GPUs) == 2 && n.GPUs[0].State == functions.GPUFree && n.GPUs[1].State == functions.GPUFree
			})
			faults.write("device@0\nmissing:first=1@1")
			rehearse(t, srv)
		})
	}
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
	want("gpu_device:"+first+" ok:"+second, second)

	task := run(t, srv, "where", `{}`, map[string]string{"Spillway-Device": "never"})
	if chain(task) != "ok:cpu" || strings.Contains(task.FallbackReason, "gpu") {
		t.Errorf("a task for the CPU: %s, %q; want nothing of the rehearsal", chain(task), task.FallbackReason)
	}
}
