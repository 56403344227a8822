package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

func TestWithin(t *testing.T) {
	for groups, want := range map[string]bool{
		"0::/system.slice/docker-c1.scope": true, "11:memory:/docker/c1": true, "0::/spillway/c1": true, "0::/spillway/c1/inner": true,
		"0::/spillway/c12": false, "0::/spillway/xc1": false, "0::/c1.slice": false, "": false, "0::/": false,
	} {
		r := probe.Reading{Devices: []probe.Device{{Processes: []probe.Process{{PID: 7}}}}}
		if got := within(groupsIn(r, func(int) string { return groups + "\n" })[7], "c1"); got != want {
			t.Errorf("%q: %t, want %t", groups, got, want)
		}
	}
}

// runsOn makes readings show the program of every container as process 7 of one
// device, using so much memory.
func (w *world) runsOn(a *agent, m *meter, uuid string, memory functions.Bytes) {
	a.look.mu.Lock()
	defer a.look.mu.Unlock()
	a.look.group = func(pid int) string {
		if pid != 7 {
			return "0::/user.slice\n"
		}
		list, err := w.fake.List(w.t.Context(), nil)
		if err != nil || len(list) == 0 {
			return ""
		}
		return "0::/spillway/" + string(list[len(list)-1].ID) + "\n"
	}
	m.set(func(r *probe.Reading) {
		for i := range r.Devices {
			r.Devices[i].Processes = []probe.Process{{PID: 8, Memory: functions.MiB}} // somebody else's
			if r.Devices[i].UUID == uuid {
				r.Devices[i].Processes = append(r.Devices[i].Processes, probe.Process{PID: 7, Memory: memory})
			}
		}
	})
}

func TestAProgramOnAnotherDeviceIsStopped(t *testing.T) {
	mig := probe.Device{UUID: "MIG-c", Parent: "GPU-b", Minor: 1, Total: 12 * functions.GiB, Free: 12 * functions.GiB}
	whole := gib("GPU-b", 1, 24)
	whole.MIG = true
	for name, c := range map[string]struct {
		devices []probe.Device
		given   string
		seen    string // where its process is
		class   functions.Class
		note    bool
	}{
		"on its own":                {[]probe.Device{gib("GPU-a", 0, 24), gib("GPU-b", 1, 24)}, "GPU-b", "GPU-b", "", false},
		"on another":                {[]probe.Device{gib("GPU-a", 0, 24), gib("GPU-b", 1, 24)}, "GPU-a", "GPU-b", functions.GPUMissing, false},
		"on none":                   {[]probe.Device{gib("GPU-a", 0, 24), gib("GPU-b", 1, 24)}, "GPU-a", "", "", true},
		"on the GPU of an instance": {[]probe.Device{gib("GPU-a", 0, 1), whole, mig}, "MIG-c", "GPU-b", "", false},
		"an instance's on another":  {[]probe.Device{gib("GPU-a", 0, 1), whole, mig}, "MIG-c", "GPU-a", functions.GPUMissing, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				cfg, m := w.metered(c.devices...)
				a := w.raw(cfg)
				w.runsOn(a, m, c.seen, functions.MiB)
				w.until("GPUs are offered", func() bool {
					return len(w.healthy()) == len(c.devices)-btoi(slices.ContainsFunc(c.devices, func(d probe.Device) bool { return d.MIG }))
				})
				w.until("it may be given tasks", func() bool { return w.log.lastBeat().Node.Ready })
				as := w.gpuOrder(a, functions.GiB/2, "sleep", "30s")
				as.GPUs = []string{c.given}
				out := w.do(a, as)
				wantClass(t, out, c.class, functions.PhaseRun)
				if c.class != "" && (!strings.Contains(out.Failure.Message, c.seen) || !strings.Contains(out.Failure.Hint, "CDI")) {
					t.Errorf("failure %+v", out.Failure)
				}
				if got := strings.Contains(out.LogTail, "no process of the task was seen on its GPU"); got != c.note {
					t.Errorf("noted %t, want %t: %q", got, c.note, out.LogTail)
				}
				if !slices.Equal(out.GPUs, []string{c.given}) {
					t.Errorf("it had %v", out.GPUs)
				}
			})
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// In another PID namespace than the driver's, process IDs mean nothing.
func TestNothingIsSaidOfForeignPIDs(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, m := w.metered(gib("GPU-a", 0, 24), gib("GPU-b", 1, 24))
		a := w.gpuAgent(cfg)
		w.runsOn(a, m, "GPU-b", functions.MiB)
		a.look.mu.Lock()
		a.look.group = nil
		a.look.mu.Unlock()
		as := w.gpuOrder(a, functions.GiB, "sleep", "30s")
		as.GPUs = []string{"GPU-a"}
		out := w.do(a, as)
		wantClass(t, out, "", "")
		if out.LogTail != "" {
			t.Errorf("log %q", out.LogTail)
		}
	})
}

