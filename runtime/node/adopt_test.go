package node

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

var errDead = errors.New("this agent is dead")

// mortal stands between one agent and its world. At the named call it kills the
// agent: nothing that the agent does afterwards has an effect outside its folder.
type mortal struct {
	w     *world
	at    string // call that kills; "after " and the call: its effect happens first
	dead  atomic.Bool
	died  chan struct{}
	once  sync.Once
	calls sync.Map
}

func (m *mortal) die() {
	m.once.Do(func() { m.dead.Store(true); close(m.died) })
}

// call does the effect of a call, unless the agent is dead or dies of it.
func (m *mortal) call(ctx context.Context, name string, effect func() error) error {
	if m.dead.Load() {
		return errDead
	}
	m.calls.Store(name, true)
	if m.at == name {
		m.die()
	}
	if m.dead.Load() {
		<-ctx.Done()
		return errDead
	}
	err := effect()
	if m.at == "after "+name {
		m.die()
		<-ctx.Done()
		return errDead
	}
	return err
}

type mortalDriver struct {
	*runtimetest.Fake
	m *mortal
}

func (d mortalDriver) Probe(ctx context.Context) (what string, err error) {
	err = d.m.call(ctx, "probe", func() (err error) { what, err = d.Fake.Probe(ctx); return err })
	return what, err
}

func (d mortalDriver) Pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error {
	return d.m.call(ctx, "pull", func() error { return d.Fake.Pull(ctx, image, progress) })
}

func (d mortalDriver) Create(ctx context.Context, s runtime.Spec) (id runtime.ID, err error) {
	err = d.m.call(ctx, "create", func() (err error) { id, err = d.Fake.Create(ctx, s); return err })
	return id, err
}

func (d mortalDriver) Start(ctx context.Context, id runtime.ID, io runtime.Streams) error {
	return d.m.call(ctx, "start", func() error { return d.Fake.Start(ctx, id, io) })
}

func (d mortalDriver) Wait(ctx context.Context, id runtime.ID) (exit runtime.Exit, err error) {
	err = d.m.call(ctx, "wait", func() (err error) { exit, err = d.Fake.Wait(ctx, id); return err })
	return exit, err
}

func (d mortalDriver) Stop(ctx context.Context, id runtime.ID, grace time.Duration) error {
	return d.m.call(ctx, "stop", func() error { return d.Fake.Stop(ctx, id, grace) })
}

func (d mortalDriver) Remove(ctx context.Context, id runtime.ID) error {
	return d.m.call(ctx, "remove", func() error { return d.Fake.Remove(ctx, id) })
}

func (d mortalDriver) List(ctx context.Context, labels map[string]string) (infos []runtime.Info, err error) {
	err = d.m.call(ctx, "list", func() (err error) { infos, err = d.Fake.List(ctx, labels); return err })
	return infos, err
}

type mortalStore struct {
	*memStore
	m *mortal
}

func (s mortalStore) Stage(ctx context.Context, ref functions.ObjectRef, f *os.File) (sum string, err error) {
	err = s.m.call(ctx, "stage", func() (err error) { sum, err = s.memStore.Stage(ctx, ref, f); return err })
	return sum, err
}

func (s mortalStore) Put(ctx context.Context, bucket, key string, r io.Reader, size int64, ct string) (ref functions.ObjectRef, err error) {
	err = s.m.call(ctx, "put", func() (err error) { ref, err = s.memStore.Put(ctx, bucket, key, r, size, ct); return err })
	return ref, err
}

type mortalLink struct {
	*memLog
	m *mortal
}

func (l mortalLink) Heartbeat(ctx context.Context, hb functions.Heartbeat) error {
	return l.m.call(ctx, "heartbeat", func() error { return l.memLog.Heartbeat(ctx, hb) })
}

func (l mortalLink) Append(ctx context.Context, id string, events ...functions.Event) (seq uint64, err error) {
	err = l.m.call(ctx, "append", func() (err error) { seq, err = l.memLog.Append(ctx, id, events...); return err })
	return seq, err
}

