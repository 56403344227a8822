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
	"github.com/spillway/spillway/runtime/entry/wire"
	"github.com/spillway/spillway/runtime/gpu"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// hangs is a launch that never succeeds.
func hangs(ctx context.Context, _ runtime.Spec) error {
	<-ctx.Done()
	return ctx.Err()
}

// stuckRemove removes no container before its time, as an engine whose hook hangs.
type stuckRemove struct {
	slowPull
	until time.Time
}

func (s *stuckRemove) Remove(ctx context.Context, id runtime.ID) error {
	if wait := time.Until(s.until); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.Fake.Remove(ctx, id)
}

// canaried is a configuration whose GPUs are tried with a canary first. Each launch
// of one is counted.
func (w *world) canaried(devices ...probe.Device) (Config, *meter, *launches) {
	cfg, m := w.metered(devices...)
	p, err := gpu.New(gpu.Config{Canary: true})
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.GPUs, cfg.Entry = p, "/srv/entry"
	for image, of := range map[string]runtimetest.Program{"tiny": runtimetest.Box, "box": runtimetest.Box} {
		w.fake.Add(image, withEntry(of))
	}
	l := &launches{}
	w.fake.OnLaunch(l.launch)
	return cfg, m, l
}

// withEntry is an image's program where the entry program is mounted.
func withEntry(of runtimetest.Program) runtimetest.Program {
	return func(ctx context.Context, p *runtimetest.Process) int {
		if slices.Equal(p.Spec.Entrypoint, []string{wire.Program, wire.RoleFacts}) && len(p.Spec.Command) == 0 {
			return 0
		}
		return of(ctx, p)
	}
}

// launches are what containers with GPUs were started, and what came of it.
type launches struct {
	mu              sync.Mutex // guards the fields below
	canaries, tasks []runtime.Spec
	fail            error
	hang            bool
}

func (l *launches) launch(ctx context.Context, s runtime.Spec) error {
	if len(s.GPUs) == 0 {
		return nil
	}
	l.mu.Lock()
	if s.Labels[runtime.LabelCanary] != "" {
		l.canaries = append(l.canaries, s)
	} else {
		l.tasks = append(l.tasks, s)
	}
	fail, hang := l.fail, l.hang
	l.mu.Unlock()
	if hang {
		return hangs(ctx, s)
	}
	return fail
}

// end says what becomes of launches from now on.
func (l *launches) end(fail error, hang bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail, l.hang = fail, hang
}

// ran are the canaries so far, and how many tasks there were.
func (l *launches) ran() (canaries []runtime.Spec, tasks int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.canaries), len(l.tasks)
}

func TestACanaryGoesFirst(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, _, l := w.canaried(gib("GPU-a", 0, 24), gib("GPU-b", 1, 24))
		w.fake.AddImage("small", runtime.Image{Size: functions.KiB, Env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=99"}}, runtimetest.Box)
		w.fake.AddImage("large", runtime.Image{Size: functions.GiB}, withEntry(runtimetest.Box))
		w.fake.RemoveImage(t.Context(), "box")
		w.gpuAgent(cfg)
		w.until("both are offered", func() bool { return len(w.healthy()) == 2 })
		ran, _ := l.ran()
		if len(ran) != 1 {
			t.Fatalf("%d canaries ran", len(ran))
		}
		s := ran[0]
		if s.Image != "tiny" || len(s.GPUs) != 1 || s.KnownGPUs[s.GPUs[0]].Node == "" || s.Labels[runtime.LabelNode] != "n1" ||
			len(s.Mounts) != 1 || s.Mounts[0].Source != "/srv/entry" || s.Mounts[0].Target != wire.Program || !s.Mounts[0].ReadOnly || s.Network != "" {
			t.Errorf("the canary is %+v", s)
		}
		w.nothingLeft()
	})
}