// What a task has used is the next one's as soon as it has ended, however it ended.
func TestMemoryIsGivenBackAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		kill  bool
		class functions.Class
	}{
		"success":        {args: []string{"sleep", "5s"}},
		"failure":        {args: []string{"exit", "3"}, class: functions.ExitError},
		"killed":         {args: []string{"wait"}, kill: true, class: functions.CanceledByUser},
		"runs too long":  {args: []string{"deaf"}, class: functions.TimedOutRun},
		"out of memory":  {args: []string{"alloc", "200"}, class: functions.OutOfMemory},
		"never launched": {args: []string{"echo", "{in}"}, class: functions.Permanent},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				cfg, m := w.metered(gib("GPU-a", 0, 24))
				a := w.gpuAgent(cfg)
				as := w.gpuOrder(a, 20*functions.GiB, c.args...)
				as.Function.Timeout, as.Function.Grace = functions.Duration(20*time.Second), functions.Duration(time.Second)
				time.Sleep(10 * time.Millisecond)
				m.set(func(r *probe.Reading) { r.Devices[0] = gib("GPU-a", 0, 24) })
				before := m.times() // none is asked for before the end: the last is fresh
				a.admit(as)
				if c.class != functions.Permanent {
					w.until("it runs, or has", func() bool { return w.inPhase(functions.PhaseRun) || w.log.fins() == 1 })
				}
				if c.kill {
					if err := a.Kill(t.Context(), functions.Kill{Task: as.Task.ID, Attempt: 1}); err != nil {
						t.Fatal(err)
					}
				}
				out := w.fin(as)
				if (out.Failure == nil) != (c.class == "") || out.Failure != nil && out.Failure.Class != c.class {
					t.Fatalf("outcome %+v", out.Failure)
				}
				time.Sleep(10 * time.Millisecond) // less than until the next reading in turn
				if m.times() == before {
					t.Error("no reading was asked for at its end")
				}
				if err := a.Admit(t.Context(), w.gpuOrder(a, 20*functions.GiB)); err != nil {
					t.Errorf("the next task: %v", err)
				}
			})
		})
	}
}

// A launch that hangs may yet come to life: its device is nobody's until its
// container is gone.
func TestAHungLaunchHoldsItsDevices(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, m := w.metered(gib("GPU-a", 0, 24))
		stuck := &stuckRemove{slowPull: slowPull{Fake: w.fake}, until: time.Now().Add(2 * time.Minute)}
		cfg.Driver = stuck
		a := w.gpuAgent(cfg)
		w.fake.OnLaunch(hangs)
		as := w.gpuOrder(a, 0)
		wantClass(t, w.do(a, as), functions.GPUHung, functions.PhaseLaunch)
		before := m.times()
		if g := cfg.GPUs.Snapshot()[0]; len(g.Leases) != 1 {
			t.Errorf("after the end: %+v", g)
		}
		w.until("the container is gone", func() bool { return len(w.fake.Specs()) == 0 })
		w.until("the device is free", func() bool { return len(cfg.GPUs.Snapshot()[0].Leases) == 0 })
		w.until("it was read", func() bool { return m.times() > before })
		if now := time.Now(); now.Before(stuck.until) {
			t.Errorf("free at %s, before the container can be removed", now)
		}
	})
}

