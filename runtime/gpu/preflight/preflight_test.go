package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/cdi"
	"github.com/spillway/spillway/runtime/docker"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is a GPU host in memory, on which everything works.
type machine struct {
	files    fstest.MapFS
	programs []string          // in PATH
	output   map[string]string // of program and arguments; one that is not here fails
	reading  probe.Reading
	readErr  error
	specs    []cdi.Found
	specErr  error
	support  docker.GPUSupport
	askErr   error
	image    string
	*runtimetest.Fake
}

func (m *machine) GPUSupport(context.Context) (docker.GPUSupport, error) { return m.support, m.askErr }

const (
	gpuA = "GPU-aaaaaaaa-0000-0000-0000-000000000000"
	gpuB = "GPU-bbbbbbbb-0000-0000-0000-000000000000"
)

func newMachine() *machine {
	m := &machine{
		files: fstest.MapFS{
			"proc/version":                            {Data: []byte("Linux version 6.1.0-28-amd64")},
			"proc/driver/nvidia/version":              {Data: []byte("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:17:51 UTC 2025\nGCC version:  gcc version 12.2.0\n")},
			"run/nvidia-persistenced/socket":          {},
			"sys/bus/pci/devices/0000:1b:00.0/vendor": {Data: []byte("0x10de\n")},
			"sys/bus/pci/devices/0000:1b:00.0/class":  {Data: []byte("0x030200\n")},
			"sys/bus/pci/devices/0000:00:1f.0/vendor": {Data: []byte("0x8086\n")},
		},
		programs: []string{"nvidia-ctk", "nvidia-container-runtime-hook", "nvidia-container-cli", "nvidia-smi"},
		output:   map[string]string{"nvidia-ctk --version": "NVIDIA Container Toolkit CLI version 1.18.0\ncommit: 1\n"},
		reading: probe.Reading{Status: probe.OK, Source: "nvml", Driver: "580.65.06", CUDA: "13.0", Devices: []probe.Device{
			{UUID: gpuA, Index: 0, Model: "NVIDIA L4", Total: 24 * functions.GiB}, {UUID: gpuB, Index: 1, Model: "NVIDIA L4", Total: 24 * functions.GiB},
		}},
		specs:   []cdi.Found{{Name: gpuA, File: "/etc/cdi/nvidia.yaml"}, {Name: gpuB, File: "/etc/cdi/nvidia.yaml"}},
		support: docker.GPUSupport{Version: "28.5.2", Runtimes: []string{"nvidia", "runc"}, CgroupDriver: "cgroupfs"},
		Fake:    runtimetest.NewFake(),
	}
	m.Add("debian:bookworm-slim", func(_ context.Context, p *runtimetest.Process) int {
		fmt.Fprintf(p.Stdout, "GPU 0: NVIDIA L4 (UUID: %s)\n", gpuA)
		return 0
	})
	return m
}

// run runs every step; the results are by name.
func (m *machine) run(t *testing.T) (found map[string]string, errs map[string]error) {
	t.Helper()
	found, errs = map[string]string{}, map[string]error{}
	for _, s := range Steps(Machine{
		Files: m.files, Engine: m, Image: m.image,
		Look: func(program string) (string, error) {
			if slices.Contains(m.programs, program) {
				return "/usr/bin/" + program, nil
			}
			return "", os.ErrNotExist
		},
		Output: func(_ context.Context, program string, args ...string) (string, error) {
			if out, ok := m.output[program+" "+strings.Join(args, " ")]; ok {
				return out, nil
			}
			return "", errors.New("exit status 9")
		},
		Read: func(context.Context) (probe.Reading, error) { return m.reading, m.readErr },
		CDI:  func() ([]cdi.Found, error) { return m.specs, m.specErr },
	}) {
		found[s.Name], errs[s.Name] = s.Run(t.Context())
		e, hinted := errors.AsType[*functions.Error](errs[s.Name])
		if errs[s.Name] != nil && !errors.Is(errs[s.Name], Skipped) && (!hinted || e.Hint == "") {
			t.Errorf("%s fails with %q and names no fix", s.Name, errs[s.Name])
		}
		if (errs[s.Name] == nil) == (found[s.Name] == "") {
			t.Errorf("%s: %q and %v", s.Name, found[s.Name], errs[s.Name])
		}
	}
	if left := m.Specs(); len(left) != 0 {
		t.Errorf("containers are left: %+v", left)
	}
	return found, errs
}