// A host on which no container gets a GPU says so before a task has found out, and
// when it can again.
func TestAHostThatLaunchesNothingIsOff(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, _, l := w.canaried(gib("GPU-a", 0, 24))
		l.end(errors.New(`could not select device driver "" with capabilities: [[gpu]]`), false)
		a := w.agent(cfg)
		w.until("the host is off", func() bool {
			h := w.log.lastBeat().Node.GPUHost
			return h != nil && h.State == functions.GPUHostOff && strings.Contains(h.Reason, "could not select device driver")
		})
		if err := a.Admit(t.Context(), w.gpuOrder(a, 0)); !errors.Is(err, functions.ErrThrottled) {
			t.Errorf("a task = %v", err)
		}
		if out := w.do(a, w.order(a)); out.Failure != nil {
			t.Errorf("a CPU task: %+v", out.Failure)
		}
		until := w.log.lastBeat().Node.GPUHost.Until
		time.Sleep(time.Until(until) + 3*time.Second)
		if ran, _ := l.ran(); len(ran) != 2 {
			t.Errorf("%d canaries ran by the end of the quarantine", len(ran))
		}
		l.end(nil, false)
		w.until("it is offered", func() bool { return len(w.healthy()) == 1 })
		if _, tasks := l.ran(); tasks != 0 {
			t.Errorf("%d tasks had to try it", tasks)
		}
		if out := w.do(a, w.gpuOrder(a, 0)); out.Failure != nil {
			t.Errorf("a task: %+v", out.Failure)
		}
		w.nothingLeft()
	})
}

// After the quarantine of one device, a canary that works ends it.
func TestACanaryReadmitsADevice(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, _, l := w.canaried(gib("GPU-a", 0, 24), gib("GPU-b", 1, 24))
		a := w.gpuAgent(cfg)
		l.end(errors.New("nvidia-container-cli: device error: GPU-a: unknown device: unknown"), false)
		for range 2 {
			as := w.gpuOrder(a, 0)
			as.GPUs = []string{"GPU-a"}
			wantClass(t, w.do(a, as), functions.GPUDevice, functions.PhaseLaunch)
			time.Sleep(time.Second)
		}
		w.until("it is off", func() bool { return slices.Equal(w.healthy(), []string{"GPU-b"}) })
		l.end(nil, false)
		began := time.Now()
		w.until("it is back", func() bool { return len(w.healthy()) == 2 })
		if took := time.Since(began); took < 25*time.Second || took > 35*time.Second {
			t.Errorf("it was off for %s", took)
		}
		ran, _ := l.ran()
		if last := ran[len(ran)-1]; len(ran) != 2 || !slices.Equal(last.GPUs, []string{"GPU-a"}) || last.Image != "box" {
			t.Errorf("of %d canaries the last is %+v, want one in the image that has run, on GPU-a", len(ran), last)
		}
	})
}

// A canary that hangs is given up, and its device held until its container is gone.
func TestACanaryThatHangs(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, _, l := w.canaried(gib("GPU-a", 0, 24))
		cfg.Driver = &stuckRemove{slowPull: slowPull{Fake: w.fake}, until: time.Now().Add(2 * time.Minute)}
		l.end(nil, true)
		began := time.Now()
		w.agent(cfg)
		w.until("the host is off", func() bool {
			h := w.log.lastBeat().Node.GPUHost
			return h != nil && strings.Contains(h.Reason, string(functions.GPUHung))
		})
		if took := time.Since(began); took > 32*time.Second {
			t.Errorf("it took %s", took)
		}
		if g := cfg.GPUs.Snapshot()[0]; len(g.Leases) != 1 {
			t.Errorf("the device while it hangs: %+v", g)
		}
		l.end(nil, false)
		w.until("it is tried again, and works", func() bool { return len(w.healthy()) == 1 })
		if took := time.Since(began); took < 2*time.Minute-2*time.Second {
			t.Errorf("after %s, with the container still there", took)
		}
		w.nothingLeft()
	})
}

