package dockertest_test

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker"
	"github.com/spillway/spillway/runtime/docker/dockertest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	gpu0 = "GPU-00000000-0000-0000-0000-000000000000"
	gpu1 = "GPU-11111111-1111-1111-1111-111111111111"
)

// bench is an engine with the test image and a driver for it.
type bench struct {
	*docker.Driver
	image string
}

func open(t testing.TB, host string) *bench {
	t.Helper()
	d := dockertest.Open(t, host)
	image, archive := runtimetest.BoxImage(t)
	dockertest.Load(t, d, image, archive)
	return &bench{d, image}
}

// run launches one container to its end and removes it.
func (b *bench) run(t testing.TB, gpus []string, command ...string) (exit runtime.Exit, stdout string, err error) {
	t.Helper()
	id, err := b.Create(t.Context(), runtime.Spec{Image: b.image, Command: command, GPUs: gpus})
	if err != nil {
		t.Fatalf("Create: %v: every check of devices belongs to the start", err)
	}
	defer func() {
		if err := b.Remove(context.WithoutCancel(t.Context()), id); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}()
	var out bytes.Buffer
	if err := b.Start(t.Context(), id, runtime.Streams{Stdout: &out}); err != nil {
		return runtime.Exit{}, "", err
	}
	exit, err = b.Wait(t.Context(), id)
	return exit, out.String(), err
}

func class(t *testing.T, err error, gpu bool) functions.Class {
	t.Helper()
	var launch *runtime.LaunchError
	if !errors.As(err, &launch) {
		t.Fatalf("%v, want a LaunchError", err)
	}
	c := runtime.ClassifyLaunch(launch.Message, launch.Hung, gpu)
	if c.GPULaunch() && runtime.Hint(c, launch.Message) == "" {
		t.Errorf("no hint for %s: %s", c, launch.Message)
	}
	return c
}

func TestGPUConformance(t *testing.T) {
	runtimetest.TestGPU(t, func(t *testing.T) runtimetest.Subject {
		const none = "GPU-77777777-7777-7777-7777-777777777777"
		e := dockertest.Start(t, dockertest.Config{})
		b := open(t, e.Host)
		e.SetMode(dockertest.Refuse(none))
		return runtimetest.Subject{
			Driver: b, Image: b.image,
			GPU: &runtimetest.GPUSubject{
				IDs: []string{gpu0, gpu1}, BadID: none,
				Look: []string{"env", "NVIDIA_VISIBLE_DEVICES"}, Seen: runtimetest.Visible,
			},
		}
	})
}

