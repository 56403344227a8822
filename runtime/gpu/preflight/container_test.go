package preflight

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker/dockertest"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func prints(code int, text string) runtimetest.Program {
	return func(_ context.Context, p *runtimetest.Process) int {
		fmt.Fprintln(p.Stdout, text)
		return code
	}
}

// TestContainerVerdicts: what the engine says, and what is seen from inside, in
// the words of the classes and with their hints.
func TestContainerVerdicts(t *testing.T) {
	refuse := func(words string) func(*machine) {
		return func(m *machine) {
			m.OnLaunch(func(context.Context, runtime.Spec) error { return errors.New(words) })
		}
	}
	inside := func(code int, text string) func(*machine) {
		return func(m *machine) { m.Add("debian:bookworm-slim", prints(code, text)) }
	}
	for _, c := range []struct {
		name   string
		change func(*machine)
		class  error
		says   string
		fix    string
	}{
		{"no toolkit", refuse(`could not select device driver "" with capabilities: [[gpu]]`), nil, "gpu_host: could not select device driver", "restart Docker"},
		{"no module", refuse("error running hook #0: nvidia-container-cli: initialization error: nvml error: driver not loaded"), nil, "gpu_host: ", "modprobe nvidia"},
		{"no such device", refuse("nvidia-container-cli: device error: " + gpuA + ": unknown device"), nil, "gpu_device: ", "nvidia-smi -L"},
		{"an older driver", refuse("nvidia-container-cli: requirement error: unsatisfied condition: cuda>=14"), nil, "gpu_image: ", "older CUDA"},
		{"a hook without words", refuse("error running prestart hook #0: exit status 1"), nil, "gpu_unknown: ", "journalctl"},
		{"a program that is not there", refuse("unable to start container process: exec: \"nvidia-smi\": executable file not found in $PATH"), Warning, "the GPU was attached", "--image"},
		{"an image without a C library", inside(127, "[FATAL tini (7)] exec nvidia-smi failed: No such file or directory"), Warning, "the GPU was attached", "--image"},
		{"nothing was attached", inside(9, "Failed to initialize NVML: Unknown Error"), nil, "gpu_missing: nvidia-smi in the container ended with code 9: Failed to initialize NVML", "cgroupfs"},
		{"another device", inside(0, "GPU 0: NVIDIA L4 (UUID: "+gpuB+")"), nil, "another device than " + gpuA, "NVIDIA_VISIBLE_DEVICES"},
		{"an image that is not there", func(m *machine) { m.image = "no/such:1" }, nil, "no/such:1", "can pull"},
		{"no image at all", func(m *machine) { m.Fake = runtimetest.NewFake() }, Skipped, "no image to run", ""},
	} {
		m := newMachine()
		c.change(m)
		_, errs := m.run(t)
		err := errs[StepContainer]
		if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, Skipped) != (c.class == Skipped) || errors.Is(err, Warning) != (c.class == Warning) {
			t.Errorf("%s: %v, want %q of class %v", c.name, err, c.says, c.class)
			continue
		}
		if e, ok := errors.AsType[*functions.Error](err); c.fix != "" && (!ok || !strings.Contains(e.Hint, c.fix)) {
			t.Errorf("%s: the fix is %+v, want %q in it", c.name, err, c.fix)
		}
	}
}

// TestImageThatRuns is the one that was named, or the likeliest to have a C library.
func TestImageThatRuns(t *testing.T) {
	m := newMachine()
	for _, name := range []string{"aaa:1", "spillway/echo:latest", "nvidia/cuda:13.0-base"} {
		m.Add(name, prints(0, "(UUID: "+gpuA+")"))
	}
	for named, want := range map[string]string{"": "nvidia/cuda:13.0-base", "aaa:1": "aaa:1"} {
		m.image = named
		if found, errs := m.run(t); found[StepContainer] != "a container of "+want+" sees "+gpuA {
			t.Errorf("--image %q: %q, %v", named, found[StepContainer], errs[StepContainer])
		}
	}
}

// TestWithoutAReadingTheEngineIsAskedAllTheSame: its refusal is what is to be learnt.
func TestWithoutAReadingTheEngineIsAskedAllTheSame(t *testing.T) {
	m := newMachine()
	m.readErr = probe.ErrNotRunning
	var asked []string
	m.OnLaunch(func(_ context.Context, s runtime.Spec) error { asked = s.GPUs; return nil })
	found, errs := m.run(t)
	if len(asked) != 1 || asked[0] != "0" || !strings.Contains(found[StepContainer], "sees GPU 0: NVIDIA L4") {
		t.Errorf("asked for %q: %q, %v", asked, found[StepContainer], errs[StepContainer])
	}
}

// TestHungLaunch ends, says so, and leaves nothing.
func TestHungLaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.OnLaunch(func(ctx context.Context, _ runtime.Spec) error { <-ctx.Done(); return ctx.Err() })
		began := time.Now()
		_, errs := m.run(t)
		if err := errs[StepContainer]; err == nil || !strings.HasPrefix(err.Error(), "gpu_hung: ") || time.Since(began) > containerLimit {
			t.Errorf("%v after %s", errs[StepContainer], time.Since(began))
		}
	})
}

// TestRealEngine: an engine with a stand-in for the toolkit, which succeeds and
// fails in its own words.
func TestRealEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: a whole engine is started")
	}
	e := dockertest.Start(t, dockertest.Config{})
	d := dockertest.Open(t, e.Host)
	image, archive := runtimetest.BoxImage(t)
	dockertest.Load(t, d, image, archive)
	m := Machine{Files: newMachine().files, Engine: d, Image: image, Read: func(context.Context) (probe.Reading, error) { return newMachine().reading, nil }}
	c := &checks{Machine: m, up: true, reading: newMachine().reading}
	for mode, want := range map[dockertest.Mode]string{
		dockertest.OK: "the GPU was attached", dockertest.InitErr: "gpu_host: ", dockertest.LoadLib: "gpu_host: ", dockertest.Refuse(gpuA): "gpu_device: ",
		dockertest.CUDA: "gpu_image: ", dockertest.Silent: "gpu_unknown: ",
	} {
		e.SetMode(mode)
		_, err := c.container(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), want) || errors.Is(err, Warning) != (mode == dockertest.OK) {
			t.Errorf("%s: %v, want %q", mode, err, want)
		}
	}
	left, err := d.List(t.Context(), map[string]string{label: "doctor"})
	if err != nil || len(left) != 0 {
		t.Errorf("containers are left: %+v, %v", left, err)
	}
	if s, err := d.GPUSupport(t.Context()); err != nil || s.Version == "" || len(s.Runtimes) == 0 || s.CgroupDriver == "" {
		t.Errorf("the engine says %+v, %v", s, err)
	}
}
