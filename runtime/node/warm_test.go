package node

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// warmWorld is a world whose nodes keep warm containers. Its time is real: the
// way to a container is a socket.
func warmWorld(t *testing.T) (*world, Config) {
	w := newWorld(t)
	w.fake.Add("box", runtimetest.Box)
	t.Cleanup(func() { // what an agent's death has left
		infos, err := w.fake.List(context.Background(), nil)
		for _, c := range infos {
			err = errors.Join(err, w.fake.Remove(context.Background(), c.ID))
		}
		if err != nil {
			t.Error(err)
		}
	})
	return w, w.warmConfig()
}

func (w *world) warmConfig() Config {
	cfg := w.config()
	cfg.Entry, cfg.WarmMemory = filepath.Join(w.dir, "entry"), functions.GiB
	cfg.Timings.Heartbeat = 50 * time.Millisecond
	return cfg
}

// warmOrder is an order whose function keeps warm containers.
func (w *world) warmOrder(a *agent, warm functions.Warm, args ...string) functions.Assignment {
	as := w.order(a)
	as.Function.Warm, as.Function.Entrypoint, as.Function.Command = warm, []string{"/box"}, args
	return as
}

// idle waits until the node has so many warm containers, and nothing under way.
func (w *world) idle(a *agent, number int) {
	w.t.Helper()
	w.until("warm containers are idle", func() bool {
		idle := 0
		for _, c := range a.warm.counts() {
			if c.Starting > 0 {
				return false
			}
			idle += c.Idle
		}
		return idle == number
	})
}

// onlyIdle checks that of all containers and files only those of idle warm
// containers remain.
func (w *world) onlyIdle(number int) {
	w.t.Helper()
	w.until("nothing is left but idle containers", func() bool {
		specs := w.fake.Specs()
		tasks, err := os.ReadDir(filepath.Join(w.dir, "node", "tasks"))
		warm, werr := os.ReadDir(filepath.Join(w.dir, "node", "warm"))
		if errors.Is(werr, os.ErrNotExist) {
			werr = nil
		}
		return err == nil && werr == nil && len(tasks) == 0 && len(warm) == number && len(specs) == number &&
			!slices.ContainsFunc(specs, func(s runtime.Spec) bool { return s.Labels[runtime.LabelWarm] == "" })
	})
}

func TestAWarmTask(t *testing.T) {
	for name, c := range map[string]struct {
		args   []string
		change func(*functions.Assignment)
		class  functions.Class
		log    string
	}{
		"says something":     {args: []string{"echo", "hello"}, log: "hello\n"},
		"reads its event":    {args: []string{"cat"}, log: `{"x":1}`},
		"reads event.json":   {args: []string{"cat", "/task/event.json"}, log: `"attempt":1`},
		"reads its input":    {args: []string{"cat", "{in}"}, log: "miaow"},
		"knows its task":     {args: []string{"env", "TASK_ID"}, log: "00000000-0000-7000-8000-"},
		"has its own values": {args: []string{"env", "MOOD"}, log: "calm"},
		"fails":              {args: []string{"fail", "3", "no way"}, class: functions.ExitError, log: "no way\n"},
		"gives up":           {args: []string{"exit", "64"}, class: functions.Permanent},
		"takes too much":     {args: []string{"alloc", "200"}, class: functions.OutOfMemory},
		"writes too much":    {args: []string{"write", "/task/out/x", "8"}, change: func(as *functions.Assignment) { as.Function.Limits.Disk = 4 * functions.MiB }, class: functions.ExitError},
		"takes too long":     {args: []string{"deaf"}, change: func(as *functions.Assignment) { as.Function.Timeout = functions.Duration(time.Second) }, class: functions.TimedOutRun},
		"has a bad command":  {args: []string{"cat", "{in.nope}"}, class: functions.Permanent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, cfg := warmWorld(t)
			a := w.agent(cfg)
			prepare := func() functions.Assignment {
				as := w.warmOrder(a, 1, c.args...)
				as.Function.Env = map[string]string{"MOOD": "calm"}
				as.Function.Grace = functions.Duration(time.Millisecond)
				as.Task.Inputs = []functions.Input{{Name: "x", ObjectRef: w.store.add("x", "miaow")}}
				if c.change != nil {
					c.change(&as)
				}
				return as
			}
			for range 2 { // one that had to wait for its container, and one that had not
				as := prepare()
				out := w.do(a, as)
				if c.class == "" && out.Failure != nil || c.class != "" && (out.Failure == nil || out.Failure.Class != c.class) {
					t.Fatalf("failure %+v, want %q", out.Failure, c.class)
				}
				if !strings.Contains(out.LogTail, c.log) {
					t.Errorf("log %q", out.LogTail)
				}
				w.idle(a, 1)
			}
			if all, waited := a.warm.pool.Served(); all != 2 || waited != 1 {
				t.Errorf("of 2 tasks %d came through the pool, and %d waited", all, waited)
			}
			w.onlyIdle(1)
			a.quit()
			w.onlyIdle(0)
		})
	}
}

