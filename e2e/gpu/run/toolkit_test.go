package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"
)

// version is that of the fake driver, in the names of its libraries.
const version = "580.65.06"

// TestNVIDIATools runs containers on a specification that nvidia-ctk itself has
// made of the fake driver, with NVIDIA's own hooks, which make the driver's
// library known to the linker of the container.
func TestNVIDIATools(t *testing.T) {
	if testing.Short() {
		t.Skip("runs containers and builds images")
	}
	tools, err := filepath.Abs("../../../.cache/gpu/bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tools, "nvidia-cdi-hook")); err != nil {
		t.Skip("SKIPPED: NVIDIA's tools are not built: e2e/gpu/bundle.sh builds them")
	}
	s := bundled(t)
	root, file := driverRoot(t, s), filepath.Join(s.cdi, "gpu.yaml")
	had := cdiFileIn(t, file)
	generate := exec.CommandContext(t.Context(), filepath.Join(tools, "nvidia-ctk"), "cdi", "generate", "--driver-root="+root, "--dev-root="+root,
		"--device-name-strategy=index", "--device-name-strategy=uuid", "--nvidia-cdi-hook-path="+filepath.Join(tools, "nvidia-cdi-hook"), "--output="+file)
	generate.Env = append(os.Environ(), "FAKE_CUDA_UUID="+uuid, "LD_LIBRARY_PATH="+filepath.Join(root, "usr/lib/x86_64-linux-gnu"))
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("nvidia-ctk: %v: %s", err, out)
	}
	made := cdiFileIn(t, file)
	if len(made.Edits.Hooks) == 0 {
		t.Error("the specification has no hooks")
	}
	made.Edits.Env = append(made.Edits.Env, had.Edits.Env...) // what the fake driver reads
	text, err := yaml.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if s.work, err = os.MkdirTemp("", "swg"); err != nil {
		t.Fatal(err)
	}
	s.models, s.launches = nil, 1
	if err := whole(t.Context(), s.settings); err != nil {
		t.Error(err)
	}
	for _, runtime := range s.runtimes {
		if want := "|" + runtime + "|CUDA work in a container, on the GPU of the lease|ok|"; !strings.Contains(content(t, s.results), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
}

// cdiFile is a specification of CDI as far as the test changes it.
type cdiFile struct {
	Version string           `yaml:"cdiVersion"`
	Kind    string           `yaml:"kind"`
	Devices []map[string]any `yaml:"devices"`
	Edits   struct {
		Env         []string         `yaml:"env"`
		DeviceNodes []map[string]any `yaml:"deviceNodes,omitempty"`
		Hooks       []map[string]any `yaml:"hooks,omitempty"`
		Mounts      []map[string]any `yaml:"mounts"`
	} `yaml:"containerEdits"`
}

func cdiFileIn(t *testing.T, file string) (f cdiFile) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(content(t, file)), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// driverRoot installs the fake driver below a folder, as NVIDIA's lies below /:
// libraries with its version in their names, and device files.
func driverRoot(t *testing.T, r rig) string {
	t.Helper()
	root := t.TempDir()
	libraries, dev := filepath.Join(root, "usr/lib/x86_64-linux-gnu"), filepath.Join(root, "dev")
	if err := errors.Join(os.MkdirAll(libraries, 0o755), os.Mkdir(dev, 0o755)); err != nil {
		t.Fatal(err)
	}
	cuda, nvml := filepath.Join(libraries, "libcuda.so."+version), filepath.Join(libraries, "libnvidia-ml.so."+version)
	out, err := exec.Command("gcc", "-std=gnu11", "-O2", "-fPIC", "-shared", "-Wl,-soname,libnvidia-ml.so.1", "-Wall", "-Wextra", "-Werror",
		"-o", nvml, "../fakecuda/libnvidia-ml.c").CombinedOutput()
	if err != nil {
		t.Fatalf("build the fake NVML: %v: %s", err, out)
	}
	err = errors.Join(
		os.WriteFile(cuda, []byte(content(t, filepath.Join(r.driver, "libcuda.so.1"))), 0o755),
		os.Symlink(filepath.Base(cuda), filepath.Join(libraries, "libcuda.so.1")),
		os.Symlink(filepath.Base(nvml), filepath.Join(libraries, "libnvidia-ml.so.1")),
	)
	for _, name := range []string{"nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"} {
		path := filepath.Join(dev, name)
		err = errors.Join(err, syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|3), os.Chmod(path, 0o666)) // as /dev/null
	}
	if err != nil {
		t.Fatal(err)
	}
	return root
}
