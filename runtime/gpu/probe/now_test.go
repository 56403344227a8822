package probe

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestNowIsNotOfBefore has a probe that reads for a while, and only when asked.
func TestNowIsNotOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes = 400 * time.Millisecond
		w := act(t, Config{Program: program}, func(n int, a *actor) {
			for {
				at := time.Now()
				time.Sleep(takes)
				if !a.tell(Reading{At: at, Status: OK}) {
					return
				}
				select {
				case <-a.asks:
				case <-a.stopped:
					return
				}
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		var runs, calls sync.WaitGroup
		var reported atomic.Int64
		runs.Go(func() { _ = w.Run(ctx, func(r Report) { reported.Store(r.Reading.At.UnixNano()) }) })
		time.Sleep(takes + time.Millisecond)
		for range 20 {
			for _, wait := range []time.Duration{0, takes / 2} { // the second while the first is read
				time.Sleep(wait)
				calls.Go(func() {
					asked := time.Now()
					r, err := w.Now(t.Context())
					if err != nil || r.At.Before(asked) || time.Since(asked) > 2*takes {
						t.Errorf("asked at %v, got %+v, %v after %v", asked, r, err, time.Since(asked))
					}
					if reported.Load() < r.At.UnixNano() {
						t.Error("answered before it was reported")
					}
				})
			}
		}
		calls.Wait()
		cancel()
		runs.Wait()
		if len(w.waiters) != 0 {
			t.Errorf("%d wait still", len(w.waiters))
		}
	})
}

// TestHungProbeIsAskedOnce: its input has an end.
func TestHungProbeIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		w := act(t, Config{Program: program, Stale: time.Minute}, func(n int, a *actor) {
			<-a.stopped
			asked = len(a.asks)
		})
		ctx, cancel := context.WithCancel(t.Context())
		var runs, calls sync.WaitGroup
		runs.Go(func() { _ = w.Run(ctx, func(Report) {}) })
		for range 50 {
			time.Sleep(time.Millisecond)
			calls.Go(func() {
				if _, err := w.Now(ctx); err == nil {
					t.Error("an answer of a probe that hangs")
				}
			})
		}
		time.Sleep(time.Second)
		cancel()
		runs.Wait()
		calls.Wait()
		w.actors.Wait()
		if asked != 1 {
			t.Errorf("asked %d times", asked)
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

// TestNowBetweenTwoProbes waits for the second where the first has ended well.
func TestNowBetweenTwoProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, func(n int, a *actor) { a.works(10 * time.Second) })
		ctx, cancel := context.WithCancel(t.Context())
		var runs sync.WaitGroup
		runs.Go(func() { _ = w.Run(ctx, func(Report) {}) })
		time.Sleep(10*time.Second + 500*time.Millisecond)
		asked := time.Now()
		if r, err := w.Now(t.Context()); err != nil || r.Status != OK || r.At.Before(asked) || len(w.began) != 2 {
			t.Errorf("asked at %v, got %+v, %v", asked, r, err)
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
		synctest.Wait()
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