// An agent that dies at any step is followed by one that ends the attempt, with
// one fin, one run of the program wherever it had been started, and nothing left.
func TestTheNextAgentGoesOnAtEveryStep(t *testing.T) {
	for _, at := range []string{
		"stage", "after stage", "pull", "after pull", "create", "after create", "start", "after start",
		"wait", "after wait", "put", "after put", "append", "after append", "remove", "after remove",
	} {
		t.Run("dies at "+at, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				var runs atomic.Int32
				w.fake.Add("work", program(func(ctx context.Context, p *runtimetest.Process) int {
					runs.Add(1)
					mustWrite(t, p, "/task/out/a", "output")
					if _, err := io.WriteString(p.Stdout, "line 1\nline 2\n"); err != nil {
						t.Error(err)
					}
					time.Sleep(3 * time.Second)
					return 0
				}))
				m := &mortal{w: w, at: at, died: make(chan struct{})}
				cfg := w.config()
				cfg.Driver, cfg.Objects, cfg.Link = mortalDriver{w.fake, m}, mortalStore{w.store, m}, mortalLink{w.log, m}
				first := w.agent(cfg)
				as := w.order(first)
				as.Function.Image = "work"
				as.Task.Inputs = []functions.Input{{Name: "x", ObjectRef: w.store.add("x", "x")}}
				first.admit(as)
				<-m.died
				first.quit()

				time.Sleep(time.Second)
				second := w.agent(w.config())
				if second.bootID() != first.bootID() {
					t.Errorf("boot id changed from %s to %s", first.bootID(), second.bootID())
				}
				out := w.fin(as)
				wantClass(t, out, "", "")
				w.nothingLeft()
				if n := runs.Load(); n != 1 {
					t.Errorf("the program ran %d times", n)
				}
				if got := outputNames(out); !slices.Equal(got, []string{"a"}) {
					t.Errorf("outputs %v", got)
				}
				if out.LogTail != "line 1\nline 2\n" {
					t.Errorf("log %q", out.LogTail)
				}
			})
		})
	}
}

// Docker kills a container when the request that starts it is cut off, and the
// next agent finds an exit of 137 that nobody asked for.
func TestAStartThatDiedWithItsAgentIsNoCrash(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fake.Add("work", program(func(context.Context, *runtimetest.Process) int { return killed }))
		m := &mortal{w: w, at: "after start", died: make(chan struct{})}
		cfg := w.config()
		cfg.Driver, cfg.Objects, cfg.Link = mortalDriver{w.fake, m}, mortalStore{w.store, m}, mortalLink{w.log, m}
		first := w.agent(cfg)
		as := w.order(first)
		as.Function.Image = "work"
		first.admit(as)
		<-m.died
		first.quit()

		w.agent(w.config())
		wantClass(t, w.fin(as), functions.Infra, functions.PhaseLaunch)
		w.nothingLeft()
	})
}

func TestAStoppedAgentLeavesItsContainersRunning(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.GPUs = w.gpus(2)
		first := w.agent(cfg)
		as := w.order(first, "sleep", "100s")
		as.Device, as.GPUs = functions.GPU, []string{"assumed-1"}
		as.Function.Timeout = functions.Duration(60 * time.Second)
		first.admit(as)
		w.until("it runs", func() bool {
			return w.inPhase(functions.PhaseRun)
		})
		began := time.Now()
		first.quit()
		if hb := w.log.lastBeat(); hb.Node.Ready {
			t.Error("the last heartbeat of a stopped agent says ready")
		}
		time.Sleep(20 * time.Second)
		infos, err := w.fake.List(context.Background(), nil)
		if err != nil || len(infos) != 1 || infos[0].State != runtime.Up {
			t.Fatalf("containers %+v, %v", infos, err)
		}

		cfg.GPUs = w.gpus(2)
		beats := len(w.log.beats)
		second := w.agent(cfg)
		if hb := w.log.beats[beats]; len(hb.Running) != 1 || hb.Running[0].Task != as.Task.ID {
			t.Errorf("the first heartbeat does not name the adopted attempt: %+v", hb.Running)
		}
		if g := cfg.GPUs.Snapshot()[1]; len(g.Leases) != 1 || g.Leases[0].Task != as.Task.ID {
			t.Errorf("its GPU is %+v", g)
		}
		if err := second.Admit(context.Background(), as); err != nil {
			t.Errorf("the same order again = %v", err)
		}
		out := w.fin(as)
		wantClass(t, out, functions.TimedOutRun, functions.PhaseRun)
		if took := time.Since(began); took < 59*time.Second || took > 62*time.Second {
			t.Errorf("its deadline of 60s came after %s", took)
		}
		w.nothingLeft()
		if g := cfg.GPUs.Snapshot()[1]; g.State != functions.GPUFree {
			t.Errorf("its GPU is %+v", g)
		}
	})
}

