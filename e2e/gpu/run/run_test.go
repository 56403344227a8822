package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// uuid is the one GPU's of the tests.
const uuid = "GPU-11111111-2222-3333-4444-555555555555"

// probing is the probe of the tests: it says the same of the GPU, with a fresh
// time, each second, when it is asked, or once.
func probing(t *testing.T, memory functions.Bytes) string {
	t.Helper()
	at := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	line, err := json.Marshal(probe.Report{Reading: &probe.Reading{At: at, Source: "nvml", Status: probe.OK, Driver: "580.65.06", CUDA: "13.0",
		Devices: []probe.Device{{UUID: uuid, Model: "Fake GPU", Total: memory, Free: memory}}}})
	if err != nil {
		t.Fatal(err)
	}
	format := strings.Replace(string(line), at.Format(time.RFC3339), "%s", 1)
	return fmt.Sprintf(`#!/bin/bash
while :; do
	printf '%s\n' "$(date -u +%%Y-%%m-%%dT%%H:%%M:%%S.%%NZ)"
	[ "$1" = -once ] && exit 0
	read -r -t 1 # a line on standard input asks for a reading now
	[ $? = 1 ] && exit 0 # its end is the parent's
done
`, format)
}

// described is a CDI specification that gives a container what NVIDIA's gives it:
// device files, and the driver's library, which here runs on the CPU.
const described = `
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null}]}
- name: %[1]s
  containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null}]}
containerEdits:
  env: ["NVIDIA_VISIBLE_DEVICES=void", "FAKE_CUDA_UUID=%[1]s", "FAKE_CUDA_MEMORY=%[2]d"]
  mounts: [{hostPath: %[3]s, containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.1, options: [ro, nosuid, nodev, bind]}]
`

// need skips where the machine lacks what the test cannot do without, and fails
// where that is required.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("SPILLWAY_REQUIRE_CONTAINERD") != "":
		t.Fatalf("%s, and SPILLWAY_REQUIRE_CONTAINERD is set", what)
	default:
		t.Skipf("SKIPPED: %s", what)
	}
}

// rig is a bundle, and the folder of the fake driver's library.
type rig struct {
	settings
	driver string
}

// bundled makes a bundle of this machine's own programs, around a fake driver.
func bundled(t *testing.T) rig {
	t.Helper()
	need(t, os.Geteuid() == 0, "containers need root")
	s := rig{driver: t.TempDir()}
	s.settings = settings{bundle: t.TempDir(), results: filepath.Join(t.TempDir(), "RESULTS.md"), cdi: t.TempDir(),
		runtimes: []string{"containerd", "oci"}, models: []string{"toy"}, seconds: []float64{1}, launches: 2}
	bin := filepath.Join(s.bundle, "bin")
	for _, dir := range []string{bin, filepath.Join(s.bundle, "images")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "runc"} {
		path, err := exec.LookPath(name)
		need(t, err == nil, "no "+name+" here")
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"gcc", "make", "apt-get"} {
		_, err := exec.LookPath(name)
		need(t, err == nil, "no "+name+" here")
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := harness.Build(t.Context(), root, filepath.Join(bin, "spillway")); err != nil {
		t.Fatal(err)
	}
	built, driver := t.TempDir(), filepath.Join(s.driver, "libcuda.so.1")
	for _, argv := range [][]string{
		{"make", "-s", "-C", "e2e/gpu/speech", "OUT=" + built},
		{"gcc", "-std=gnu11", "-O2", "-fPIC", "-shared", "-Wl,-soname,libcuda.so.1", "-Wall", "-Wextra", "-Werror", "-o", driver, "e2e/gpu/fakecuda/libcuda.c", "e2e/gpu/speech/kernels.c", "-lm"},
		{"go", "run", "./e2e/gpu/pack", "-program", filepath.Join(built, "speech"), "-cache", ".cache/gpu", "-out", filepath.Join(s.bundle, "images", "speech.tar")},
	} {
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			need(t, !strings.Contains(string(out), "apt-get"), "Debian's packages cannot be had")
			t.Fatalf("%v: %v: %s", argv, err, out)
		}
	}
	const memory = 8 * functions.GiB
	for path, text := range map[string]string{
		filepath.Join(s.cdi, "gpu.yaml"): fmt.Sprintf(described, uuid, memory/functions.MiB, driver),
		filepath.Join(bin, "gpuprobe"):   probing(t, memory),
	} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestWholeRun is a run on a GPU machine, but for the GPU: all of it, on real
// containers, with a driver that works on the CPU.
func TestWholeRun(t *testing.T) {
	if testing.Short() {
		t.Skip("runs containers and builds images")
	}
	s := bundled(t)
	var err error
	if s.work, err = os.MkdirTemp("", "swg"); err != nil {
		t.Fatal(err)
	}
	if err := whole(t.Context(), s.settings); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.work); !os.IsNotExist(err) {
		t.Errorf("the run's folder is still there: %v", err)
	}
	text := content(t, s.results)
	for _, want := range []string{
		uuid, "|containerd|CUDA work in a container, on the GPU of the lease|ok|", "|oci|CUDA work in a container, on the GPU of the lease|ok|",
		"CUDA_ERROR_OUT_OF_MEMORY: out of memory", "gpu_memory", "gpu_device", "cannot read libcuda.so",
		"|containerd|GPU, cold|2|", "|oci|CPU, warm|2|", "|toy|1|GPU: Fake GPU|", "|toy|1|CPU: ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", text)
	}
}

