package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/containerd/containerdtest"
)

// fakeGPUs describes a device that every machine has, one that is gone, one
// whose hook fails and one whose hook takes too long.
const fakeGPUs = `
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null, type: c, major: 1, minor: 3}]
    env: ["FAKE_GPU_INDEX=0"]
- name: gone
  containerEdits:
    deviceNodes: [{path: /dev/nvidia9, hostPath: /dev/no-such-device}]
- name: hookfail
  containerEdits:
    hooks: [{hookName: createRuntime, path: /bin/sh, args: [sh, -c, "echo 'cannot read libcuda.so' >&2; exit 1"]}]
- name: slow
  containerEdits:
    hooks: [{hookName: createRuntime, path: /bin/sh, args: [sh, -c, "sleep 3"]}]
containerEdits:
  env: ["NVIDIA_VISIBLE_DEVICES=void"]
  mounts: [{hostPath: %q, containerPath: /usr/lib/libcuda.so.1, options: [ro, nosuid, nodev, bind]}]
`

// withGPUs gives a place fake devices.
func (p *place) withGPUs(t *testing.T) {
	dir := t.TempDir()
	library := filepath.Join(dir, "libcuda")
	for path, text := range map[string]string{library: "a driver's library", filepath.Join(dir, "nvidia.yaml"): fmt.Sprintf(fakeGPUs, library)} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.cfg.CDIDirs = []string{dir}
}

// run takes a container from its beginning to its end.
func run(t *testing.T, d *Driver, spec runtime.Spec) (runtime.Exit, string) {
	t.Helper()
	id, err := d.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Remove(context.WithoutCancel(t.Context()), id)
	var out bytes.Buffer
	if err := d.Start(t.Context(), id, runtime.Streams{Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	exit, err := d.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return exit, out.String()
}

// launch creates and starts, and returns what either says.
func launch(ctx context.Context, d *Driver, spec runtime.Spec) error {
	id, err := d.Create(ctx, spec)
	if err != nil {
		return err
	}
	defer d.Remove(context.WithoutCancel(ctx), id)
	return d.Start(ctx, id, runtime.Streams{})
}

func TestGPU(t *testing.T) {
	p := on(t, containerdtest.Start(t, containerdtest.Machine(t)).Address)
	p.withGPUs(t)
	d := p.open(t)
	gpu := func(id string, args ...string) runtime.Spec {
		return runtime.Spec{Image: p.image, Command: args, GPUs: []string{id}, Labels: map[string]string{"spillway.test": "gpu"}}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"env", "FAKE_GPU_INDEX"}, "0\n"},
		{[]string{"env", "NVIDIA_VISIBLE_DEVICES"}, "void\n"}, // for a runtime that would add devices once more
		{[]string{"env", "CUDA_DEVICE_ORDER"}, "PCI_BUS_ID\n"},
		{[]string{"cat", "/dev/nvidia0"}, ""},
		{[]string{"cat", "/usr/lib/libcuda.so.1"}, "a driver's library"},
	} {
		if exit, out := run(t, d, gpu("0", c.args...)); exit.Code != 0 || out != c.want {
			t.Errorf("%v: %+v %q, want %q", c.args, exit, out, c.want)
		}
	}
	if exit, _ := run(t, d, runtime.Spec{Image: p.image, Command: []string{"cat", "/dev/nvidia0"}}); exit.Code == 0 {
		t.Error("a CPU container sees a GPU's device")
	}
	// The image asks for every GPU, and here the function does as well.
	greedy := runtime.Spec{Image: p.image, Command: []string{"env", "NVIDIA_VISIBLE_DEVICES"}, Env: []string{"NVIDIA_VISIBLE_DEVICES=all"}}
	if exit, out := run(t, d, greedy); exit.Code != 0 || out != "void\n" {
		t.Errorf("a CPU container of a greedy image: %+v, NVIDIA_VISIBLE_DEVICES=%q", exit, out)
	}
	// By its UUID, where the specification has only the index.
	named := gpu("GPU-a", "env", "FAKE_GPU_INDEX")
	named.KnownGPUs = map[string]runtime.KnownGPU{"GPU-a": {Names: []string{"0"}, Node: "/dev/nvidia0"}}
	if exit, out := run(t, d, named); exit.Code != 0 || out != "0\n" {
		t.Errorf("by UUID: %+v %q", exit, out)
	}
	named.KnownGPUs["GPU-a"] = runtime.KnownGPU{Names: []string{"0"}, Node: "/dev/nvidia1"}
	if err := launch(t.Context(), d, named); err == nil || runtime.ClassifyLaunch(err.Error(), false, true) != functions.GPUDevice {
		t.Errorf("a device that has moved: %v", err)
	}
	for id, want := range map[string]functions.Class{
		"7": functions.GPUDevice, "gone": functions.GPUDevice, "hookfail": functions.GPUUnknown,
	} {
		err := launch(t.Context(), d, gpu(id, "echo"))
		var refused *runtime.LaunchError
		if !errors.As(err, &refused) {
			t.Errorf("device %s: %v, want a LaunchError", id, err)
			continue
		}
		if class := runtime.ClassifyLaunch(refused.Message, refused.Hung, true); class != want {
			t.Errorf("device %s: class %s of %q, want %s", id, class, refused.Message, want)
		}
		if id == "hookfail" && !bytes.Contains([]byte(refused.Message), []byte("cannot read libcuda.so")) {
			t.Errorf("the hook's words are not in %q", refused.Message)
		}
	}

	// One that hangs is given up at its deadline, and never starts.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := launch(ctx, d, gpu("slow", "wait"))
	var refused *runtime.LaunchError
	if !errors.As(err, &refused) || runtime.ClassifyLaunch(refused.Message, refused.Hung, true) != functions.GPUHung {
		t.Errorf("a hook that hangs: %#v, want a LaunchError that is hung", err)
	}
	if left, err := d.List(t.Context(), map[string]string{"spillway.test": "gpu"}); err != nil || len(left) != 0 {
		t.Errorf("left behind: %+v, %v", left, err)
	}
	if left, err := os.ReadDir(p.cfg.StateDir); err != nil || len(left) != 0 {
		t.Errorf("left in the state folder: %v, %v", left, err)
	}
}