func TestDrainWaits(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Drain = true
		a := w.agent(cfg)
		as := w.order(a, "sleep", "30s")
		a.admit(as)
		go func() { time.Sleep(time.Second); a.quit() }()
		time.Sleep(5 * time.Second)
		if err := a.Admit(context.Background(), w.order(a)); !errors.Is(err, functions.ErrUnavailable) {
			t.Errorf("Admit while draining = %v", err)
		}
		if hb := w.log.lastBeat(); hb.Node.Ready || len(hb.Running) != 1 {
			t.Errorf("heartbeat while draining: %+v", hb)
		}
		wantClass(t, w.fin(as), "", "")
		a.quit()
		if len(w.fake.Specs()) != 0 {
			t.Error("a container is left")
		}
	})
}

func TestANewBootForgetsWhatTheOldOneRan(t *testing.T) {
	for name, forget := range map[string]func(t *testing.T, dir string){
		"after a reboot": func(t *testing.T, dir string) {
			file := filepath.Join(dir, "boot.json")
			var b bootRecord
			if _, err := readJSON(file, &b); err != nil {
				t.Fatal(err)
			}
			b.Kernel = "another"
			if err := writeJSON(file, b); err != nil {
				t.Fatal(err)
			}
		},
		"without boot.json": func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "boot.json")); err != nil {
				t.Fatal(err)
			}
		},
		"with half a boot.json": func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "boot.json"), []byte(`{"boot":`), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				first := w.agent(w.config())
				as := w.order(first, "sleep", "1h")
				first.admit(as)
				w.until("it runs", func() bool {
					return w.inPhase(functions.PhaseRun)
				})
				first.quit()
				forget(t, filepath.Join(w.dir, "node"))
				second := w.agent(w.config())
				if second.bootID() == first.bootID() {
					t.Error("the boot id is still the old one")
				}
				if err := second.Admit(context.Background(), as); !errors.Is(err, functions.ErrConflict) {
					t.Errorf("order for the old boot = %v", err)
				}
				w.nothingLeft() // the orphan is swept
				if w.log.fins() != 0 {
					t.Errorf("fins of a lost boot: %v", w.log.ids)
				}
			})
		})
	}
}

func TestAnEndedAttemptIsLoggedEvenAfterAReboot(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := w.agent(w.config())
		w.log.set(func(l *memLog) { l.down = true })
		as := w.order(first, "echo", "x")
		first.admit(as)
		kept := newFolder(filepath.Join(w.dir, "node"), key{as.Task.ID, 1})
		w.until("it has ended", func() bool { m, err := kept.memory(); return err == nil && m.Outcome != nil })
		first.quit()
		if err := os.Remove(filepath.Join(w.dir, "node", "boot.json")); err != nil {
			t.Fatal(err)
		}
		w.log.set(func(l *memLog) { l.down = false })
		w.agent(w.config())
		wantClass(t, w.fin(as), "", "")
		w.nothingLeft()
	})
}

func TestAFolderThatCannotBeReadIsDropped(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		as := w.order(a)
		a.quit()
		evil := as
		evil.Task.Inputs = []functions.Input{{Name: "../../escape"}}
		for name, content := range map[string]any{
			"tasks/x.1/attempt.jsonl": "half",
			"tasks/x.2/other":         "",
			"tasks/x/3/deeper":        "",
			"tasks/" + string(as.Task.ID) + ".2/attempt.jsonl": entry{Held: &record{Assignment: as}}, // of attempt 1
			"tasks/" + string(as.Task.ID) + ".1/attempt.jsonl": entry{Held: &record{Assignment: evil}},
		} {
			file := filepath.Join(w.dir, "node", name)
			data, err := json.Marshal(content)
			if err == nil {
				err = os.MkdirAll(filepath.Dir(file), 0o700)
			}
			if err == nil {
				err = os.WriteFile(file, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		w.agent(w.config())
		w.nothingLeft()
	})
}

func TestASecondAgentInTheSameFolderIsRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.agent(w.config())
		n, err := New(w.config())
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Run(context.Background()); !errors.Is(err, functions.ErrConflict) {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestContainersOfOthersAreLeftAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for _, node := range []string{"n1", "n2"} {
			if _, err := w.fake.Create(context.Background(), runtime.Spec{Name: node, Image: "box", Labels: map[string]string{runtime.LabelNode: node}}); err != nil {
				t.Fatal(err)
			}
		}
		w.agent(w.config())
		w.until("our orphan is removed", func() bool { return len(w.fake.Specs()) == 1 })
		if left := w.fake.Specs()[0].Name; left != "n2" {
			t.Errorf("left is %s", left)
		}
		synctest.Wait()
	})
}