func TestGPULaunch(t *testing.T) {
	e := dockertest.Start(t, dockertest.Config{})
	b := open(t, e.Host)

	t.Run("a container sees the devices that it was given, and no others", func(t *testing.T) {
		for _, gpus := range [][]string{{gpu0}, {gpu0, gpu1}} {
			want := strings.Join(gpus, ",")
			if exit, out, err := b.run(t, gpus, "env", "NVIDIA_VISIBLE_DEVICES"); err != nil || exit.Code != 0 || out != want+"\n" {
				t.Errorf("NVIDIA_VISIBLE_DEVICES=%q (%+v, %v), want %s", out, exit, err, want)
			}
			if exit, out, err := b.run(t, gpus, "cat", "/opt/fake-gpu"); err != nil || exit.Code != 0 || out != want {
				t.Errorf("the hook attached %q (%+v, %v), want %s", out, exit, err, want)
			}
		}
		if _, out, err := b.run(t, []string{gpu0}, "env", "NVIDIA_DRIVER_CAPABILITIES"); err != nil || !strings.Contains(out, "video") {
			t.Errorf("NVIDIA_DRIVER_CAPABILITIES=%q (%v), want video among them", out, err)
		}
	})

	t.Run("a CPU container sees void", func(t *testing.T) {
		e.SetMode(dockertest.InitErr) // which it must not notice
		defer e.SetMode(dockertest.OK)
		if exit, out, err := b.run(t, nil, "env", "NVIDIA_VISIBLE_DEVICES"); err != nil || exit.Code != 0 || out != "void\n" {
			t.Errorf("NVIDIA_VISIBLE_DEVICES=%q (%+v, %v), want void", out, exit, err)
		}
		if exit, _, err := b.run(t, nil, "cat", "/opt/fake-gpu"); err != nil || exit.Code == 0 {
			t.Errorf("the hook ran for a CPU container of an image that asks for every GPU: %+v, %v", exit, err)
		}
	})

	t.Run("each failure has its class", func(t *testing.T) {
		defer e.SetMode(dockertest.OK)
		for mode, want := range map[dockertest.Mode]functions.Class{
			dockertest.InitErr: functions.GPUHost,
			dockertest.LoadLib: functions.GPUHost,
			dockertest.NoCLI:   functions.GPUHost,
			dockertest.Perm:    functions.GPUHost,
			dockertest.Unknown: functions.GPUDevice,
			dockertest.CUDA:    functions.GPUImage,
			dockertest.Silent:  functions.GPUUnknown,
		} {
			e.SetMode(mode)
			if _, _, err := b.run(t, []string{gpu0}, "echo"); class(t, err, true) != want {
				t.Errorf("%s: %s, want %s: %v", mode, class(t, err, true), want, err)
			}
			if exit, _, err := b.run(t, nil, "echo"); err != nil || exit.Code != 0 {
				t.Errorf("%s: the CPU container: %+v, %v", mode, exit, err)
			}
		}
	})

	t.Run("one device may be refused while another works", func(t *testing.T) {
		e.SetMode(dockertest.Refuse(gpu1))
		defer e.SetMode(dockertest.OK)
		if _, _, err := b.run(t, []string{gpu1}, "echo"); class(t, err, true) != functions.GPUDevice {
			t.Errorf("the refused one: %v", err)
		}
		if exit, out, err := b.run(t, []string{gpu0}, "cat", "/opt/fake-gpu"); err != nil || exit.Code != 0 || out != gpu0 {
			t.Errorf("the other one: %+v %q %v", exit, out, err)
		}
	})

	t.Run("a program that is not there is the user's fault on a GPU too", func(t *testing.T) {
		id, err := b.Create(t.Context(), runtime.Spec{Image: b.image, Entrypoint: []string{"/no/such"}, GPUs: []string{gpu0}})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Remove(context.WithoutCancel(t.Context()), id)
		var stderr bytes.Buffer
		if err := b.Start(t.Context(), id, runtime.Streams{Stderr: &stderr}); err != nil {
			t.Fatal(err)
		}
		exit, err := b.Wait(t.Context(), id)
		if c := runtime.ClassifyRun(exit, true, stderr.String(), false); err != nil || c != functions.BadEntry {
			t.Errorf("%s, want %s: %+v %v %q", c, functions.BadEntry, exit, err, stderr.String())
		}
	})

	t.Run("a hung launch is given up at its deadline, and what starts late is removed", func(t *testing.T) {
		e.SetMode(dockertest.Slow(8 * time.Second))
		defer e.SetMode(dockertest.OK)
		hung := map[string]string{"spillway.test": "hung"}
		id, err := b.Create(t.Context(), runtime.Spec{Image: b.image, Command: []string{"wait"}, GPUs: []string{gpu0}, Labels: hung})
		if err != nil {
			t.Fatal(err)
		}
		deadline, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		began := time.Now()
		err = b.Start(deadline, id, runtime.Streams{})
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("given up after %v, want about 500ms", took)
		}
		var launch *runtime.LaunchError
		if !errors.As(err, &launch) || !launch.Hung || class(t, err, true) != functions.GPUHung {
			t.Fatalf("Start: %v, want hung", err)
		}
		if infos, err := b.List(t.Context(), hung); err != nil || len(infos) != 1 || infos[0].State != runtime.Created {
			t.Errorf("while it hangs: %+v, %v, want it created", infos, err)
		}
		if err := b.Remove(t.Context(), id); err != nil {
			t.Errorf("Remove: %v", err)
		}
		if infos, err := b.List(t.Context(), hung); err != nil || len(infos) != 0 {
			t.Errorf("afterwards: %+v, %v, want nothing", infos, err)
		}
	})
}

func TestNoToolkit(t *testing.T) {
	if path, err := exec.LookPath("nvidia-container-runtime-hook"); err == nil {
		t.Skipf("SKIPPED: this machine has the toolkit (%s)", path)
	}
	b := open(t, "")
	_, _, err := b.run(t, []string{gpu0}, "echo")
	if class(t, err, true) != functions.GPUHost {
		t.Errorf("a GPU launch without the toolkit: %v", err)
	}
	if hint := runtime.Hint(functions.GPUHost, err.Error()); !strings.Contains(hint, "nvidia-container-toolkit") {
		t.Errorf("hint %q of %v", hint, err)
	}
	if exit, out, err := b.run(t, nil, "echo", "hello"); err != nil || exit.Code != 0 || out != "hello\n" {
		t.Errorf("the CPU container: %+v %q %v", exit, out, err)
	}
}

// BenchmarkLaunch measures create to exit known on the CPU, and create to error
// known of a GPU launch that fails, removal apart.
func BenchmarkLaunch(b *testing.B) {
	e := dockertest.Start(b, dockertest.Config{})
	for name, host := range map[string]string{"own": e.Host, "machine": ""} {
		d := open(b, host)
		for _, c := range []struct {
			name string
			gpus []string
		}{{"cpu-to-exit", nil}, {"gpu-to-error", []string{gpu0}}} {
			b.Run(name+"/"+c.name, func(b *testing.B) {
				e.SetMode(dockertest.InitErr)
				for b.Loop() {
					id, err := d.Create(b.Context(), runtime.Spec{Image: d.image, Command: []string{"exit", "0"}, GPUs: c.gpus})
					if err != nil {
						b.Fatal(err)
					}
					err = d.Start(b.Context(), id, runtime.Streams{})
					if (err == nil) != (c.gpus == nil) {
						b.Fatalf("Start: %v", err)
					}
					if err == nil {
						if _, err := d.Wait(b.Context(), id); err != nil {
							b.Fatal(err)
						}
					}
					b.StopTimer()
					if err := d.Remove(b.Context(), id); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		}
	}
}
