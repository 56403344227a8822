package cdi

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// fakeGPUs describes two devices that every machine has.
const fakeGPUs = `
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null, type: c, major: 1, minor: 3}]
- name: GPU-1
  containerEdits:
    deviceNodes: [{path: /dev/nvidia1, hostPath: /dev/zero, type: c, major: 1, minor: 5}]
- name: gone
  containerEdits:
    deviceNodes: [{path: /dev/nvidia9, hostPath: /dev/no-such-device}]
containerEdits:
  env: ["NVIDIA_VISIBLE_DEVICES=void"]
  mounts: [{hostPath: /etc/hostname, containerPath: /usr/lib/libcuda.so.1, options: [ro, nosuid, nodev, bind]}]
`

func folder(t *testing.T, files map[string]string) []string {
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return []string{dir}
}

func TestInject(t *testing.T) {
	dirs := folder(t, map[string]string{"nvidia.yaml": fakeGPUs, "broken.yaml": "cdiVersion: [", "note.txt": "no specification"})
	spec := &specs.Spec{Process: &specs.Process{Env: []string{"A=1"}}}
	if err := Inject(spec, dirs, []string{"0", "GPU-1"}); err != nil {
		t.Fatal(err)
	}
	var devices []string
	for _, d := range spec.Linux.Devices {
		devices = append(devices, d.Path)
	}
	if !slices.Equal(devices, []string{"/dev/nvidia0", "/dev/nvidia1"}) {
		t.Errorf("devices %q", devices)
	}
	if !slices.Equal(spec.Process.Env, []string{"A=1", "NVIDIA_VISIBLE_DEVICES=void"}) {
		t.Errorf("environment %q", spec.Process.Env)
	}
	if len(spec.Mounts) != 1 || spec.Mounts[0].Destination != "/usr/lib/libcuda.so.1" {
		t.Errorf("mounts %+v", spec.Mounts)
	}
}

func TestInjectNothing(t *testing.T) {
	spec := &specs.Spec{}
	if err := Inject(spec, []string{"/no/such/folder"}, nil); err != nil || spec.Process != nil || spec.Linux != nil {
		t.Errorf("%+v, %v", spec, err)
	}
}

// Which class a failure is decides whether a task goes to the CPU.
func TestRefusalsAreClassified(t *testing.T) {
	full := map[string]string{"nvidia.yaml": fakeGPUs}
	for _, c := range []struct {
		name  string
		files map[string]string
		id    string
		want  string
	}{
		{"a device that no specification has", full, "7", "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7"},
		{"no specification at all", nil, "0", "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=0"},
		{"a device node that is gone", full, "gone", ""},
	} {
		err := Inject(&specs.Spec{}, folder(t, c.files), []string{c.id})
		if err == nil || c.want != "" && err.Error() != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
			continue
		}
		if class := runtime.ClassifyLaunch(err.Error(), false, true); class != functions.GPUDevice {
			t.Errorf("%s: class %s of %q", c.name, class, err)
		}
	}
}
