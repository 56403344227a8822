package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

var programs = []string{"crun", "runc"}

// result is how a container ended and what it wrote.
type result struct {
	exit           runtime.Exit
	stdout, stderr string
}

func launch(t *testing.T, d *Driver, spec runtime.Spec, stdin string) (result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	id, err := d.Create(ctx, spec)
	if err != nil {
		return result{}, err
	}
	defer func() {
		if err := d.Remove(context.WithoutCancel(ctx), id); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}()
	var stdout, stderr bytes.Buffer
	if err := d.Start(ctx, id, runtime.Streams{Stdin: []byte(stdin), Stdout: &stdout, Stderr: &stderr}); err != nil {
		return result{}, err
	}
	exit, err := d.Wait(ctx, id)
	return result{exit, stdout.String(), stderr.String()}, err
}

// says runs the box and wants it to print something.
func says(t *testing.T, d *Driver, spec runtime.Spec, stdin, want string) {
	t.Helper()
	r, err := launch(t, d, spec, stdin)
	if err != nil || r.exit.Code != 0 || r.stdout != want {
		t.Errorf("%v: %+v, %v, want %q", spec.Command, r, err, want)
	}
}

func TestInside(t *testing.T) {
	for _, program := range programs {
		t.Run(program, func(t *testing.T) {
			c, image := setUp(t, program)
			shelf := c.Images.(*shelf)
			d := open(t, c)
			says(t, d, runtime.Spec{Image: image, Command: []string{"cat", "/etc/hosts"}}, "", hosts)
			says(t, d, runtime.Spec{Image: image, Command: []string{"cat", "/dev/stdin"}}, "by its path", "by its path")
			says(t, d, runtime.Spec{Image: image, Command: []string{"cat", "/dev/null"}}, "", "")

			says(t, d, runtime.Spec{Image: image, Command: []string{"cat", "/sys/class/net/lo/flags"}}, "", "0x9\n") // up, and 127.0.0.1 with it

			shelf.img.WorkDir = "/made/for/it"
			says(t, d, runtime.Spec{Image: image, Command: []string{"cat", "/proc/self/../1/comm"}}, "", "spillway-entry\n")
		})
	}
}

