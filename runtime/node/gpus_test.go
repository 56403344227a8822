package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/gpu"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// meter stands for the probe: it says each second what its devices are.
type meter struct {
	mu      sync.Mutex // guards the fields below
	reading probe.Reading
	asked   int // for a reading out of turn
	mute    bool
	report  func(probe.Report)
	clock   func() time.Time     // nil = time.Now
	amend   func(*probe.Reading) // of each reading; nil = as it is
}

// gib is a device with 24 GiB, of which so many are free.
func gib(uuid string, index int, free functions.Bytes) probe.Device {
	return probe.Device{
		UUID: uuid, Index: index, Minor: index, Model: "NVIDIA L4", Total: 24 * functions.GiB, Free: free * functions.GiB, Used: (24 - free) * functions.GiB,
	}
}

func newMeter(devices ...probe.Device) *meter {
	return &meter{reading: probe.Reading{Source: "nvml", Status: probe.OK, Driver: "535.104.05", CUDA: "12.2", Devices: devices}}
}

func (m *meter) Run(ctx context.Context, each func(probe.Report)) error {
	m.mu.Lock()
	m.report = each
	m.mu.Unlock()
	for {
		if r, ok := m.now(); ok {
			each(probe.Report{Reading: &r})
		}
		if !functions.Sleep(ctx, time.Second) {
			return nil
		}
	}
}

func (m *meter) Now(context.Context) (probe.Reading, error) {
	m.mu.Lock()
	m.asked++
	m.mu.Unlock()
	time.Sleep(time.Millisecond) // as it takes
	if r, ok := m.now(); ok {
		return r, nil
	}
	return probe.Reading{}, functions.Unavailable("probe_silent", "no answer")
}

func (m *meter) now() (probe.Reading, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.reading
	r.At, r.Devices = time.Now(), slices.Clone(r.Devices)
	if m.clock != nil {
		r.At = m.clock()
	}
	if m.amend != nil {
		m.amend(&r)
	}
	return r, !m.mute
}

func (m *meter) set(change func(*probe.Reading)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reading.Devices = slices.Clone(m.reading.Devices)
	change(&m.reading)
}

func (m *meter) times() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

// xid reports an error of a device.
func (m *meter) xid(uuid string, number uint64) {
	m.mu.Lock()
	report := m.report
	m.mu.Unlock()
	report(probe.Report{Event: &probe.Event{At: time.Now(), UUID: uuid, Xid: number}})
}

// metered is a configuration whose GPUs a meter reads.
func (w *world) metered(devices ...probe.Device) (Config, *meter) {
	cfg, m := w.config(), newMeter(devices...)
	p, err := gpu.New(gpu.Config{})
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.GPUs, cfg.Readings = p, m
	return cfg, m
}

// gpuAgent starts the node and waits until its GPUs are offered.
func (w *world) gpuAgent(cfg Config) *agent {
	w.t.Helper()
	a := w.agent(cfg)
	w.until("GPUs are offered", func() bool { return len(w.healthy()) > 0 })
	return a
}

// healthy are the devices that the last heartbeat offers.
func (w *world) healthy() (ids []string) {
	for _, g := range w.log.lastBeat().Node.GPUs {
		if g.State.Healthy() {
			ids = append(ids, g.UUID)
		}
	}
	return ids
}

// gpuOrder is an order for a GPU, or a part of one.
func (w *world) gpuOrder(a *agent, memory functions.Bytes, args ...string) functions.Assignment {
	as := w.order(a, args...)
	as.Device = functions.GPU
	as.Claim = functions.GPUClaim{Count: 1, Memory: memory}
	return as
}

