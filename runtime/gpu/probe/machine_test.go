package probe_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"github.com/spillway/spillway/runtime/gpu/probe/probetest"
)

func TestMemoryMoves(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(2, 80*functions.GiB)...)
	m := watch(t, with(t, d))
	r := m.status(probe.OK)
	if r.Driver != "580.65.06" || r.CUDA != "13.0" || r.Source != "nvml" || len(r.Devices) != 2 {
		t.Fatalf("reading is %+v", r)
	}
	g := r.Devices[1]
	if g.UUID != probetest.GPUs(2, 0)[1].UUID || g.Index != 1 || g.Minor != 1 || g.BusID != "00000000:11:00.0" || g.Model != "NVIDIA H100 80GB HBM3" {
		t.Errorf("GPU 1 is %+v", g)
	}
	if g.Total != 80*functions.GiB || g.Used != 0 || g.Free != 80*functions.GiB-512*functions.MiB {
		t.Errorf("memory of GPU 1 is %v, %v used, %v free", g.Total, g.Used, g.Free)
	}
	d.Set(func(s *probetest.State) {
		s.GPUs[1].Used = 30 * functions.GiB
		s.GPUs[1].Processes = []probe.Process{{PID: 4711, Memory: 30 * functions.GiB}, {PID: 12, Memory: -1}}
		s.GPUs[1].ECC, s.GPUs[1].Recovery = 3, 1
	})
	r, err := m.watcher.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g = r.Devices[1]
	if g.Used != 30*functions.GiB || len(g.Processes) != 2 || g.Processes[0] != (probe.Process{PID: 12, Memory: -1}) || g.ECC != 3 || g.Recovery != 1 {
		t.Errorf("after the change GPU 1 is %+v", g)
	}
}

func TestXidArrives(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(2, 80*functions.GiB)...)
	m := watch(t, with(t, d))
	m.status(probe.OK)
	d.Xid(1, 79)
	e := m.next("an Xid", func(r probe.Report) bool { return r.Event != nil }).Event
	if e.Xid != 79 || e.UUID != probetest.GPUs(2, 0)[1].UUID || e.At.IsZero() {
		t.Errorf("event is %+v", e)
	}
}

// TestInitFails changes what nvmlInit returns before each start of the probe.
func TestInitFails(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(1, 80*functions.GiB)...)
	for code, want := range map[int]probe.Status{9: probe.NotLoaded, 12: probe.NoDriver, 18: probe.Mismatch, 999: probe.Broken} {
		d.Set(func(s *probetest.State) { s.Init = code })
		m := watch(t, with(t, d))
		r := m.reading("a failure", func(r probe.Reading) bool { return true })
		if r.Status != want || r.Message == "" || len(r.Devices) != 0 {
			t.Errorf("nvmlInit returns %d: reading is %+v", code, r)
		}
		if now, err := m.watcher.Now(t.Context()); err != nil || now.Status != want {
			t.Errorf("nvmlInit returns %d: reading on request is %+v, %v", code, now, err)
		}
	}
}

func TestModuleIsLoadedLater(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(1, 80*functions.GiB)...)
	d.Set(func(s *probetest.State) { s.Init = 9 })
	m := watch(t, with(t, d))
	m.status(probe.NotLoaded)
	d.Set(func(s *probetest.State) { s.Init = 0 })
	m.status(probe.OK)
}

func TestNoLibrary(t *testing.T) {
	d := probetest.Install(t)
	d.Uninstall()
	m := watch(t, with(t, d))
	if r := m.status(probe.NoDriver); !strings.Contains(r.Message, "no NVIDIA driver is installed") {
		t.Errorf("message is %q", r.Message)
	}
}

