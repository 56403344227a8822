package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world, a *agent, as *functions.Assignment)
		class  error
		code   string
	}{
		"another boot":  {func(w *world, a *agent, as *functions.Assignment) { as.Boot = "old" }, functions.ErrConflict, "stale_boot"},
		"an old leader": {func(w *world, a *agent, as *functions.Assignment) { as.Epoch = 4 }, functions.ErrConflict, "stale_epoch"},
		"too big":       {func(w *world, a *agent, as *functions.Assignment) { as.Function.Limits.Memory = functions.TiB }, functions.ErrThrottled, "no_room"},
		"no GPU here":   {func(w *world, a *agent, as *functions.Assignment) { as.Device = functions.GPU }, functions.ErrThrottled, "no_gpu"},
		"no leader has heard us": {func(w *world, a *agent, as *functions.Assignment) {
			w.log.set(func(l *memLog) { l.deaf = true })
			time.Sleep(15 * time.Second)
		}, functions.ErrUnavailable, "no_lease"},
		"engine down": {func(w *world, a *agent, as *functions.Assignment) {
			w.fake.SetDown(true)
			time.Sleep(10 * time.Second)
		}, functions.ErrThrottled, "not_ready"},
		"its disk takes nothing": {func(w *world, a *agent, as *functions.Assignment) {
			tasks := filepath.Join(w.dir, "node", "tasks")
			if err := errors.Join(os.RemoveAll(tasks), os.WriteFile(tasks, nil, 0o600)); err != nil {
				w.t.Fatal(err)
			}
		}, functions.ErrThrottled, "disk"}, // a no, and no silence: silence is asked again for ever
		"the agent stops": {func(w *world, a *agent, as *functions.Assignment) { a.quit() }, functions.ErrUnavailable, "stopping"},
		"no task id":      {func(w *world, a *agent, as *functions.Assignment) { as.Task.ID = "../x" }, functions.ErrInvalid, "bad_task_id"},
		"no attempt":      {func(w *world, a *agent, as *functions.Assignment) { as.Attempt = 0 }, functions.ErrInvalid, "bad_assignment"},
		"an input that escapes": {func(w *world, a *agent, as *functions.Assignment) {
			as.Task.Inputs = []functions.Input{{Name: ".."}}
		}, functions.ErrInvalid, "bad_file_name"},
		"two inputs of one name": {func(w *world, a *agent, as *functions.Assignment) {
			as.Task.Inputs = []functions.Input{{Name: "a"}, {Name: "a"}}
		}, functions.ErrInvalid, "bad_assignment"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				a := w.agent(w.config())
				w.do(a, w.order(a)) // the node has seen epoch 5
				w.nothingLeft()
				as := w.order(a)
				c.change(w, a, &as)
				err := a.Admit(context.Background(), as)
				var e *functions.Error
				if !errors.Is(err, c.class) || !errors.As(err, &e) || e.Code != c.code {
					t.Errorf("Admit = %v, want %v with code %s", err, c.class, c.code)
				}
				synctest.Wait()
				if len(w.fake.Specs()) != 0 {
					t.Error("a refused attempt has a container")
				}
			})
		})
	}
}

func TestTheEpochIsRememberedByTheNextAgent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		w.do(a, w.order(a))
		w.nothingLeft()
		a.quit()
		b := w.agent(w.config())
		as := w.order(b)
		as.Epoch = 4
		if err := b.Admit(context.Background(), as); !errors.Is(err, functions.ErrConflict) {
			t.Errorf("order of an old leader = %v", err)
		}
	})
}

func TestAnOrderIsObeyedOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		as := w.order(a, "sleep", "5s")
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { a.admit(as) })
		}
		wg.Wait()
		w.until("it runs", func() bool { return len(w.fake.Specs()) > 0 })
		if len(w.fake.Specs()) != 1 {
			t.Errorf("%d containers", len(w.fake.Specs()))
		}
		w.fin(as)
		w.nothingLeft()
		a.admit(as) // the leader has not read the fin yet
		time.Sleep(time.Minute)
		if w.log.fins() != 1 || len(w.fake.Specs()) != 0 {
			t.Error("an ended attempt ran again")
		}
	})
}

