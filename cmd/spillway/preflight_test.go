package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/docker/dockertest"
	"github.com/spillway/spillway/runtime/gpu/preflight"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"github.com/spillway/spillway/runtime/gpu/probe/probetest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// TestDoctorOfAMachineWithoutGPU runs the real checks against the machine's own
// engine: each step says what is missing, and the container fails in the engine's
// own words.
func TestDoctorOfAMachineWithoutGPU(t *testing.T) {
	for _, program := range []string{"nvidia-smi", "nvidia-ctk", "nvidia-container-runtime-hook"} {
		if path, err := exec.LookPath(program); err == nil {
			t.Skipf("SKIPPED: this machine has NVIDIA's software (%s)", path)
		}
	}
	d := dockertest.Open(t, os.Getenv("DOCKER_HOST"))
	image, archive := runtimetest.BoxImage(t)
	dockertest.Load(t, d, image, archive)
	var out, errOut strings.Builder
	code := run([]string{"doctor", "--gpu", "--image", image, "-o", "json"}, os.Getenv, strings.NewReader(""), &out, &errOut)
	var results []struct{ Check, State, Found, Fix string }
	if err := json.Unmarshal([]byte(out.String()), &results); err != nil || code != 1 {
		t.Fatalf("code %d, %v: %s%s", code, err, out.String(), errOut.String())
	}
	states := map[string]string{}
	for _, r := range results {
		states[r.Check] = r.State
		if r.State == "failed" && r.Fix == "" {
			t.Errorf("%s names no fix: %s", r.Check, r.Found)
		}
		if r.Check == preflight.StepContainer && (!strings.Contains(r.Found, "gpu_host: could not select device driver") || !strings.Contains(r.Fix, "nvidia-container-toolkit")) {
			t.Errorf("%+v", r)
		}
	}
	for step, want := range map[string]string{
		preflight.StepReading: "failed", preflight.StepToolkit: "failed", preflight.StepEngine: "ok", preflight.StepHandsOut: "failed", preflight.StepContainer: "failed",
	} {
		if states[step] != want {
			t.Errorf("%s: %s, want %s", step, states[step], want)
		}
	}
	if !strings.Contains(errOut.String(), "hint: begin with") {
		t.Errorf("said %q", errOut.String())
	}
}

// TestDoctorReadsGPUs: one reading of the real probe, over a driver that a test can
// break.
func TestDoctorReadsGPUs(t *testing.T) {
	driver := probetest.Install(t, probetest.GPU{UUID: "GPU-1", Model: "NVIDIA L4", Total: 24 * functions.GiB})
	program := probetest.Program(t)
	t.Setenv("PATH", filepath.Dir(program))
	for _, kv := range driver.Env() {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	r, err := readGPUs(t.Context())
	if err != nil || r.Status != probe.OK || r.Source != "nvml" || len(r.Devices) != 1 || r.Devices[0].UUID != "GPU-1" {
		t.Errorf("%+v, %v", r, err)
	}
	driver.Set(func(s *probetest.State) { s.GPUs[0].Lost = true })
	if r, err := readGPUs(t.Context()); err != nil || len(r.Devices) == 1 && !r.Devices[0].Lost {
		t.Errorf("a lost GPU: %+v, %v", r, err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := readGPUs(t.Context()); !errors.Is(err, probe.ErrNotRunning) {
		t.Errorf("without a program: %v", err)
	}
}

// A driver that wakes slowly is waited for; one that never answers is told of.
func TestDoctorWaitsForASlowDriver(t *testing.T) {
	program := filepath.Join(t.TempDir(), "gpuprobe")
	says := `{"reading":{"at":"2026-01-02T03:04:05Z","source":"nvml","status":"ok","devices":[{"uuid":"GPU-1"}]}}`
	script := "#!/bin/sh\nsleep 0.5\necho '" + says + "'\nexec sleep 60\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := probe.Config{Program: program, Stale: 100 * time.Millisecond}
	if r, err := firstReading(t.Context(), cfg); err != nil || r.Status != probe.OK || len(r.Devices) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	cfg.Program = "/bin/false"
	if r, err := firstReading(short, cfg); err != nil || r.Status != probe.Silent || r.Message == "" {
		t.Errorf("%+v, %v", r, err)
	}
}