// What is wrong with the engine or the image is not the GPUs' fault.
func TestACanaryBlamesGPUsAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, _, l := w.canaried(gib("GPU-a", 0, 24))
		l.end(errors.New("no space left on device"), false)
		w.agent(cfg)
		time.Sleep(20 * time.Second)
		ran, _ := l.ran()
		if h := w.log.lastBeat().Node.GPUHost; len(ran) < 2 || len(ran) > 8 || strings.Contains(h.Reason, "no space left") {
			t.Errorf("%d canaries, host %+v", len(ran), h)
		}
		l.end(nil, false)
		w.until("it is offered", func() bool { return len(w.healthy()) == 1 })
	})
}

// An image in which the entry program does not run, or that the toolkit refuses, is
// passed over for another.
func TestACanaryLooksForAnImageThatServes(t *testing.T) {
	for name, refuse := range map[string]bool{"entry does not run": false, "the toolkit refuses": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				cfg, _, l := w.canaried(gib("GPU-a", 0, 24))
				w.fake.AddImage("tiny", runtime.Image{Size: functions.KiB}, func(context.Context, *runtimetest.Process) int { return 127 })
				w.fake.OnLaunch(func(ctx context.Context, s runtime.Spec) error {
					if err := l.launch(ctx, s); err != nil || !refuse || s.Image != "tiny" {
						return err
					}
					return errors.New("nvidia-container-cli: requirement error: unsatisfied condition: brand = grid")
				})
				w.gpuAgent(cfg)
				if ran, _ := l.ran(); len(ran) != 2 || ran[0].Image != "tiny" || ran[1].Image != "box" {
					t.Errorf("canaries %+v", ran)
				}
			})
		})
	}
}

// A node without any image waits for no canary: its first task brings one. That a
// GPU is sick is still known.
func TestWithoutAnImageTasksGoFirst(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		sick := gib("GPU-b", 1, 24)
		sick.Remap = true
		cfg, _, l := w.canaried(gib("GPU-a", 0, 24), sick)
		for _, image := range []string{"box", "tiny"} {
			if err := w.fake.RemoveImage(t.Context(), image); err != nil {
				t.Fatal(err)
			}
		}
		a := w.raw(cfg)
		began := time.Now()
		w.until("it is offered", func() bool { return len(w.healthy()) > 0 })
		if got := w.healthy(); !slices.Equal(got, []string{"GPU-a"}) {
			t.Errorf("offered are %v", got)
		}
		if ran, _ := l.ran(); time.Since(began) > 5*time.Second || len(ran) != 0 {
			t.Errorf("after %s and %d canaries", time.Since(began), len(ran))
		}
		w.fake.Add("box", runtimetest.Box)
		if out := w.do(a, w.gpuOrder(a, 0)); out.Failure != nil {
			t.Errorf("the first task: %+v", out.Failure)
		}
	})
}

// An agent that was killed leaves its canary; the next one removes it.
func TestACanaryThatIsLeftIsRemoved(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, _, _ := w.canaried(gib("GPU-a", 0, 24))
		left := runtime.Spec{Name: "spillway-canary-x", Image: "box", Command: []string{"/box", "wait"}, Labels: map[string]string{runtime.LabelNode: "n1", runtime.LabelCanary: "GPU-a"}}
		id, err := w.fake.Create(t.Context(), left)
		if err == nil {
			err = w.fake.Start(t.Context(), id, runtime.Streams{})
		}
		if err != nil {
			t.Fatal(err)
		}
		w.gpuAgent(cfg)
		w.nothingLeft()
	})
}

// An agent that stops while a canary hangs takes it along.
func TestTheAgentStopsWithItsCanary(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg, _, l := w.canaried(gib("GPU-a", 0, 24))
		l.end(nil, true)
		a := w.agent(cfg)
		w.until("the canary is on its way", func() bool { ran, _ := l.ran(); return len(ran) == 1 })
		began := time.Now()
		a.quit()
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the agent took %s to stop", took)
		}
		if h := cfg.GPUs.Host(); strings.Contains(h.Reason, "context canceled") {
			t.Errorf("the stop was taken for a fault: %+v", h)
		}
	})
}