func TestANewerAttemptEndsTheOlder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		old := w.order(a, "deaf")
		a.admit(old)
		w.until("it runs", func() bool { return w.log.heard() > 0 })
		newer := old
		newer.Attempt = 2
		newer.Function.Command = []string{"/box", "sleep", "10s"}
		a.admit(newer)
		wantClass(t, w.fin(old), functions.NodeLost, functions.PhaseRun)
		if err := a.Admit(context.Background(), old); err != nil {
			t.Errorf("repeat of the ended one = %v", err)
		}
		older := old
		older.Attempt = 1
		wantClass(t, w.fin(newer), "", "")
		w.nothingLeft()
	})
}

func TestRoomIsNeverOversubscribed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Capacity.Tasks = 3
		a := w.agent(cfg)
		var mu sync.Mutex
		var taken []functions.Assignment
		orders := make([]functions.Assignment, 10)
		for i := range orders {
			orders[i] = w.order(a, "sleep", "5s")
		}
		var wg sync.WaitGroup
		for _, as := range orders {
			wg.Go(func() {
				err := a.Admit(context.Background(), as)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					taken = append(taken, as)
				} else if !errors.Is(err, functions.ErrThrottled) {
					t.Errorf("Admit = %v", err)
				}
			})
		}
		wg.Wait()
		if len(taken) != 3 {
			t.Errorf("%d attempts on 3 slots", len(taken))
		}
		for _, as := range taken {
			w.fin(as)
		}
		w.nothingLeft()
		if a.used != (functions.Resources{}) {
			t.Errorf("an idle node has %+v in use", a.used)
		}
	})
}

func TestGPULaunchFailures(t *testing.T) {
	for name, c := range map[string]struct {
		words string
		class functions.Class
		times int // until the devices are off
	}{
		"no toolkit":          {`could not select device driver "" with capabilities: [[gpu]]`, functions.GPUHost, 2},
		"device is gone":      {"nvidia-container-cli: device error: 0: unknown device: unknown", functions.GPUDevice, 2},
		"image too new":       {"nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0", functions.GPUImage, 0},
		"some hook":           {"OCI runtime create failed: error running hook #0: exit status 1", functions.GPUUnknown, 2},
		"the program is none": {`exec: "nope": executable file not found in $PATH`, functions.BadEntry, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				cfg := w.config()
				cfg.GPUs = w.gpus(1)
				a := w.agent(cfg)
				w.fake.OnLaunch(func(context.Context, runtime.Spec) error { return errors.New(c.words) })
				for i := range 2 {
					as := w.order(a)
					as.Device = functions.GPU
					out := w.do(a, as)
					wantClass(t, out, c.class, functions.PhaseLaunch)
					if !strings.Contains(out.Failure.Message, c.words) || len(out.GPUs) != 1 {
						t.Errorf("outcome %+v, %+v", out.Failure, out.GPUs)
					}
					w.nothingLeft()
					want := functions.GPUFree
					if c.times == i+1 {
						want = functions.GPUQuarantined
					}
					if g := cfg.GPUs.Snapshot()[0]; g.State != want {
						t.Errorf("after %d failures the device is %+v", i+1, g)
					}
				}
			})
		})
	}
}

func TestAHungGPULaunchIsRemovedBehindTheFailure(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.GPUs = w.gpus(1)
		a := w.agent(cfg)
		w.fake.OnLaunch(func(ctx context.Context, _ runtime.Spec) error {
			select {
			case <-ctx.Done():
			case <-time.After(time.Minute):
			}
			return nil
		})
		as := w.order(a)
		as.Device = functions.GPU
		began := time.Now()
		wantClass(t, w.do(a, as), functions.GPUHung, functions.PhaseLaunch)
		if took := time.Since(began); took > 31*time.Second {
			t.Errorf("it took %s", took)
		}
		w.nothingLeft()
		next := w.order(a)
		next.Device = functions.GPU
		if err := a.Admit(context.Background(), next); !errors.Is(err, functions.ErrThrottled) {
			t.Errorf("the next GPU task = %v", err)
		}
		time.Sleep(time.Minute)
		if len(w.fake.Specs()) != 0 {
			t.Error("the container started late")
		}
	})
}