func TestWhatAWarmTaskSays(t *testing.T) {
	w, cfg := warmWorld(t)
	a := w.agent(cfg)
	first := w.warmOrder(a, 2, "write", "/task/out/zeros", "1")
	if out := w.do(a, first); out.Failure != nil || out.Warm {
		t.Fatalf("outcome %+v", out)
	}
	w.idle(a, 2)
	as := w.warmOrder(a, 2, "write", "/task/out/zeros", "1")
	out := w.do(a, as)
	if out.Failure != nil || !out.Warm || out.Container == "" || !slices.Equal(outputNames(out), []string{"zeros"}) {
		t.Errorf("outcome %+v", out)
	}
	var phases []functions.Phase
	for _, p := range out.Phases {
		phases = append(phases, p.Phase)
	}
	if !slices.Equal(phases, []functions.Phase{functions.PhaseStage, functions.PhaseLaunch, functions.PhaseRun, functions.PhaseCollect}) {
		t.Errorf("phases %v", phases)
	}
	w.until("a heartbeat tells of it", func() bool {
		warm := w.log.lastBeat().Node.Warm
		return len(warm) == 1 && warm[0] == functions.WarmInfo{Function: "f", Version: 1, Wanted: 2, Idle: 2}
	})
}

func TestEachWarmContainerServesOneTask(t *testing.T) {
	const tasks = 30
	w, cfg := warmWorld(t)
	cfg.Capacity.Tasks = tasks
	var mu sync.Mutex
	seen := map[string]bool{}
	w.fake.Add("box", program(func(_ context.Context, p *runtimetest.Process) int {
		mu.Lock()
		defer mu.Unlock()
		if seen[p.Spec.Name] {
			t.Errorf("%s runs twice", p.Spec.Name)
		}
		seen[p.Spec.Name] = true
		return 0
	}))
	a := w.agent(cfg)
	var orders []functions.Assignment
	containers := map[string]bool{}
	for range tasks {
		as := w.warmOrder(a, 4)
		as.Function.Limits.Memory, as.Function.Limits.CPUs = 6*functions.MiB, 0.01
		a.admit(as)
		orders = append(orders, as)
	}
	for _, as := range orders {
		out := w.fin(as)
		wantClass(t, out, "", "")
		containers[out.Container] = true
	}
	if len(containers) != tasks {
		t.Errorf("%d containers for %d tasks", len(containers), tasks)
	}
	if all, _ := a.warm.pool.Served(); all != tasks {
		t.Errorf("%d came through the pool", all)
	}
	w.idle(a, 4)
	w.onlyIdle(4)
}

func TestTasksThatStartCold(t *testing.T) {
	for name, change := range map[string]func(*functions.Assignment, *Config){
		"function without":   func(as *functions.Assignment, _ *Config) { as.Function.Warm = 0 },
		"on a GPU":           func(as *functions.Assignment, _ *Config) { as.Device, as.GPUs = functions.GPU, []string{"assumed-0"} },
		"no room for it":     func(_ *functions.Assignment, cfg *Config) { cfg.WarmMemory = functions.MiB },
		"no entry program":   func(_ *functions.Assignment, cfg *Config) { cfg.Entry = "" },
		"of another version": func(as *functions.Assignment, _ *Config) { as.Function.Version = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, cfg := warmWorld(t)
			cfg.GPUs = w.gpus(1)
			var as functions.Assignment
			change(&as, &cfg)
			a := w.agent(cfg)
			if cfg.Entry != "" {
				w.until("the pool runs", func() bool { _, err := a.warm.pool.Get(t.Context(), warmKey{}); return !isClosed(err) })
			}
			if name == "of another version" {
				wantClass(t, w.do(a, w.warmOrder(a, 1, "echo", "x")), "", "")
			}
			as = w.warmOrder(a, 1, "echo", "x")
			as.Function.Entrypoint, as.Function.Command = nil, []string{"/box", "echo", "x"}
			change(&as, &cfg)
			out := w.do(a, as)
			wantClass(t, out, "", "")
			if out.Warm || out.LogTail != "x\n" {
				t.Errorf("outcome %+v", out)
			}
		})
	}
}

