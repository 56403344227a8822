package e2e

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/docker/dockertest"
)

// TestGPULaunches runs the real Docker path of a GPU launch on a second engine
// whose NVIDIA hook is ours: it injects what a driver would, or fails in each of
// the ways that real hosts do.
func TestGPULaunches(t *testing.T) {
	needShell(t, "")
	engine := dockertest.Start(t, dockertest.Config{})
	needShell(t, engine.Host)
	loadImage(t, engine.Host, "spillway/echo:latest")
	for _, c := range []struct {
		mode  dockertest.Mode
		class functions.Class // of the GPU attempt; empty = it succeeds
	}{
		{dockertest.OK, ""},
		{dockertest.InitErr, functions.GPUHost},
		{dockertest.LoadLib, functions.GPUHost},
		{dockertest.Perm, functions.GPUHost},
		{dockertest.Unknown, functions.GPUDevice},
		{dockertest.CUDA, functions.GPUImage},
		{dockertest.Silent, functions.GPUUnknown},
	} {
		t.Run(string(c.mode), func(t *testing.T) {
			engine.SetMode(c.mode)
			srv := server(t, "--assume-gpu", "1", "--docker-host", engine.Host)
			deploySpec(t, srv, shell("where", "echo $TASK_DEVICE; echo \"{\\\"device\\\":\\\"$TASK_DEVICE\\\",\\\"gpus\\\":\\\"$NVIDIA_VISIBLE_DEVICES\\\"}\" > $TASK_RESULT_FILE"))
			task := run(t, srv, "where", `{}`, map[string]string{"Spillway-Device": "preferred"})
			if task.Status != string(functions.Succeeded) {
				t.Fatalf("ended as %s: %+v", task.Status, task.Failure)
			}
			var result struct{ Device, GPUs string }
			if err := srv.JSON(t.Context(), "GET", "/v1/tasks/"+string(task.ID)+"/result", nil, &result); err != nil {
				t.Fatal(err)
			}
			if c.class == "" {
				if len(task.Attempts) != 1 || task.DeviceUsed != "gpu" || result.Device != "gpu" || result.GPUs != "0" {
					t.Errorf("attempts %d, used %s, container saw %+v; want one attempt on GPU 0", len(task.Attempts), task.DeviceUsed, result)
				}
				return
			}
			if len(task.Attempts) != 2 || task.Attempts[0].Failure == nil || task.Attempts[0].Failure.Class != c.class {
				t.Fatalf("attempts %+v; want a GPU attempt that failed as %s and one on the CPU", task.Attempts, c.class)
			}
			if task.DeviceUsed != "cpu" || result.Device != "cpu" || result.GPUs != "void" {
				t.Errorf("used %s, container saw %+v; want the CPU and no GPU in sight", task.DeviceUsed, result)
			}
			if !strings.Contains(task.FallbackReason, string(c.class)) {
				t.Errorf("fallback reason %q does not name %s", task.FallbackReason, c.class)
			}
		})
	}

	t.Run("one GPU of two refused", func(t *testing.T) {
		engine.SetMode(dockertest.Refuse("1"))
		srv := server(t, "--assume-gpu", "2", "--docker-host", engine.Host)
		deploySpec(t, srv, shell("where", "sleep 1; echo \"{\\\"gpus\\\":\\\"$NVIDIA_VISIBLE_DEVICES\\\"}\" > $TASK_RESULT_FILE"))
		a, err := srv.Submit(t.Context(), "where", `{}`, map[string]string{"Spillway-Device": "required"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := srv.Submit(t.Context(), "where", `{}`, map[string]string{"Spillway-Device": "required"})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []functions.TaskID{a, b} {
			task, err := srv.WaitTask(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if task.Status != string(functions.Succeeded) || task.DeviceUsed != "gpu" {
				t.Errorf("task ended as %s on %s: %+v; want success on the GPU that works", task.Status, task.DeviceUsed, task.Failure)
			}
		}
	})

	t.Run("hung hook", func(t *testing.T) {
		engine.SetMode(dockertest.Slow(45 * time.Second))
		srv := server(t, "--assume-gpu", "1", "--docker-host", engine.Host)
		deploySpec(t, srv, shell("where", "true"))
		task := run(t, srv, "where", `{}`, map[string]string{"Spillway-Device": "preferred"})
		engine.SetMode(dockertest.OK)
		if task.Status != string(functions.Succeeded) || len(task.Attempts) != 2 || task.Attempts[0].Failure.Class != functions.GPUHung {
			t.Fatalf("ended as %s, attempts %+v; want a hung GPU launch and success on the CPU", task.Status, task.Attempts)
		}
		eventually(t, time.Minute, "the late container is removed", func() bool {
			out, err := exec.Command("docker", "--host", engine.Host, "ps", "-aq", "--filter", "label=spillway.task="+string(task.ID)).Output()
			return err == nil && len(bytes.TrimSpace(out)) == 0
		})
	})
}

// loadImage copies an image from the machine's engine to another.
func loadImage(t *testing.T, host, ref string) {
	t.Helper()
	out, err := exec.Command("docker", "save", ref).Output()
	if err != nil {
		t.Fatalf("save %s: %v", ref, err)
	}
	load := exec.Command("docker", "--host", host, "load", "--quiet")
	load.Stdin = bytes.NewReader(out)
	if msg, err := load.CombinedOutput(); err != nil {
		t.Fatalf("load %s: %v: %s", ref, err, msg)
	}
}