func TestContainersThatWaitLeaveTheirMemory(t *testing.T) {
	groups := map[int][]string{7: {"0::", "spillway", "c1"}, 8: {"0::", "user.slice"}, 9: {"0::", "spillway", "c2"}}
	used := func(processes ...probe.Process) probe.Reading {
		d := gib("GPU-a", 0, 10)
		d.Processes = processes
		return probe.Reading{Source: "nvml", Status: probe.OK, Devices: []probe.Device{d}}
	}
	smi := used()
	smi.Source = "nvidia-smi"
	for name, c := range map[string]struct {
		reading  probe.Reading
		hostPIDs bool
		free     functions.Bytes // GiB
		left     int             // processes
		unknown  bool
	}{
		"what it holds is free":         {used(probe.Process{PID: 7, Memory: 6 * functions.GiB}, probe.Process{PID: 8, Memory: 5 * functions.GiB}), true, 16, 1, false},
		"it holds nothing":              {used(probe.Process{PID: 8, Memory: 5 * functions.GiB}), true, 10, 1, false},
		"another container is not idle": {used(probe.Process{PID: 9, Memory: 5 * functions.GiB}), true, 10, 1, false},
		"nobody knows how much":         {used(probe.Process{PID: 7, Memory: -1}), true, 10, 0, true},
		"nobody knows whose":            {used(probe.Process{PID: 7, Memory: 6 * functions.GiB}), false, 10, 1, true},
		"no processes are listed":       {smi, true, 10, 0, true},
		"never more than there is":      {used(probe.Process{PID: 7, Memory: 60 * functions.GiB}), true, 24, 0, false},
	} {
		before := slices.Clone(c.reading.Devices)
		found := groups
		if !c.hostPIDs {
			found = nil
		}
		got, unknown := without(c.reading, []runtime.ID{"c1"}, found)
		d := got.Devices[0]
		if d.Free != c.free*functions.GiB || len(d.Processes) != c.left || (len(unknown) > 0) != c.unknown || d.Used < 0 {
			t.Errorf("%s: free %s, used %s, %d processes, unknown %v", name, d.Free, d.Used, len(d.Processes), unknown)
		}
		if c.reading.Devices[0].Free != before[0].Free || len(c.reading.Devices[0].Processes) != len(before[0].Processes) {
			t.Errorf("%s: the reading itself was changed", name)
		}
	}
}

func TestNamesOfDevicesInCDISpecifications(t *testing.T) {
	whole := gib("GPU-b", 1, 24)
	whole.MIG, whole.Minor = true, 4
	unnumbered := gib("GPU-d", 2, 24)
	unnumbered.Minor = -1
	r := probe.Reading{Devices: []probe.Device{
		gib("GPU-a", 0, 24), whole, unnumbered,
		{UUID: "MIG-1", Parent: "GPU-b", Minor: 4}, {UUID: "MIG-2", Parent: "GPU-b", Minor: 4}, {UUID: "MIG-x", Parent: "GPU-gone", Minor: 9},
	}}
	known := knownGPUs(r, []functions.GPUInfo{{UUID: "GPU-a"}, {UUID: "GPU-d"}, {UUID: "MIG-1"}, {UUID: "MIG-2"}, {UUID: "MIG-x"}, {UUID: "GPU-q"}, {UUID: "assumed-0", Assumed: true}})
	for id, want := range map[string]runtime.KnownGPU{
		"GPU-a": {Names: []string{"0", "gpu0"}, Node: "/dev/nvidia0"},
		"GPU-d": {Names: []string{"2", "gpu2"}},
		"MIG-1": {Names: []string{"1:0", "mig1:0"}, Node: "/dev/nvidia4"},
		"MIG-2": {Names: []string{"1:1", "mig1:1"}, Node: "/dev/nvidia4"},
		"MIG-x": {Node: "/dev/nvidia9"},
	} {
		if got, ok := known[id]; !ok || got.Node != want.Node || !slices.Equal(got.Names, want.Names) {
			t.Errorf("%s: %+v, want %+v", id, got, want)
		}
	}
	if len(known) != 5 {
		t.Errorf("known are %v", known)
	}
}

func TestTheMemoryThatAProgramIsTold(t *testing.T) {
	devices := []functions.GPUInfo{{UUID: "GPU-a", Memory: 80 * functions.GiB}, {UUID: "GPU-b", Memory: 24 * functions.GiB}}
	for name, c := range map[string]struct {
		claim functions.GPUClaim
		want  string
	}{
		"a part":       {functions.GPUClaim{Count: 2, Memory: 4 * functions.GiB}, "TASK_GPU_MEMORY_MIB=4096"},
		"all":          {functions.GPUClaim{Count: 2}, "TASK_GPU_MEMORY_MIB=24576"},
		"exclusive":    {functions.GPUClaim{Count: 2, Memory: 4 * functions.GiB, Exclusive: true}, "TASK_GPU_MEMORY_MIB=24576"},
		"every device": {functions.GPUClaim{All: true, Memory: 4 * functions.GiB}, "TASK_GPU_MEMORY_MIB=24576"},
	} {
		env := environment(functions.Assignment{Device: functions.GPU, Claim: c.claim}, functions.Spec{}, devices, time.Time{})
		if !slices.Contains(env, c.want) || !slices.Contains(env, "NVIDIA_VISIBLE_DEVICES=GPU-a,GPU-b") {
			t.Errorf("%s: %q, want %s", name, env, c.want)
		}
	}
}