// A node takes no tasks before it knows which GPUs it offers: they would go to the
// CPU. It waits only so long.
func TestReadyWhenTheGPUsAreKnown(t *testing.T) {
	for name, c := range map[string]struct {
		mute    time.Duration // of the probe
		hang    bool          // of the canary
		offered bool
		after   time.Duration // the node is ready, at the earliest
	}{
		"a fast probe":         {offered: true},
		"a slow probe":         {mute: 1500 * time.Millisecond, offered: true, after: 1500 * time.Millisecond},
		"no reading":           {mute: time.Hour, after: firstLook},
		"a canary that hangs":  {hang: true, after: firstLook},
		"both take their time": {mute: 1500 * time.Millisecond, hang: true, after: firstLook},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				cfg, m, l := w.canaried(gib("GPU-a", 0, 24))
				l.end(nil, c.hang)
				began := time.Now()
				m.amend = func(r *probe.Reading) { m.mute = time.Since(began) < c.mute }
				w.agent(cfg)
				took := time.Since(began)
				if took < c.after || took > max(c.after, time.Second)+2*time.Second {
					t.Errorf("ready after %s, want %s", took, c.after)
				}
				if got := len(w.healthy()) > 0; got != c.offered {
					t.Errorf("then it offers %v", w.healthy())
				}
			})
		})
	}
}

// A clock that is set back makes no old reading a fresh one, nor keeps new ones out.
func TestReadingsOfAClockThatIsSetBack(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	at := func(t time.Time) probe.Reading { return probe.Reading{At: t, Status: probe.OK} }
	var l look
	l.keep(at(noon), noon)
	l.keep(at(noon.Add(-time.Second)), noon) // slower than the newer one
	if r, fresh := l.fresh(freshReading, noon.Add(freshReading)); !fresh || !r.At.Equal(noon) {
		t.Errorf("the newest is %s, fresh: %t", r.At, fresh)
	}
	back := noon.Add(-time.Hour)
	if r, fresh := l.fresh(freshReading, back); fresh {
		t.Errorf("a reading of %s is fresh at %s", r.At, back)
	}
	l.keep(at(back), back)
	if r, fresh := l.fresh(freshReading, back); !fresh || !r.At.Equal(back) {
		t.Errorf("after the clock was set back the newest is %s, fresh: %t", r.At, fresh)
	}
}

func TestReadingsReachTheServers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, m := w.metered(gib("GPU-a", 0, 24), gib("GPU-b", 1, 10))
		a := w.gpuAgent(cfg)
		n := w.log.lastBeat().Node
		if len(n.GPUs) != 2 || n.GPUs[1].Free == 0 || n.GPUHost == nil || n.GPUHost.Driver != "535.104.05" || n.GPUHost.Source != "nvml" {
			t.Fatalf("the heartbeat says %+v, %+v", n.GPUs, n.GPUHost)
		}
		began := time.Now()
		m.xid("GPU-a", 79)
		w.until("the device is out", func() bool { return slices.Equal(w.healthy(), []string{"GPU-b"}) })
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("the servers were told after %s", took)
		}
		if err := a.Readmit(t.Context(), "GPU-x"); !errors.Is(err, functions.ErrNotFound) {
			t.Errorf("Readmit of none = %v", err)
		}
		for _, what := range []string{"GPU-a", "all"} {
			m.xid("GPU-a", 79)
			if err := a.Readmit(t.Context(), what); err != nil {
				t.Errorf("Readmit(%s) = %v", what, err)
			}
			w.until("the device is back", func() bool { return len(w.healthy()) == 2 })
		}
		m.set(func(r *probe.Reading) { r.Devices = r.Devices[:1] })
		w.until("one device is left", func() bool { return len(w.log.lastBeat().Node.GPUs) == 1 })
		m.mu.Lock()
		m.mute = true
		m.mu.Unlock()
		w.until("nothing is offered without readings", func() bool { return len(w.healthy()) == 0 })
	})
}

func TestReadmitWithoutGPUs(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if err := w.agent(w.config()).Readmit(t.Context(), ""); !errors.Is(err, functions.ErrNotFound) {
			t.Errorf("Readmit = %v", err)
		}
	})
}

func TestAReaderNeedsAPool(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Readings = newMeter()
	if _, err := New(cfg); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("New = %v, want ErrInvalid", err)
	}
}

