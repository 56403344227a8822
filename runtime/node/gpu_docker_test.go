package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker/dockertest"
	"github.com/spillway/spillway/runtime/entry/entrytest"
	"github.com/spillway/spillway/runtime/gpu"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// The agent on an engine with NVIDIA's toolkit, which a stand-in plays: what the
// engine is asked for, and what containers come to see.
func TestGPUsOnDocker(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what runs on an engine")
	}
	const gpuA, gpuB = "GPU-aaaaaaaa-0000-0000-0000-000000000000", "GPU-bbbbbbbb-0000-0000-0000-000000000000"
	mask := syscall.Umask(0o022) // the engine's own; it makes folders in root file systems by it
	engine := dockertest.Start(t, dockertest.Config{})
	syscall.Umask(mask)
	d := dockertest.Open(t, engine.Host)
	image, archive := runtimetest.BoxImage(t)
	dockertest.Load(t, d, image, archive)
	modern, archive := runtimetest.BoxImageWith(t, "NVIDIA_REQUIRE_CUDA=cuda>=13.0 brand=tesla,driver>=470,driver<471")
	dockertest.Load(t, d, modern, archive)

	w := newWorld(t)
	var skipped atomic.Int64 // time that the test has left out
	clock := func() time.Time { return time.Now().Add(time.Duration(skipped.Load())) }
	m := newMeter(gib(gpuA, 0, 24), gib(gpuB, 1, 24))
	m.clock = clock
	m.reading.Devices[0].Minor, m.reading.Devices[1].Minor = -1, -1
	pool, err := gpu.New(gpu.Config{Canary: true, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	cfg := w.config()
	cfg.ID, cfg.Driver, cfg.GPUs, cfg.Readings, cfg.Entry, cfg.Now = "n1", d, pool, m, entrytest.Program(t), clock
	noneLeft(t, d, cfg.ID)
	a := w.gpuAgent(cfg) // a canary has shown that a container gets a device
	order := func(memory functions.Bytes, args ...string) functions.Assignment {
		as := w.gpuOrder(a, memory)
		as.Function.Image, as.Function.Command, as.Function.Stdout = image, args, functions.StdoutResult
		return as
	}
	text := func(out functions.Outcome) string {
		t.Helper()
		if out.Failure != nil {
			t.Fatalf("failed: %+v, log %q", *out.Failure, out.LogTail)
		}
		if out.ResultText == nil {
			return strings.TrimSpace(string(out.Result))
		}
		return strings.TrimSpace(*out.ResultText)
	}

	t.Run("two tasks share a device", func(t *testing.T) {
		var both []functions.Assignment
		for range 2 {
			as := order(4*functions.GiB, "wait")
			as.GPUs = []string{gpuB}
			a.admit(as)
			both = append(both, as)
		}
		w.until("both run", func() bool {
			running := w.log.lastBeat().Running
			return len(running) == 2 && running[0].Phase == functions.PhaseRun && running[1].Phase == functions.PhaseRun
		})
		if g := pool.Snapshot()[1]; len(g.Leases) != 2 || g.Leases[0].Memory != 4*functions.GiB+functions.GPUOverhead {
			t.Errorf("the device is %+v", g)
		}
		for _, as := range both {
			if err := a.Kill(t.Context(), functions.Kill{Task: as.Task.ID, Attempt: 1, Why: functions.NodeLost}); err != nil {
				t.Fatal(err)
			}
			if out := w.fin(as); !slices.Equal(out.GPUs, []string{gpuB}) {
				t.Errorf("it had %v", out.GPUs)
			}
		}
	})

	t.Run("a program sees its device and its share", func(t *testing.T) {
		for args, want := range map[[2]string]string{
			{"env", "NVIDIA_VISIBLE_DEVICES"}: gpuA, {"cat", "/opt/fake-gpu"}: gpuA, {"env", "TASK_GPU_MEMORY_MIB"}: "4096",
		} {
			as := order(4*functions.GiB, args[:]...)
			as.GPUs = []string{gpuA}
			if got := text(w.do(a, as)); got != want {
				t.Errorf("%v: %q, want %q", args, got, want)
			}
		}
		every := order(0, "cat", "/opt/fake-gpu")
		every.Claim = functions.GPUClaim{All: true}
		w.until("both are free", func() bool { return len(pool.Snapshot()[0].Leases)+len(pool.Snapshot()[1].Leases) == 0 })
		var out functions.Outcome
		w.until("every device is to be had", func() bool { return a.Admit(t.Context(), every) == nil })
		if out = w.fin(every); text(out) != gpuA+","+gpuB {
			t.Errorf("given all: %q", text(out))
		}
	})

	t.Run("an image that asks for every GPU gets none on the CPU", func(t *testing.T) {
		for args, want := range map[[2]string]string{{"env", "NVIDIA_VISIBLE_DEVICES"}: "void", {"env", "CUDA_VISIBLE_DEVICES"}: ""} {
			as := order(0, args[:]...)
			as.Device, as.Claim = functions.CPU, functions.GPUClaim{}
			as.Function.Env = map[string]string{"NVIDIA_VISIBLE_DEVICES": "all"}
			if got := text(w.do(a, as)); got != want {
				t.Errorf("%v: %q, want %q", args, got, want)
			}
		}
		as := order(0, "cat", "/opt/fake-gpu")
		as.Device, as.Claim = functions.CPU, functions.GPUClaim{}
		if out := w.do(a, as); out.Failure == nil || out.Failure.Class != functions.ExitError {
			t.Errorf("it found what the toolkit leaves: %+v", out)
		}
	})

	t.Run("a container that waits leaves its memory to others", func(t *testing.T) {
		server, archive := runtimetest.ProgramImage(t, "github.com/spillway/spillway/runtime/serve/testdata/server")
		dockertest.Load(t, d, server, archive)
		serving := func() []runtime.Info {
			all, err := d.List(context.WithoutCancel(t.Context()), map[string]string{runtime.LabelServe: "model@1"})
			if err != nil {
				t.Error(err)
			}
			return all
		}
		call := func() functions.Outcome {
			as := w.web(a, "model", server, `{}`)
			as.Device, as.Claim, as.GPUs = functions.GPU, functions.GPUClaim{Count: 1, Memory: 20 * functions.GiB}, []string{gpuA}
			w.until("a device is to be had", func() bool { return a.Admit(t.Context(), as) == nil })
			return w.fin(as)
		}
		w.until("both are free", func() bool { return len(pool.Snapshot()[0].Leases)+len(pool.Snapshot()[1].Leases) == 0 })
		first := call()
		wantClass(t, first, "", "")
		// Its model stays in the device's memory.
		a.look.mu.Lock()
		a.look.group = func(int) string { return "0::/docker/" + first.Container }
		a.look.mu.Unlock()
		m.mu.Lock()
		m.amend = func(r *probe.Reading) {
			for i := range r.Devices {
				if d := &r.Devices[i]; d.UUID == first.GPUs[0] && len(serving()) > 0 {
					d.Free, d.Used, d.Processes = 4*functions.GiB, 20*functions.GiB, []probe.Process{{PID: 7, Memory: 20 * functions.GiB}}
				}
			}
		}
		m.mu.Unlock()
		if second := call(); second.Failure != nil || !second.Warm || second.Container != first.Container || !slices.Equal(second.GPUs, first.GPUs) {
			t.Errorf("the second call: %+v", second)
		}
		if left := serving(); len(left) != 1 {
			t.Errorf("waiting are %+v", left)
		}

		as := order(0, "echo", "mine")
		as.GPUs = first.GPUs
		w.until("the device is to be had", func() bool { return pool.Snapshot()[0].Takes(as.Claim) && a.Admit(t.Context(), as) == nil })
		if out := w.fin(as); text(out) != "mine" || !slices.Equal(out.GPUs, first.GPUs) || len(serving()) != 0 {
			t.Errorf("alone on the device: %+v beside %v", out, serving())
		}
		m.mu.Lock()
		m.amend = nil
		m.mu.Unlock()
	})

	t.Run("an image that needs a newer driver is not launched", func(t *testing.T) {
		as := order(functions.GiB, "echo")
		as.Function.Image = modern
		w.until("a device is to be had", func() bool { return a.Admit(t.Context(), as) == nil })
		out := w.fin(as)
		wantClass(t, out, functions.GPUImage, functions.PhaseLaunch)
		if out.Container != "" || !strings.Contains(out.Failure.Message, "cuda>=13.0") {
			t.Errorf("container %q, %+v", out.Container, out.Failure)
		}
		if _, ok := pool.Unsuited(modern); !ok {
			t.Error("it is not remembered")
		}
	})

	t.Run("a canary readmits a device after its quarantine", func(t *testing.T) {
		engine.SetMode(dockertest.Refuse(gpuB))
		for i := range 2 {
			as := order(0, "echo")
			as.Task.ID = functions.TaskID(fmt.Sprintf("00000000-0000-7000-8000-%012d", 900+i))
			as.GPUs = []string{gpuB}
			w.until("the device is to be had", func() bool { return pool.Snapshot()[1].Takes(as.Claim) && a.Admit(t.Context(), as) == nil })
			wantClass(t, w.fin(as), functions.GPUDevice, functions.PhaseLaunch)
		}
		w.until("it is off", func() bool { return slices.Equal(w.healthy(), []string{gpuA}) })
		engine.SetMode(dockertest.OK)
		skipped.Add(int64(31 * time.Second))
		w.until("it is back", func() bool { return len(w.healthy()) == 2 })
		left, err := d.List(t.Context(), map[string]string{runtime.LabelNode: string(cfg.ID), runtime.LabelCanary: gpuB})
		if err != nil || len(left) > 0 {
			t.Errorf("canaries are left: %+v, %v", left, err)
		}
	})
}