func TestEverythingWorks(t *testing.T) {
	found, errs := newMachine().run(t)
	for name, want := range map[string]string{
		StepDriver:      "the kernel module 580.65.06 is loaded",
		StepReading:     "driver 580.65.06, CUDA up to 13.0, by nvml: 0 NVIDIA L4 24GiB, 1 NVIDIA L4 24GiB",
		StepPersistence: "nvidia-persistenced runs",
		StepToolkit:     "NVIDIA Container Toolkit CLI version 1.18.0",
		StepEngine:      "in memory",
		StepHandsOut:    "Docker 28.5.2 has the runtime nvidia",
		StepReload:      "Docker's cgroup driver is cgroupfs",
		StepCDI:         "/etc/cdi/nvidia.yaml names each GPU by its UUID",
		StepContainer:   "a container of debian:bookworm-slim sees " + gpuA,
	} {
		if errs[name] != nil || found[name] != want {
			t.Errorf("%s: %q, %v; want %q", name, found[name], errs[name], want)
		}
	}
}

// TestEachStepSaysWhatIsWrong breaks one thing at a time.
func TestEachStepSaysWhatIsWrong(t *testing.T) {
	noDriver := func(m *machine) { delete(m.files, "proc/driver/nvidia/version") }
	status := func(s probe.Status, message string) func(*machine) {
		return func(m *machine) { m.reading = probe.Reading{Status: s, Message: message} }
	}
	wsl := func(m *machine) {
		m.files = fstest.MapFS{"proc/version": {Data: []byte("Linux version 6.6.87.2-microsoft-standard-WSL2")}, "dev/dxg": {}, "usr/lib/wsl/lib/libcuda.so.1": {}}
	}
	for _, c := range []struct {
		name   string
		change func(*machine)
		step   string
		class  error // nil = a failure; else Skipped or Warning
		says   string
		fix    string
	}{
		{"no card", func(m *machine) { noDriver(m); delete(m.files, "sys/bus/pci/devices/0000:1b:00.0/vendor") }, StepDriver, nil, "no NVIDIA GPU is on the PCI bus", "lspci -d 10de:"},
		{"a sound device of a card", func(m *machine) {
			noDriver(m)
			m.files["sys/bus/pci/devices/0000:1b:00.0/class"].Data = []byte("0x040300\n")
		}, StepDriver, nil, "no NVIDIA GPU", "lspci"},
		{"nouveau", func(m *machine) { noDriver(m); m.files["sys/module/nouveau/version"] = &fstest.MapFile{} }, StepDriver, nil, "nouveau has taken the GPU", "reboot"},
		{"no module", noDriver, StepDriver, nil, "kernel module is not loaded", "modprobe nvidia"},
		{"WSL without a GPU", func(m *machine) { wsl(m); delete(m.files, "dev/dxg") }, StepDriver, nil, "/dev/dxg", "wsl --update"},
		{"WSL without a driver", func(m *machine) { wsl(m); delete(m.files, "usr/lib/wsl/lib/libcuda.so.1") }, StepDriver, nil, "libcuda.so.1 is missing", "in Windows"},
		{"WSL has no daemon", wsl, StepPersistence, Skipped, "Windows", ""},

		{"no program", func(m *machine) { m.readErr = probe.ErrNotRunning }, StepReading, nil, "neither gpuprobe nor nvidia-smi", "make gpuprobe"},
		{"the probe hangs", func(m *machine) { m.readErr = context.DeadlineExceeded }, StepReading, nil, "no answer", "dmesg"},
		{"no library", status(probe.NoDriver, "libnvidia-ml.so.1: not found"), StepReading, nil, "no_driver: libnvidia-ml.so.1", "install NVIDIA's driver"},
		{"module away", status(probe.NotLoaded, ""), StepReading, nil, "not_loaded", "modprobe nvidia"},
		{"upgraded", status(probe.Mismatch, "Driver/library version mismatch"), StepReading, nil, "mismatch", "reboot"},
		{"broken", status(probe.Broken, "Unknown Error"), StepReading, nil, "Unknown Error", "Xid"},
		{"silent", status(probe.Silent, ""), StepReading, nil, "silent", "reboot"},
		{"no device", status(probe.OK, ""), StepReading, nil, "sees no GPU", "nvidia-smi"},
		{"MIG without instances", func(m *machine) { m.reading.Devices = []probe.Device{{UUID: gpuA, MIG: true}} }, StepReading, nil, "no instance", "mig -cgi"},
		{"a lost GPU", func(m *machine) { m.reading.Devices[1].Lost, m.reading.Devices[1].Error = true, "GPU is lost" }, StepReading, nil, gpuB + " cannot be used: GPU is lost", "--gpu-reset"},

		{"nothing keeps the driver awake", func(m *machine) { delete(m.files, "run/nvidia-persistenced/socket") }, StepPersistence, Warning, "does not run", "nvidia-persistenced"},
		{"persistence is off for one", func(m *machine) {
			delete(m.files, "run/nvidia-persistenced/socket")
			m.output["nvidia-smi --query-gpu=persistence_mode --format=csv,noheader"] = "Enabled\nDisabled\n"
		}, StepPersistence, Warning, "persistence mode is off", "systemctl enable"},
		{"nothing to keep awake", status(probe.NoDriver, ""), StepPersistence, Skipped, "no GPU can be read", ""},

		{"no toolkit", func(m *machine) { m.programs = nil }, StepToolkit, nil, "none of nvidia-ctk", "nvidia-container-toolkit"},
		{"half a toolkit", func(m *machine) { m.programs = []string{"nvidia-ctk"} }, StepToolkit, Warning, "nvidia-container-runtime-hook, nvidia-container-cli is missing", "-base"},
		{"no nvidia-ctk", func(m *machine) { m.programs = m.programs[1:] }, StepToolkit, nil, "nvidia-ctk is missing", "install"},
		{"a toolkit that does not run", func(m *machine) { m.output = nil }, StepToolkit, nil, "nvidia-ctk does not run: exit status 9", "--reinstall"},

		{"no Docker", func(m *machine) { m.SetDown(true) }, StepEngine, nil, "", "systemctl start docker"},
		{"containerd alone", func(m *machine) { m.SetDown(true); m.files[containerdAt] = &fstest.MapFile{} }, StepEngine, Skipped, "containerd and no Docker", ""},
		{"no Docker to ask", func(m *machine) { m.SetDown(true) }, StepHandsOut, Skipped, "Docker does not answer", ""},
		{"no Docker to run", func(m *machine) { m.SetDown(true) }, StepContainer, Skipped, "Docker does not answer", ""},
		{"Docker fails", func(m *machine) { m.askErr = errors.New("boom") }, StepHandsOut, nil, "boom", "journalctl"},
		{"Docker was not configured", func(m *machine) { m.support.Runtimes = []string{"runc"} }, StepHandsOut, Warning, "no runtime nvidia", "nvidia-ctk runtime configure"},
		{"Docker cannot", func(m *machine) { m.support.Runtimes, m.programs = nil, nil }, StepHandsOut, nil, "no runtime nvidia", "systemctl restart docker"},
		{"Docker 28 with CDI alone", func(m *machine) {
			m.support.Runtimes, m.support.CDI, m.programs = nil, []string{"nvidia.com/gpu=" + gpuA}, []string{"nvidia-ctk"}
		}, StepHandsOut, nil, "does not give GPUs by CDI", "nvidia-container-toolkit"},
		{"Docker 28 with a specification", func(m *machine) { m.support.CDI, m.support.CgroupDriver = []string{"nvidia.com/gpu=0"}, "systemd" }, StepReload, Warning, "daemon-reload", "Docker 29"},
		{"an engine without a version", func(m *machine) {
			m.support = docker.GPUSupport{Version: "dev", CDI: []string{"nvidia.com/gpu=0"}}
			m.programs = nil
		}, StepHandsOut, nil, "no runtime nvidia", ""},
		{"systemd", func(m *machine) { m.support.CgroupDriver = "systemd" }, StepReload, Warning, "daemon-reload", "native.cgroupdriver=cgroupfs"},

		{"no specification, and no Docker", func(m *machine) { m.SetDown(true); m.specs = nil }, StepCDI, nil, "neither /etc/cdi nor", "nvidia-ctk cdi generate"},
		{"no specification", func(m *machine) { m.specs = nil }, StepCDI, Skipped, "Docker does without", ""},
		{"a broken one", func(m *machine) { m.specs, m.specErr = nil, errors.New("/etc/cdi/x.yaml cannot be read: EOF") }, StepCDI, nil, "x.yaml cannot be read", "cdi generate"},
		{"one that lacks a GPU", func(m *machine) { m.specs = m.specs[:1] }, StepCDI, nil, "stale: it names no " + gpuB, "cdi generate"},
		{"one of an older driver", func(m *machine) { m.specs[1].Missing = []string{"/usr/lib/libcuda.so.570.1"} }, StepCDI, nil, "libcuda.so.570.1, which is not here", "cdi generate"},
		{"nothing to hold it against", status(probe.Broken, "x"), StepCDI, Skipped, "no GPU can be read", ""},
	} {
		m := newMachine()
		c.change(m)
		_, errs := m.run(t)
		err := errs[c.step]
		if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, Skipped) != (c.class == Skipped) || errors.Is(err, Warning) != (c.class == Warning) {
			t.Errorf("%s: %s: %v (%v), want %q of class %v", c.name, c.step, err, errs, c.says, c.class)
			continue
		}
		if e, ok := errors.AsType[*functions.Error](err); c.fix != "" && (!ok || !strings.Contains(e.Hint, c.fix)) {
			t.Errorf("%s: the fix is %+v, want %q in it", c.name, err, c.fix)
		}
	}
}