// What another program has taken since the last reading counts when an order comes.
func TestAnOrderIsDecidedByAFreshReading(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, m := w.metered(gib("GPU-a", 0, 24), gib("GPU-b", 1, 24))
		a := w.gpuAgent(cfg)
		time.Sleep(700 * time.Millisecond) // between two readings
		m.set(func(r *probe.Reading) { r.Devices[0] = gib("GPU-a", 0, 2) })
		as := w.gpuOrder(a, 8*functions.GiB)
		as.GPUs = []string{"GPU-a"}
		if out := w.do(a, as); out.Failure != nil || !slices.Equal(out.GPUs, []string{"GPU-b"}) {
			t.Fatalf("it ran on %v: %+v", out.GPUs, out.Failure)
		}
		time.Sleep(700 * time.Millisecond)
		m.set(func(r *probe.Reading) { r.Devices[1] = gib("GPU-b", 1, 2) })
		err := a.Admit(t.Context(), w.gpuOrder(a, 8*functions.GiB))
		if e, ok := errors.AsType[*functions.Error](err); !ok || e.Code != "no_gpu" {
			t.Errorf("Admit = %v, want no_gpu", err)
		}
	})
}

// slowPull makes the next image take a while to come, and calls back meanwhile.
type slowPull struct {
	*runtimetest.Fake
	meanwhile func()
}

func (s *slowPull) Pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error {
	if s.meanwhile != nil {
		time.Sleep(5*time.Second + 500*time.Millisecond) // between two readings
		s.meanwhile()
	}
	return s.Fake.Pull(ctx, image, progress)
}

// Memory that goes while the image comes costs the attempt its device, or its
// turn, but blames nobody.
func TestDevicesAreLookedAtBeforeTheLaunch(t *testing.T) {
	for name, c := range map[string]struct {
		claim     functions.GPUClaim
		meanwhile func(*probe.Reading)
		want      []string
		class     functions.Class
	}{
		"nothing changes":            {functions.GPUClaim{Count: 1, Memory: 8 * functions.GiB}, func(*probe.Reading) {}, []string{"GPU-a"}, ""},
		"the memory goes":            {functions.GPUClaim{Count: 1, Memory: 8 * functions.GiB}, func(r *probe.Reading) { r.Devices[0] = gib("GPU-a", 0, 5) }, []string{"GPU-b"}, ""},
		"some of it goes":            {functions.GPUClaim{Count: 1, Memory: 8 * functions.GiB}, func(r *probe.Reading) { r.Devices[0] = gib("GPU-a", 0, 10) }, []string{"GPU-a"}, ""},
		"some of an exclusive one's": {functions.GPUClaim{Count: 1}, func(r *probe.Reading) { r.Devices[0] = gib("GPU-a", 0, 20) }, []string{"GPU-b"}, ""},
		"the device goes":            {functions.GPUClaim{Count: 1}, func(r *probe.Reading) { r.Devices = r.Devices[1:] }, []string{"GPU-b"}, ""},
		"the device fails":           {functions.GPUClaim{Count: 1}, func(r *probe.Reading) { r.Devices[0].Lost = true }, []string{"GPU-b"}, ""},
		"all memory goes": {functions.GPUClaim{Count: 1, Memory: 8 * functions.GiB}, func(r *probe.Reading) {
			r.Devices = []probe.Device{gib("GPU-a", 0, 5), gib("GPU-b", 1, 5)}
		}, []string{"GPU-a"}, functions.Refused},
		"one of all": {functions.GPUClaim{All: true}, func(r *probe.Reading) { r.Devices[1] = gib("GPU-b", 1, 5) }, []string{"GPU-a", "GPU-b"}, functions.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				cfg, m := w.metered(gib("GPU-a", 0, 24), gib("GPU-b", 1, 24))
				cfg.Driver = &slowPull{Fake: w.fake, meanwhile: func() { m.set(c.meanwhile) }}
				var got []string
				w.fake.OnLaunch(func(_ context.Context, s runtime.Spec) error { got = s.GPUs; return nil })
				a := w.gpuAgent(cfg)
				as := w.gpuOrder(a, 0)
				as.Claim, as.GPUs = c.claim, []string{"GPU-a"}
				out := w.do(a, as)
				wantClass(t, out, c.class, functions.PhaseLaunch)
				if !slices.Equal(out.GPUs, c.want) {
					t.Errorf("it had %v, want %v", out.GPUs, c.want)
				}
				if c.class == "" && !slices.Equal(got, c.want) {
					t.Errorf("its container had %v, want %v", got, c.want)
				}
				if c.class != "" && got != nil {
					t.Errorf("a container was started with %v", got)
				}
				w.nothingLeft()
				for _, g := range cfg.GPUs.Snapshot() {
					if g.State == functions.GPUQuarantined || len(g.Leases) > 0 {
						t.Errorf("afterwards %+v", g)
					}
				}
			})
		})
	}
}

