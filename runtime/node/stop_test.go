package node

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// stuckStore never answers.
type stuckStore struct{ *memStore }

func (stuckStore) Stage(ctx context.Context, _ functions.ObjectRef, _ *os.File) (string, error) {
	<-ctx.Done()
	return "", functions.Unavailable("store_down", "no answer").WithCause(context.Cause(ctx))
}

func TestCancelBeforeTheContainerRuns(t *testing.T) {
	for phase, prepare := range map[functions.Phase]func(w *world, cfg *Config){
		functions.PhaseStage: func(w *world, cfg *Config) { cfg.Objects = stuckStore{w.store} },
		functions.PhaseLaunch: func(w *world, _ *Config) {
			w.fake.OnLaunch(func(ctx context.Context, _ runtime.Spec) error { <-ctx.Done(); return nil })
		},
	} {
		t.Run(string(phase), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				cfg := w.config()
				prepare(w, &cfg)
				a := w.agent(cfg)
				as := w.order(a)
				as.Task.Inputs = []functions.Input{{Name: "x", ObjectRef: w.store.add("x", "x")}}
				a.admit(as)
				w.until("it is on its way", func() bool { return w.inPhase(phase) })
				if err := a.Kill(context.Background(), functions.Kill{Task: as.Task.ID, Attempt: 1, Why: functions.CanceledByUser}); err != nil {
					t.Fatal(err)
				}
				wantClass(t, w.fin(as), functions.CanceledByUser, phase)
				w.nothingLeft()
			})
		})
	}
}

func TestAStoreThatHangsDoesNotHoldTheSlotForEver(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Objects = stuckStore{w.store}
		a := w.agent(cfg)
		as := w.order(a)
		as.Task.Inputs = []functions.Input{{Name: "x", ObjectRef: w.store.add("x", "x")}}
		began := time.Now()
		wantClass(t, w.do(a, as), functions.Store, functions.PhaseStage)
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("it took %s", took)
		}
		w.nothingLeft()
	})
}

func TestCancelDuringCollect(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fake.Add("work", program(func(ctx context.Context, p *runtimetest.Process) int {
			mustWrite(t, p, "/task/out/a", "a")
			w.store.setDown(true)
			return 0
		}))
		a := w.agent(w.config())
		as := w.order(a)
		as.Function.Image = "work"
		a.admit(as)
		w.until("it collects", func() bool { return w.inPhase(functions.PhaseCollect) })
		if err := a.Kill(context.Background(), functions.Kill{Task: as.Task.ID, Attempt: 1}); err != nil {
			t.Fatal(err)
		}
		wantClass(t, w.fin(as), functions.CanceledByUser, functions.PhaseCollect)
		w.nothingLeft()
	})
}

func TestAdoptionWaitsForTheEngine(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := w.agent(w.config())
		as := w.order(first, "sleep", "20s")
		first.admit(as)
		w.until("it runs", func() bool { return w.inPhase(functions.PhaseRun) })
		first.quit()
		w.fake.SetDown(true)
		w.raw(w.config())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if hb := w.log.lastBeat(); hb.Node.Ready || len(hb.Running) != 1 || hb.Running[0].Task != as.Task.ID {
			t.Errorf("heartbeat without engine: %+v", hb)
		}
		w.fake.SetDown(false)
		wantClass(t, w.fin(as), "", "")
		w.nothingLeft()
	})
}

func TestHeartbeatsComeEachSecondAndOnChange(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		count := func() int { w.log.mu.Lock(); defer w.log.mu.Unlock(); return len(w.log.beats) }
		before := count()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := count() - before; n < 9 || n > 11 {
			t.Errorf("%d heartbeats in 10s", n)
		}
		as := w.order(a, "sleep", "10s")
		a.admit(as)
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if hb := w.log.lastBeat(); len(hb.Running) != 1 {
			t.Error("a new attempt is not reported at once")
		}
		w.fin(as)
		w.nothingLeft()
	})
}

func TestALogThatCannotBeStoredIsNoFailure(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		w.store.setDown(true)
		out := w.do(a, w.order(a, "echo", "hello"))
		wantClass(t, out, "", "")
		if out.Log != nil || out.LogTail != "hello\n" {
			t.Errorf("log %+v, tail %q", out.Log, out.LogTail)
		}
		w.nothingLeft()
	})
}

func TestAnOutcomeThatDoesNotFitTheLogEndsTheTaskAllTheSame(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Link = narrowLink{w.log}
		a := w.agent(cfg)
		out := w.do(a, w.order(a, "echo", "hello"))
		if out.Failure == nil || out.Failure.Class != functions.BadOutput {
			t.Errorf("outcome %+v", out)
		}
		w.nothingLeft()
	})
}

// narrowLink takes no outcome without a failure.
type narrowLink struct{ *memLog }

func (l narrowLink) Append(ctx context.Context, id string, events ...functions.Event) (uint64, error) {
	if events[0].Fin.Outcome.Failure == nil {
		return 0, functions.NewError(functions.ErrTooLarge, "too_large", "too large")
	}
	return l.memLog.Append(ctx, id, events...)
}