func TestGPULeaseReachesTheContainer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.GPUs = w.gpus(2)
		a := w.agent(cfg)
		as := w.order(a, "sleep", "1s")
		as.Device, as.GPUs = functions.GPU, []string{"assumed-1"}
		a.admit(as)
		w.until("it runs", func() bool { return len(w.fake.Specs()) == 1 })
		if got := w.fake.Specs()[0].GPUs; len(got) != 1 || got[0] != "1" {
			t.Errorf("devices %v", got)
		}
		if out := w.fin(as); len(out.GPUs) != 1 || out.GPUs[0] != "assumed-1" {
			t.Errorf("leased %v", out.GPUs)
		}
		w.nothingLeft()
	})
}

func TestFence(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		as := w.order(a, "deaf")
		a.admit(as)
		w.until("it runs", func() bool { return w.log.heard() > 0 })
		w.log.set(func(l *memLog) { l.deaf = true })
		began := time.Now()
		time.Sleep(18 * time.Second)
		synctest.Wait()
		if w.log.fins() != 0 {
			t.Error("fenced before its time")
		}
		wantClass(t, w.fin(as), functions.NodeLost, functions.PhaseRun)
		if took := time.Since(began); took > 22*time.Second {
			t.Errorf("fenced after %s", took)
		}
		w.log.set(func(l *memLog) { l.deaf = false })
		w.nothingLeft()
		wantClass(t, w.do(a, w.order(a)), "", "")
	})
}

// A grace that began before the fence must not outlast it: the leader gives the
// task to another node five seconds later.
func TestAFenceEndsAGrace(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		as := w.order(a, "deaf")
		as.Function.Grace = functions.Duration(time.Minute)
		a.admit(as)
		w.until("it runs", func() bool { return w.log.heard() > 0 })
		w.log.set(func(l *memLog) { l.deaf = true })
		began := time.Now()
		time.Sleep(2 * time.Second)
		if err := a.Kill(context.Background(), functions.Kill{Task: as.Task.ID, Attempt: 1, Why: functions.CanceledByUser}); err != nil {
			t.Fatal(err)
		}
		wantClass(t, w.fin(as), functions.CanceledByUser, functions.PhaseRun)
		if took := time.Since(began); took > 22*time.Second {
			t.Errorf("it ran for %s after the last grant", took)
		}
		w.log.set(func(l *memLog) { l.deaf = false })
		w.nothingLeft()
	})
}

func TestANodeWithoutRoomOnDiskSaysSo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.DiskFloor = 1 << 60
		a := w.raw(cfg)
		w.until("a heartbeat", func() bool { return w.log.lastBeat().Node.ID != "" && a.bootID() != "" })
		time.Sleep(time.Second)
		if hb := w.log.lastBeat(); hb.Node.Ready || !strings.Contains(hb.Node.Reason, "of disk is free") || hb.Node.DiskFree == 0 {
			t.Errorf("heartbeat %+v", hb.Node)
		}
		if err := a.Admit(context.Background(), w.order(a)); !errors.Is(err, functions.ErrThrottled) {
			t.Errorf("Admit = %v", err)
		}
	})
}

func TestReadLogWhileItRuns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		as := w.order(a, "trap", "0")
		a.admit(as)
		w.until("it runs", func() bool { return w.log.heard() > 0 })
		for after, want := range map[int64]int{0: 1, 1: 0} {
			got, err := a.ReadLog(context.Background(), as.Task.ID, 1, after)
			if err != nil || len(got) != want {
				t.Errorf("ReadLog after %d = %+v, %v", after, got, err)
			}
		}
		if err := a.Kill(context.Background(), functions.Kill{Task: as.Task.ID, Attempt: 1}); err != nil {
			t.Fatal(err)
		}
		w.fin(as)
		w.nothingLeft()
		if _, err := a.ReadLog(context.Background(), as.Task.ID, 1, 0); !errors.Is(err, functions.ErrNotFound) {
			t.Errorf("ReadLog of what is gone = %v", err)
		}
	})
}

func TestNewRefusesNonsense(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for i, change := range []func(*Config){
			func(c *Config) { c.ID = "a b" }, func(c *Config) { c.DataDir = "rel" },
			func(c *Config) { c.Driver = nil }, func(c *Config) { c.Objects = nil }, func(c *Config) { c.Link = nil },
		} {
			cfg := w.config()
			change(&cfg)
			if _, err := New(cfg); !errors.Is(err, functions.ErrInvalid) {
				t.Error(fmt.Sprint(i, err))
			}
		}
	})
}