// An attempt that has moved is adopted with the devices that it moved to.
func TestAMoveOutlivesTheAgent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, m := w.metered(gib("GPU-a", 0, 24), gib("GPU-b", 1, 24))
		cfg.Driver = &slowPull{Fake: w.fake, meanwhile: func() {
			m.set(func(r *probe.Reading) { r.Devices[0] = gib("GPU-a", 0, 5) })
		}}
		a := w.gpuAgent(cfg)
		as := w.gpuOrder(a, 8*functions.GiB, "wait")
		as.GPUs = []string{"GPU-a"}
		a.admit(as)
		w.until("it runs", func() bool { return w.inPhase(functions.PhaseRun) })
		a.quit()
		p, err := gpu.New(gpu.Config{})
		if err != nil {
			t.Fatal(err)
		}
		cfg.GPUs = p
		next := w.agent(cfg)
		w.until("it is adopted", func() bool { return w.inPhase(functions.PhaseRun) })
		w.until("its GPU is leased", func() bool {
			gpus := w.log.lastBeat().Node.GPUs
			return len(gpus) == 2 && len(gpus[0].Leases) == 0 && len(gpus[1].Leases) == 1 && gpus[1].Leases[0].Memory == 8*functions.GiB+functions.GPUOverhead
		})
		if err := next.Kill(t.Context(), functions.Kill{Task: as.Task.ID, Attempt: 1, Why: functions.NodeLost}); err != nil {
			t.Fatal(err)
		}
		if out := w.fin(as); !slices.Equal(out.GPUs, []string{"GPU-b"}) {
			t.Errorf("it had %v", out.GPUs)
		}
	})
}

func TestAnImageThatNeedsANewerDriverIsNotLaunched(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, _ := w.metered(gib("GPU-a", 0, 24))
		launched := 0
		w.fake.OnLaunch(func(context.Context, runtime.Spec) error { launched++; return nil })
		w.fake.AddImage("new", runtime.Image{Env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=13.0"}}, runtimetest.Box)
		a := w.gpuAgent(cfg)
		as := w.gpuOrder(a, 0)
		as.Function.Image = "new"
		out := w.do(a, as)
		wantClass(t, out, functions.GPUImage, functions.PhaseLaunch)
		if !strings.Contains(out.Failure.Message, "CUDA 12.2") || out.Failure.Hint == "" || launched != 0 {
			t.Errorf("%+v after %d launches", out.Failure, launched)
		}
		w.until("the servers know", func() bool {
			h := w.log.lastBeat().Node.GPUHost
			return len(h.Unsuited) == 1 && h.Unsuited[0].Image == "new"
		})
		if g := cfg.GPUs.Snapshot()[0]; g.State != functions.GPUFree {
			t.Errorf("the device is %+v", g)
		}
		time.Sleep(time.Millisecond)
		as = w.gpuOrder(a, 0)
		as.Function.GPU = &functions.GPUNeed{MinDriver: "550"}
		wantClass(t, w.do(a, as), functions.GPUImage, functions.PhaseLaunch)
		as = w.gpuOrder(a, 0)
		as.Device, as.Function.Image = functions.CPU, "new"
		wantClass(t, w.do(a, as), "", "")
	})
}

// That a program finds the driver too old is remembered as well.
func TestAnImageThatDoesNotSuitIsRemembered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, _ := w.metered(gib("GPU-a", 0, 24))
		w.fake.Add("old", program(func(_ context.Context, p *runtimetest.Process) int {
			p.Stderr.Write([]byte("CUDA driver version is insufficient for CUDA runtime version\n"))
			return 1
		}))
		a := w.gpuAgent(cfg)
		as := w.gpuOrder(a, 0)
		as.Function.Image = "old"
		wantClass(t, w.do(a, as), functions.GPUUnsuited, functions.PhaseRun)
		if reason, ok := cfg.GPUs.Unsuited("old"); !ok || !strings.Contains(reason, "insufficient") {
			t.Errorf("remembered: %t, %q", ok, reason)
		}
	})
}