func TestGPUIsLost(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(2, 80*functions.GiB)...)
	m := watch(t, with(t, d))
	m.status(probe.OK)
	d.Set(func(s *probetest.State) { s.GPUs[0].Lost = true })
	r := m.reading("a lost GPU", func(r probe.Reading) bool { return r.Status == probe.OK && r.Devices[0].Lost })
	if g := r.Devices[0]; g.UUID != probetest.GPUs(1, 0)[0].UUID || g.Total != -1 || !strings.Contains(g.Error, "GPU is lost") {
		t.Errorf("the lost GPU is %+v", g)
	}
	if g := r.Devices[1]; g.Lost || g.Error != "" || g.Total != 80*functions.GiB {
		t.Errorf("the other GPU is %+v", g)
	}
}

// TestCallHangs is about a driver that does not return from a call, as when a GPU
// fell off the bus.
func TestCallHangs(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(1, 80*functions.GiB)...)
	cfg := with(t, d)
	cfg.Stale = 300 * time.Millisecond
	m := watch(t, cfg)
	m.status(probe.OK)
	d.Set(func(s *probetest.State) { s.Hang = "nvmlDeviceGetUtilizationRates" })
	m.status(probe.Silent)
	r := m.reading("a killed probe", func(r probe.Reading) bool { return strings.Contains(r.Message, "is killed") })
	if r.Status != probe.Silent || len(r.Devices) != 0 {
		t.Errorf("reading is %+v", r)
	}
	d.Set(func(s *probetest.State) { s.Hang = "" })
	m.status(probe.OK)
}

func TestOlderDriver(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(1, 80*functions.GiB)...)
	d.Set(func(s *probetest.State) { s.GPUs[0].Used = functions.GiB })
	d.Lack("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetFieldValues", "nvmlDeviceGetRemappedRows", "nvmlDeviceGetMigMode", "nvmlEventSetCreate",
		"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetTotalEccErrors", "nvmlSystemGetCudaDriverVersion",
		"nvmlDeviceGetName", "nvmlDeviceGetMinorNumber", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetEncoderCapacity", "nvmlDeviceGetDecoderUtilization", "nvmlErrorString")
	m := watch(t, with(t, d))
	g := m.reading("anything", func(probe.Reading) bool { return true }).Devices[0]
	if g.Total != 80*functions.GiB || g.Used != functions.GiB+512*functions.MiB || g.Free != g.Total-g.Used || g.Utilisation != -1 || g.ECC != -1 || g.Minor != -1 || g.Error != "" {
		t.Errorf("GPU is %+v", g)
	}
}

// TestLoaderEndsIt is about a library without a function that is called without asking.
func TestLoaderEndsIt(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(1, 80*functions.GiB)...)
	d.Lack("nvmlInit_v2")
	m := watch(t, with(t, d))
	if r := m.status(probe.Silent); !strings.Contains(r.Message, "exit status 127") || !strings.Contains(r.Message, "nvmlInit") {
		t.Errorf("message is %q", r.Message)
	}
	d.Lack()
	m.status(probe.OK)
}

func TestEagerBindingIsOff(t *testing.T) {
	t.Setenv("LD_BIND_NOW", "1")
	d := probetest.Install(t, probetest.GPUs(1, 80*functions.GiB)...)
	watch(t, with(t, d)).reading("the GPU", func(r probe.Reading) bool {
		if r.Status != probe.OK {
			t.Fatalf("reading is %+v", r)
		}
		return true
	})
}

func TestKilledProbeIsStartedAgain(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(1, 80*functions.GiB)...)
	cfg := with(t, d)
	m := watch(t, cfg)
	m.status(probe.OK)
	pids := running(t, cfg.Program)
	if len(pids) != 1 {
		t.Fatalf("%d probes run", len(pids))
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if r := m.status(probe.Silent); !strings.Contains(r.Message, "signal: killed") {
		t.Errorf("message is %q", r.Message)
	}
	m.status(probe.OK)
}

func TestLibraryWritesAmongTheLines(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(1, 80*functions.GiB)...)
	d.Set(func(s *probetest.State) { s.Say = `{"reading":{"status":"fine"}} nonsense` })
	m := watch(t, with(t, d))
	for range 5 {
		m.reading("the GPU", func(r probe.Reading) bool {
			if r.Status != probe.OK {
				t.Fatalf("reading is %+v", r)
			}
			return true
		})
	}
}