// TestBareRun is what is left on a machine where containers cannot run.
func TestBareRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds images")
	}
	s := bundled(t)
	if err := os.Remove(filepath.Join(s.bundle, "bin", "containerd")); err != nil {
		t.Fatal(err)
	}
	s.work, s.runtimes = t.TempDir(), []string{"containerd"}
	t.Setenv("LD_LIBRARY_PATH", s.driver)
	t.Setenv("FAKE_CUDA_UUID", uuid)
	if err := whole(t.Context(), s.settings); err == nil {
		t.Error("no error, although there was no containerd")
	}
	text := content(t, s.results)
	for _, want := range []string{"outside of containers|ok|Fake GPU " + uuid, "|containerd|containerd starts|FAILED|", "|toy|1|GPU: Fake GPU|", "|toy|1|CPU: "} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

// The PTX that is committed was made of the kernels as they are.
func TestPTXIsOfTheseKernels(t *testing.T) {
	var sources []byte
	for _, name := range []string{"kernels.c", "kernels.h", "device.h"} {
		sources = append(sources, content(t, filepath.Join("..", "speech", name))...)
	}
	if want := fmt.Sprintf("// sources: %x\n", sha256.Sum256(sources)); !strings.HasSuffix(content(t, "../speech/kernels.ptx"), want) {
		t.Errorf("kernels.ptx does not end in %q: make -C e2e/gpu/speech ptx", want)
	}
}

// What is spoilt and what is lost is as it was after mend.
func TestSpecificationComesBack(t *testing.T) {
	s := settings{work: t.TempDir(), cdi: t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.cdi, "gpu.yaml"), []byte(fmt.Sprintf(described, uuid, 1, "/lib")), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := describe(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"0", uuid}; !slices.Equal(d.names, want) || d.count() != 1 {
		t.Errorf("names %v, count %d; want %v and 1", d.names, d.count(), want)
	}
	if !d.knows(uuid) || d.knows("GPU-2") {
		t.Error("the UUIDs that are described are not told from others")
	}
	before := content(t, d.file())
	if err := d.spoil(); err != nil {
		t.Fatal(err)
	}
	if spoilt := content(t, d.file()); !strings.Contains(spoilt, "exit 1") || strings.Contains(spoilt, "libcuda.so.1") || strings.Count(spoilt, "/dev/nvidia0") != 2 {
		t.Errorf("spoilt: %s", spoilt)
	}
	if err := d.lose(); err != nil {
		t.Fatal(err)
	}
	if err := d.mend(); err != nil || content(t, d.file()) != before {
		t.Errorf("mended: %v", err)
	}
}

// A specification without devices is told, and so is a folder without one.
func TestNothingDescribed(t *testing.T) {
	s := settings{work: t.TempDir(), cdi: t.TempDir()}
	if _, err := describe(t.Context(), s); err == nil {
		t.Error("a folder without a specification is taken")
	}
	if err := os.WriteFile(filepath.Join(s.cdi, "gpu.yaml"), []byte("devices: 3"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := describe(t.Context(), s); err == nil {
		t.Error("a specification without devices is taken")
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
