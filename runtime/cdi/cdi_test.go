package cdi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

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
	if err := Inject(spec, dirs, []Device{{ID: "0"}, {ID: "GPU-1"}}); err != nil {
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

// byIndex and byUUID are how nvidia-ctk names the same devices, one of them
// divided, by its strategies index and uuid.
const (
	byIndex = `
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits: {deviceNodes: [{path: /dev/nvidia1, hostPath: /dev/null}]}
- name: "1:0"
  containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null}, {path: /dev/nvidia-caps/nvidia-cap21, hostPath: /dev/zero}]}
- name: all
  containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null}, {path: /dev/nvidia1, hostPath: /dev/null}]}
`
	byUUID = `
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- name: GPU-a
  containerEdits: {deviceNodes: [{path: /dev/nvidia1, hostPath: /dev/null}]}
- name: MIG-b
  containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null}, {path: /dev/nvidia-caps/nvidia-cap21, hostPath: /dev/zero}]}
`
)

func TestDevicesAreFoundByUUIDAndElseByIndex(t *testing.T) {
	whole := Device{ID: "GPU-a", Names: []string{"0", "gpu0"}, Node: "/dev/nvidia1"}
	part := Device{ID: "MIG-b", Names: []string{"1:0", "mig1:0"}, Node: "/dev/nvidia0"}
	typed := strings.NewReplacer(`"0"`, "gpu0", `"1:0"`, "mig1:0").Replace(byIndex)
	fileless := "cdiVersion: \"0.5.0\"\nkind: nvidia.com/gpu\ndevices: [{name: GPU-a, containerEdits: {env: [A=1]}}]\n"
	moved := strings.ReplaceAll(byIndex, `"0"`, "GPU-a")
	for name, c := range map[string]struct {
		files   map[string]string
		devices []Device
		want    []string // device files
		words   string   // of the refusal
	}{
		"by index":              {map[string]string{"n.yaml": byIndex}, []Device{whole}, []string{"/dev/nvidia1"}, ""},
		"a MIG instance":        {map[string]string{"n.yaml": byIndex}, []Device{part}, []string{"/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap21"}, ""},
		"by type and index":     {map[string]string{"n.yaml": typed}, []Device{whole, part}, []string{"/dev/nvidia1", "/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap21"}, ""},
		"by UUID":               {map[string]string{"n.yaml": byUUID}, []Device{whole}, []string{"/dev/nvidia1"}, ""},
		"a MIG instance's UUID": {map[string]string{"n.yaml": byUUID}, []Device{part}, []string{"/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap21"}, ""},
		"the UUID goes first":   {map[string]string{"a.yaml": strings.ReplaceAll(byIndex, "/dev/nvidia1", "/dev/nvidia5"), "b.yaml": byUUID}, []Device{whole}, []string{"/dev/nvidia1"}, ""},
		"nothing more is known": {map[string]string{"n.yaml": byUUID}, []Device{{ID: "GPU-a"}}, []string{"/dev/nvidia1"}, ""},
		"no name of it":         {map[string]string{"n.yaml": byUUID}, []Device{{ID: "GPU-c", Names: []string{"2", "gpu2"}}}, nil, "unresolvable CDI devices nvidia.com/gpu=GPU-c"},
		"another has its index": {map[string]string{"n.yaml": byIndex}, []Device{{ID: "GPU-c", Names: []string{"0"}, Node: "/dev/nvidia0"}}, nil, "stale CDI specification"},
		"it has moved":          {map[string]string{"n.yaml": moved}, []Device{{ID: "GPU-a", Node: "/dev/nvidia3"}}, nil, "/dev/nvidia3"},
		"it has no file":        {map[string]string{"n.yaml": fileless}, []Device{whole}, nil, "stale CDI specification"},
		"one of two has moved":  {map[string]string{"n.yaml": byUUID}, []Device{part, {ID: "GPU-a", Node: "/dev/nvidia3"}}, nil, "/dev/nvidia3"},
	} {
		spec := &specs.Spec{}
		err := Inject(spec, folder(t, c.files), c.devices)
		if c.words != "" {
			if err == nil || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s: %v, want %q", name, err, c.words)
			} else if class := runtime.ClassifyLaunch(err.Error(), false, true); class != functions.GPUDevice {
				t.Errorf("%s: class %s of %q", name, class, err)
			}
			continue
		}
		var files []string
		if err == nil {
			for _, d := range spec.Linux.Devices {
				files = append(files, d.Path)
			}
		}
		if !slices.Equal(files, c.want) {
			t.Errorf("%s: device files %q, %v, want %q", name, files, err, c.want)
		}
	}
}

// A driver in a container has its device files elsewhere on the host.
func TestTheHostsPathMayBeAnother(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mknod(filepath.Join(dir, "nvidia1"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("SKIPPED: no device file can be made here: %v", err)
	}
	text := strings.ReplaceAll(byUUID, "path: /dev/nvidia1, hostPath: /dev/null", "path: /dev/card, hostPath: "+filepath.Join(dir, "nvidia1"))
	spec := &specs.Spec{}
	if err := Inject(spec, folder(t, map[string]string{"n.yaml": text}), []Device{{ID: "GPU-a", Node: "/dev/nvidia1"}}); err != nil {
		t.Fatal(err)
	}
}

func TestDevicesOfASpec(t *testing.T) {
	got := Devices(runtime.Spec{GPUs: []string{"GPU-a", "1"}, KnownGPUs: map[string]runtime.KnownGPU{"GPU-a": {Names: []string{"0"}, Node: "/dev/nvidia0"}, "GPU-z": {}}})
	if len(got) != 2 || got[0].ID != "GPU-a" || got[0].Node != "/dev/nvidia0" || !slices.Equal(got[0].Names, []string{"0"}) || got[1].ID != "1" || got[1].Node != "" {
		t.Errorf("%+v", got)
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
		err := Inject(&specs.Spec{}, folder(t, c.files), []Device{{ID: c.id}})
		if err == nil || c.want != "" && err.Error() != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
			continue
		}
		if class := runtime.ClassifyLaunch(err.Error(), false, true); class != functions.GPUDevice {
			t.Errorf("%s: class %s of %q", c.name, class, err)
		}
	}
}