func isClosed(err error) bool { return err != nil && strings.Contains(err.Error(), "stopping") }

func TestAContainerThatDiedIsNoMatter(t *testing.T) {
	w, cfg := warmWorld(t)
	a := w.agent(cfg)
	wantClass(t, w.do(a, w.warmOrder(a, 2, "echo", "x")), "", "")
	w.idle(a, 2)
	infos, err := w.fake.List(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range infos {
		if err := w.fake.Remove(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
	}
	wantClass(t, w.do(a, w.warmOrder(a, 2, "echo", "x")), "", "") // cold, if nobody has noticed yet
	w.idle(a, 2)
	w.onlyIdle(2)
}

func TestALaunchThatFailsWarmIsMadeCold(t *testing.T) {
	w, cfg := warmWorld(t)
	w.fake.OnLaunch(func(_ context.Context, s runtime.Spec) error {
		if s.Labels[runtime.LabelWarm] != "" {
			return errors.New("no such thing")
		}
		return nil
	})
	a := w.agent(cfg)
	for range 3 {
		as := w.warmOrder(a, 2)
		as.Function.Entrypoint, as.Function.Command = nil, []string{"/box", "echo", "x"}
		out := w.do(a, as)
		wantClass(t, out, "", "")
		if out.Warm {
			t.Error("it says that it was warm")
		}
	}
	w.onlyIdle(0)
}

func TestANewVersionTakesThePlaceOfTheOld(t *testing.T) {
	for name, change := range map[string]func(fn *functions.Function){
		"by its number":                      func(fn *functions.Function) { fn.Version = 2 },
		"of servers that began from nothing": func(fn *functions.Function) { fn.CreatedAt = fn.CreatedAt.Add(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			w, cfg := warmWorld(t)
			a := w.agent(cfg)
			wantClass(t, w.do(a, w.warmOrder(a, 2, "echo", "x")), "", "")
			w.idle(a, 2)
			as := w.warmOrder(a, 1, "echo", "y")
			change(&as.Function)
			wantClass(t, w.do(a, as), "", "")
			w.until("only the new one is kept", func() bool {
				warm := a.warm.counts()
				return len(warm) == 1 && warm[0].Version == as.Function.Version && warm[0].Idle == 1
			})
			w.onlyIdle(1)
		})
	}
}

// deployed is a registry of the tests.
type deployed struct{ gone atomic.Bool }

func (d *deployed) Latest(name functions.Name) (functions.Function, error) {
	if d.gone.Load() {
		return functions.Function{}, functions.NotFound("no_function", "no function %s", name)
	}
	return functions.Function{Version: 1}, nil
}

func TestADeletedFunctionKeepsNothing(t *testing.T) {
	w, cfg := warmWorld(t)
	d := &deployed{}
	cfg.Deployed, cfg.Timings.Probe = d, 50*time.Millisecond
	a := w.agent(cfg)
	wantClass(t, w.do(a, w.warmOrder(a, 2, "echo", "x")), "", "")
	w.idle(a, 2)
	time.Sleep(3 * cfg.Timings.Probe)
	w.idle(a, 2)
	d.gone.Store(true)
	w.onlyIdle(0)
	a.quit()
	w.agent(cfg)
	time.Sleep(3 * cfg.Timings.Probe)
	w.onlyIdle(0)
}

// The next agent starts what the one before kept in a fixed number, and nothing
// of what it kept by the rate of calls.
func TestWarmContainersOfTheNextAgent(t *testing.T) {
	w, cfg := warmWorld(t)
	first := w.agent(cfg)
	wantClass(t, w.do(first, w.warmOrder(first, 3, "echo", "x")), "", "")
	auto := w.warmOrder(first, functions.WarmAuto, "echo", "x")
	auto.Function.Name = "g"
	wantClass(t, w.do(first, auto), "", "")
	w.idle(first, 4)
	first.quit()
	w.onlyIdle(0)
	second := w.agent(cfg)
	w.idle(second, 3)
	w.onlyIdle(3)
}

// An agent that dies between the note and the orders, or while the program runs,
// is followed by one that ends the attempt: one fin, one run, nothing left.
func TestTheNextAgentGoesOnWithAWarmTask(t *testing.T) {
	for _, at := range []string{"put", "after put", "append", "after append", "remove", "after remove"} {
		t.Run("dies at "+at, func(t *testing.T) {
			t.Parallel()
			w, cfg := warmWorld(t)
			var runs atomic.Int32
			w.fake.Add("work", program(func(ctx context.Context, p *runtimetest.Process) int {
				runs.Add(1)
				mustWrite(t, p, "/task/out/a", "output")
				if _, err := io.WriteString(p.Stdout, "line 1\nline 2\n"); err != nil {
					t.Error(err)
				}
				return 0
			}))
			m := &mortal{w: w, at: at, died: make(chan struct{})}
			cfg.Driver, cfg.Objects, cfg.Link = mortalDriver{w.fake, m}, mortalStore{w.store, m}, mortalLink{w.log, m}
			first := w.agent(cfg)
			as := w.warmOrder(first, 1)
			as.Function.Image = "work"
			first.admit(as)
			<-m.died
			first.quit()

			w.agent(w.warmConfig())
			out := w.fin(as)
			wantClass(t, out, "", "")
			if n := runs.Load(); n != 1 {
				t.Errorf("the program ran %d times", n)
			}
			if got := outputNames(out); !slices.Equal(got, []string{"a"}) {
				t.Errorf("outputs %v", got)
			}
			if out.LogTail != "line 1\nline 2\n" {
				t.Errorf("log %q", out.LogTail)
			}
			w.onlyIdle(1) // the next agent keeps one again
		})
	}
}

func TestAWarmTaskOutlivesItsAgent(t *testing.T) {
	w, cfg := warmWorld(t)
	first := w.agent(cfg)
	as := w.warmOrder(first, 1, "trap", "0")
	first.admit(as)
	w.until("it runs", func() bool { return w.log.heardOf(as.Task.ID) > 0 })
	first.quit()
	second := w.agent(cfg)
	w.until("it is adopted", func() bool { return w.inPhase(functions.PhaseRun) })
	if err := second.Kill(t.Context(), functions.Kill{Task: as.Task.ID, Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	out := w.fin(as)
	wantClass(t, out, functions.CanceledByUser, functions.PhaseRun)
	if out.LogTail != "ready\nterminated\n" {
		t.Errorf("log %q", out.LogTail)
	}
	w.onlyIdle(1)
}

// orphan takes an attempt to where an agent stands that dies between the note of
// its container and the orders.
func (w *world) orphan(a *agent, as functions.Assignment) runtime.ID {
	w.t.Helper()
	i, err := a.warm.pool.Get(w.t.Context(), keyOf(as.Function))
	if err != nil {
		w.t.Fatal(err)
	}
	held := newAttempt(a.cfg.DataDir, record{Assignment: as})
	held.instance = i
	if err := errors.Join(held.persist(a.blanks), a.furnish(held)); err != nil {
		w.t.Fatal(err)
	}
	if err := held.folder.note(entry{State: &state{StartedAt: time.Now(), Container: i.id, Warm: true}}); err != nil {
		w.t.Fatal(err)
	}
	held.letGo()
	return i.id
}

func TestOrdersThatNeverCame(t *testing.T) {
	w, cfg := warmWorld(t)
	first := w.agent(cfg)
	wantClass(t, w.do(first, w.warmOrder(first, 1, "echo", "x")), "", "")
	w.idle(first, 1)
	as := w.warmOrder(first, 1, "echo", "y")
	id := w.orphan(first, as)
	w.until("its entry program has ended", func() bool {
		exit, err := w.fake.Wait(t.Context(), id)
		return err == nil && exit.Code == 125
	})
	first.quit()
	w.agent(cfg)
	out := w.fin(as)
	wantClass(t, out, "", "")
	if out.LogTail != "y\n" {
		t.Errorf("log %q", out.LogTail)
	}
	w.onlyIdle(1)
}