// An image may have more layers than their paths have room in one page, and
// takes files away that a layer below has.
func TestManyLayers(t *testing.T) {
	c, image := setUp(t, "crun")
	store := c.Images.(*shelf)
	long := filepath.Join(t.TempDir(), strings.Repeat("l", 120))
	for i := range 120 {
		layer := filepath.Join(long, fmt.Sprint(i))
		if err := os.MkdirAll(layer, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(layer, "top"), []byte(fmt.Sprint(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := os.WriteFile(filepath.Join(layer, "gone"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		store.above = append(store.above, layer)
	}
	if err := unix.Mknod(filepath.Join(long, "7", "gone"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	d := open(t, c)
	says(t, d, runtime.Spec{Image: image, Command: []string{"cat", "/top"}}, "", "119")
	r, err := launch(t, d, runtime.Spec{Image: image, Command: []string{"cat", "/gone"}}, "")
	if err != nil || r.exit.Code != 1 || !strings.Contains(r.stderr, "no such file") {
		t.Errorf("a file that a layer takes away: %+v, %v", r, err)
	}
}

// fakeGPU describes a device that every machine has; its hook writes into the
// container's root file system, as the one does that updates the linker's cache.
const fakeGPU = `
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/zero, type: c, major: 1, minor: 5}]
    env: ["FAKE_GPU=0"]
- name: sick
  containerEdits:
    hooks: [{hookName: createRuntime, path: /bin/sh, args: [sh, -c, "echo 'nvidia-container-cli: initialization error: driver not loaded' >&2; exit 1"]}]
containerEdits:
  env: ["NVIDIA_VISIBLE_DEVICES=void"]
  mounts: [{hostPath: %s, containerPath: /usr/lib/libcuda.so.1, options: [ro, nosuid, nodev, bind]}]
`

func TestGPU(t *testing.T) {
	for _, program := range programs {
		t.Run(program, func(t *testing.T) {
			c, image := setUp(t, program)
			dir := t.TempDir()
			library := filepath.Join(dir, "libcuda.so.1")
			for file, text := range map[string]string{library: "a library", filepath.Join(dir, "nvidia.yaml"): fmt.Sprintf(fakeGPU, library)} {
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			c.CDIDirs = []string{dir}
			d := open(t, c)
			gpu := func(id string, args ...string) runtime.Spec {
				return runtime.Spec{Image: image, Command: args, GPUs: []string{id}}
			}
			says(t, d, gpu("0", "env", "FAKE_GPU"), "", "0\n")
			says(t, d, gpu("0", "env", "NVIDIA_VISIBLE_DEVICES"), "", "void\n") // the devices come by CDI alone
			says(t, d, gpu("0", "cat", "/usr/lib/libcuda.so.1"), "", "a library")
			if r, err := launch(t, d, runtime.Spec{Image: image, Command: []string{"cat", "/dev/nvidia0"}}, ""); err != nil || r.exit.Code == 0 {
				t.Errorf("a CPU container: %+v, %v, want it not to have the device", r, err)
			}
			greedy := runtime.Spec{Image: image, Command: []string{"env", "NVIDIA_VISIBLE_DEVICES"}, Env: []string{"NVIDIA_VISIBLE_DEVICES=all"}}
			says(t, d, greedy, "", "void\n") // though the image asks for every GPU, and the function does
			named := gpu("GPU-a", "env", "FAKE_GPU")
			named.KnownGPUs = map[string]runtime.KnownGPU{"GPU-a": {Names: []string{"0"}, Node: "/dev/nvidia0"}}
			says(t, d, named, "", "0\n")
			named.KnownGPUs["GPU-a"] = runtime.KnownGPU{Names: []string{"0"}, Node: "/dev/nvidia1"}
			if _, err := launch(t, d, named, ""); err == nil || runtime.ClassifyLaunch(err.Error(), false, true) != functions.GPUDevice {
				t.Errorf("a device that has moved: %v", err)
			}
			for id, want := range map[string]functions.Class{"7": functions.GPUDevice, "sick": functions.GPUHost} {
				_, err := launch(t, d, gpu(id, "exit", "0"), "")
				var refused *runtime.LaunchError
				if !errors.As(err, &refused) {
					t.Errorf("GPU %s: %v, want a LaunchError", id, err)
				} else if class := runtime.ClassifyLaunch(refused.Message, refused.Hung, true); class != want {
					t.Errorf("GPU %s: %q is %s, want %s", id, refused.Message, class, want)
				}
			}
		})
	}
}

func TestEgressIsTheHostsNetworkOrRefused(t *testing.T) {
	c, image := setUp(t, "crun")
	spec := runtime.Spec{Image: image, Command: []string{"cat", "/proc/net/dev"}, Network: functions.NetworkEgress}
	t.Run("refused", func(t *testing.T) {
		_, err := launch(t, open(t, c), spec, "")
		if launch := (*runtime.LaunchError)(nil); !errors.Is(err, functions.ErrInvalid) || !errors.As(err, &launch) {
			t.Errorf("%v, want a LaunchError that is invalid", err)
		}
	})
	t.Run("the host's", func(t *testing.T) {
		c.HostNetwork = true
		want, err := os.ReadFile("/proc/net/dev")
		if err != nil {
			t.Fatal(err)
		}
		r, err := launch(t, open(t, c), spec, "")
		if err != nil || strings.Count(r.stdout, ":") != strings.Count(string(want), ":") {
			t.Errorf("%+v, %v, want the interfaces of\n%s", r, err, want)
		}
	})
}

func TestProbe(t *testing.T) {
	c, _ := setUp(t, "crun")
	t.Run("picks one that works", func(t *testing.T) {
		c.Runtime = ""
		d := open(t, c)
		what, err := d.Probe(t.Context())
		if err != nil || !strings.HasPrefix(what, "oci: ") || !strings.Contains(what, "cgroup v") {
			t.Errorf("%q, %v", what, err)
		}
		if err := d.SelfTest(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for name, c := range map[string]struct{ runtime, hint string }{
		"there is none":   {"spillway-no-such-runtime", "install crun"},
		"it does not run": {"/bin/false", "see the cause"},
		"it starts none":  {"/bin/true", "see the cause"},
	} {
		t.Run(name, func(t *testing.T) {
			config, image := setUp(t, "crun")
			config.Runtime = c.runtime
			d := open(t, config)
			_, err := d.Probe(t.Context())
			var e *functions.Error
			if !errors.Is(err, functions.ErrUnavailable) || !errors.As(err, &e) || !strings.Contains(e.Hint, c.hint) {
				t.Fatalf("Probe: %v, want unavailable with a hint of %q", err, c.hint)
			}
			t.Log(err)
			_, err = d.Create(t.Context(), runtime.Spec{Image: image})
			var refused *runtime.LaunchError
			if !errors.As(err, &refused) || runtime.ClassifyLaunch(refused.Message, refused.Hung, true) == functions.BadEntry {
				t.Errorf("Create: %v", err)
			}
		})
	}
}

func TestIsolated(t *testing.T) {
	const good = "parent 1\nuid 65534\nGroups \nNoNewPrivs 1\nCapEff 0000000000000000\nCapBnd 0000000000000000\nSeccomp 2\ninterfaces lo\nroot readonly\n"
	if err := isolated(good); err != nil {
		t.Error(err)
	}
	for _, change := range [][2]string{
		{"uid 65534", "uid 0"}, {"parent 1", "parent 4711"}, {"lo\n", "lo,eth0\n"}, {"readonly", "writable"}, {"Seccomp 2", "Seccomp 0"},
		{"NoNewPrivs 1", "NoNewPrivs 0"}, {"CapEff 0000000000000000", "CapEff 00000000a80425fb"}, {"Groups ", "Groups 0"},
	} {
		if err := isolated(strings.Replace(good, change[0], change[1], 1)); err == nil {
			t.Errorf("%q passes for isolated", change[1])
		}
	}
}

func TestWords(t *testing.T) {
	dir := t.TempDir()
	if got := words(dir, "known"); got != "known" {
		t.Errorf("without a log: %q", got)
	}
	log := `{"level":"warning","msg":"w"}
{"level":"error","msg":"runc create failed: no such file"}
{"level":"error","msg":""}
not JSON
`
	if err := os.WriteFile(filepath.Join(dir, "runtime.log"), []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := words(dir, "known"); got != "runc create failed: no such file" {
		t.Errorf("got %q", got)
	}
}