func TestMIG(t *testing.T) {
	gpus := probetest.GPUs(1, 80*functions.GiB)
	gpus[0].Instances = []probetest.Instance{
		{UUID: "MIG-a", Slices: 3, Total: 40 * functions.GiB, NVDEC: true},
		{UUID: "MIG-b", Slices: 1, Total: 10 * functions.GiB, Used: functions.GiB, Processes: []probe.Process{{PID: 7, Memory: functions.GiB}}},
	}
	d := probetest.Install(t, gpus...)
	m := watch(t, with(t, d))
	r := m.status(probe.OK)
	if len(r.Devices) != 3 || !r.Devices[0].MIG {
		t.Fatalf("devices are %+v", r.Devices)
	}
	in := r.Devices[2]
	if in.UUID != "MIG-b" || in.Parent != gpus[0].UUID || in.Profile != "1g.10gb" || in.Free != 9*functions.GiB || in.MIG || len(in.Can) != 0 || len(in.Processes) != 1 {
		t.Errorf("instance is %+v", in)
	}
	if r.Devices[1].Profile != "3g.40gb" || len(r.Devices[1].Can) != 1 {
		t.Errorf("instance is %+v", r.Devices[1])
	}
}

// TestParentsEndIsTheProbes: it ends with its standard input, in a call that hangs
// too.
func TestParentsEndIsTheProbes(t *testing.T) {
	for _, hang := range []string{"", "nvmlDeviceGetUUID"} {
		d := probetest.Install(t, probetest.GPUs(1, 80*functions.GiB)...)
		d.Set(func(s *probetest.State) { s.Hang = hang })
		cmd := exec.Command(probetest.Program(t))
		cmd.Env = append(os.Environ(), d.Env()...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("hanging in %q: %v", hang, err)
		}
	}
}

func TestOneReading(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(1, 80*functions.GiB)...)
	cmd := exec.Command(probetest.Program(t), "-once")
	cmd.Env = append(os.Environ(), d.Env()...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r probe.Report
	if err := json.Unmarshal(out, &r); err != nil || r.Reading == nil || r.Reading.Status != probe.OK || len(r.Reading.Devices) != 1 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestStopEndsTheProbe(t *testing.T) {
	d := probetest.Install(t, probetest.GPUs(1, 80*functions.GiB)...)
	cfg := with(t, d)
	w := probe.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	err := w.Run(ctx, func(probe.Report) { cancel() })
	if err != nil {
		t.Fatal(err)
	}
	if pids := running(t, cfg.Program); len(pids) != 0 {
		t.Errorf("probes run still: %v", pids)
	}
	if _, err := w.Now(t.Context()); err != probe.ErrNotRunning {
		t.Errorf("reading on request: %v", err)
	}
}

// TestNvidiaSMI runs a program in its place, as there is no driver here.
func TestNvidiaSMI(t *testing.T) {
	smi := filepath.Join(t.TempDir(), "nvidia-smi")
	text := `#!/bin/sh
case "$1" in
"") echo "| NVIDIA-SMI 535.161.08   Driver Version: 535.161.08   CUDA Version: 12.2 |" ;;
--query-gpu=index,uuid,name,driver_version,*) [ "$2" = --format=csv,noheader,nounits ] || exit 2
	echo "0, GPU-a, Tesla T4, 535.161.08, 00000000:00:04.0, 15360, 100, 15002, 0, [N/A], 0" ;;
*) exit 2 ;;
esac
`
	if err := os.WriteFile(smi, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	m := watch(t, probe.Config{SMI: smi, Every: 20 * time.Millisecond})
	r := m.status(probe.OK)
	if len(r.Devices) != 1 || r.Devices[0].Free != 15002*functions.MiB || r.CUDA != "12.2" || r.Driver != "535.161.08" {
		t.Errorf("reading is %+v", r)
	}
	if now, err := m.watcher.Now(t.Context()); err != nil || now.Status != probe.OK || now.At.Before(r.At) {
		t.Errorf("on request: %+v, %v", now, err)
	}
}
