package probe

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// answers plays a gpuprobe that answers after some time, and each second besides.
// Its readings are of the moment at which they began.
func answers(takes time.Duration) func(int, *actor) {
	return func(n int, a *actor) {
		for {
			at := time.Now()
			time.Sleep(takes)
			select {
			case a.out <- line{Report: Report{Reading: &Reading{At: at, Status: OK}}}:
			case <-a.stopped:
				return
			}
			time.Sleep(time.Second - takes)
		}
	}
}

func TestNowIsNotOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, answers(400*time.Millisecond))
		ctx, cancel := context.WithCancel(t.Context())
		var runs sync.WaitGroup
		runs.Go(func() { _ = w.Run(ctx, func(Report) {}) })
		time.Sleep(10*time.Second + 100*time.Millisecond) // a reading has begun, and comes at 10.4s
		asked := time.Now()
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				r, err := w.Now(t.Context())
				if err != nil || r.At.Before(asked) {
					t.Errorf("asked at %v, got %+v, %v", asked, r, err)
				}
			})
		}
		calls.Wait()
		cancel()
		runs.Wait()
		if len(w.waiters) != 0 {
			t.Errorf("%d wait still", len(w.waiters))
		}
	})
}

func TestNowGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, func(n int, a *actor) { <-a.stopped })
		if _, err := w.Now(t.Context()); !errors.Is(err, ErrNotRunning) {
			t.Errorf("before it runs: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var runs sync.WaitGroup
		runs.Go(func() { _ = w.Run(ctx, func(Report) {}) })
		synctest.Wait()
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, err := w.Now(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after its time: %v", err)
		}
		// Whoever waits longer is told of the silence, or of the end.
		if r, err := w.Now(t.Context()); err != nil || r.Status != Silent {
			t.Errorf("of a probe that hangs: %+v, %v", r, err)
		}
		var late error
		runs.Go(func() { _, late = w.Now(t.Context()) })
		synctest.Wait()
		cancel()
		runs.Wait()
		if !errors.Is(late, ErrNotRunning) {
			t.Errorf("after the end: %v", late)
		}
	})
}

func TestNowOfADeadProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, func(n int, a *actor) { a.say(NoDriver) })
		ctx, cancel := context.WithCancel(t.Context())
		var runs sync.WaitGroup
		runs.Go(func() { _ = w.Run(ctx, func(Report) {}) })
		time.Sleep(30 * time.Second)
		began := time.Now()
		if r, err := w.Now(t.Context()); err != nil || r.Status != NoDriver || !began.Equal(time.Now()) {
			t.Errorf("in a pause: %+v, %v after %v", r, err, time.Since(began))
		}
		cancel()
		runs.Wait()
	})
}

func TestNvidiaSMIStandsIn(t *testing.T) {
	for name, start := range map[string]func() (*child, error){
		"gpuprobe is no program": func() (*child, error) { return nil, errors.New("exec format error") },
		"gpuprobe finds no symbol": func() (*child, error) {
			out := make(chan line)
			close(out)
			return &child{lines: out, end: func() end { return end{symbolMissing, "exit status 127"} }, stop: func() {}}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := act(t, Config{Program: program, SMI: "nvidia-smi"}, nil)
				w.start = start
				w.ask = func(context.Context) Reading { return Reading{At: time.Now(), Source: "nvidia-smi", Status: OK} }
				w.run(t, 10*time.Second-1)
				if len(w.readings) != 10 || statuses(w.readings) != "ok" || w.readings[0].Source != "nvidia-smi" {
					t.Errorf("readings are %+v", w.readings)
				}
			})
		})
	}
}

func TestNvidiaSMIFailsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{SMI: "nvidia-smi"}, nil)
		asked := 0
		w.ask = func(context.Context) Reading {
			if asked++; asked <= 3 {
				return Reading{At: time.Now(), Status: NotLoaded}
			}
			return Reading{At: time.Now(), Status: OK}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var runs sync.WaitGroup
		runs.Go(func() { _ = w.Run(ctx, func(r Report) { w.readings = append(w.readings, *r.Reading) }) })
		time.Sleep(7*time.Second + 1) // asked at 0, 1, 3 and 7
		if asked != 4 || statuses(w.readings) != "not_loaded ok" {
			t.Errorf("asked %d times; readings are %s", asked, statuses(w.readings))
		}
		if r, err := w.Now(t.Context()); err != nil || r.Status != OK || asked != 5 {
			t.Errorf("on request: %+v, %v; asked %d times", r, err, asked)
		}
		cancel()
		runs.Wait()
	})
}