// TestOtherWaysThatWork are machines on which no step may fail.
func TestOtherWaysThatWork(t *testing.T) {
	for name, change := range map[string]func(*machine){
		"CDI alone": func(m *machine) {
			m.support.Runtimes, m.support.CDI = []string{"runc"}, []string{"nvidia.com/gpu=0", "nvidia.com/gpu=" + gpuA, "vendor.com/nic=0"}
			m.support.Version, m.support.CgroupDriver = "29.0.1", "systemd" // no trap: systemd is told of the devices
		},
		"a broken specification of something else": func(m *machine) { m.specErr = errors.New("/etc/cdi/nic.yaml cannot be read") },
		"named by number":                          func(m *machine) { m.specs[0].Name, m.specs[1].Name = "0", "1" },
		"MIG": func(m *machine) {
			m.reading.Devices = []probe.Device{{UUID: gpuA, MIG: true}, {UUID: "MIG-1", Parent: gpuA, Profile: "1g.18gb"}}
			m.specs = []cdi.Found{{Name: "MIG-1", File: "f"}}
			m.Add("debian:bookworm-slim", func(_ context.Context, p *runtimetest.Process) int {
				fmt.Fprintln(p.Stdout, "MIG 1g.18gb Device 0: (UUID: MIG-1)")
				return 0
			})
		},
		"persistence mode": func(m *machine) {
			delete(m.files, "run/nvidia-persistenced/socket")
			m.output["nvidia-smi --query-gpu=persistence_mode --format=csv,noheader"] = "Enabled\nEnabled\n"
		},
		"WSL": func(m *machine) {
			m.files = fstest.MapFS{"proc/version": {Data: []byte("Linux version 6.6-Microsoft")}, "dev/dxg": {}, "usr/lib/wsl/lib/libcuda.so.1": {}}
		},
		"the open kernel module": func(m *machine) {
			m.files["proc/driver/nvidia/version"].Data = []byte("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n")
		},
	} {
		m := newMachine()
		change(m)
		_, errs := m.run(t)
		for step, err := range errs {
			if err != nil && !errors.Is(err, Skipped) {
				t.Errorf("%s: %s: %v", name, step, err)
			}
		}
	}
}
