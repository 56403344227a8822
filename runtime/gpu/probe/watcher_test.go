package probe

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// acted is a Watcher whose programs are played, in a bubble of false time. Each
// start of gpuprobe calls life.
type acted struct {
	*Watcher
	actors   sync.WaitGroup
	began    []time.Duration // of each life
	stopped  []time.Duration
	readings []Reading
	events   int
}

// actor plays one gpuprobe.
type actor struct {
	out     chan line
	stopped chan struct{}
	asks    chan struct{}
	ends    end
}

func act(t *testing.T, cfg Config, life func(n int, a *actor)) *acted {
	w := &acted{Watcher: New(cfg)}
	t.Cleanup(w.actors.Wait)
	zero := time.Now()
	w.start = func() (*child, error) {
		a := &actor{out: make(chan line), stopped: make(chan struct{}), asks: make(chan struct{}, 100)}
		w.began = append(w.began, time.Since(zero))
		n := len(w.began)
		w.actors.Go(func() { defer close(a.out); life(n, a) })
		return &child{lines: a.out, ask: func() { a.asks <- struct{}{} }, end: func() end { return a.ends }, stop: func() {
			w.stopped = append(w.stopped, time.Since(zero))
			close(a.stopped)
		}}, nil
	}
	return w
}

// run runs the watcher for some time.
func (w *acted) run(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := w.Run(ctx, func(r Report) {
		if r.Event != nil {
			w.events++
			return
		}
		w.readings = append(w.readings, *r.Reading)
	}); err != nil {
		t.Error(err)
	}
	w.actors.Wait()
}

// say has the actor write a reading; false = it was stopped.
func (a *actor) say(s Status) bool {
	return a.tell(Reading{At: time.Now(), Source: "nvml", Status: s})
}

func (a *actor) tell(r Reading) bool {
	select {
	case a.out <- line{Report: Report{Reading: &r}}:
		return true
	case <-a.stopped:
		return false
	}
}

// works writes readings each second for some time; false = it was stopped.
func (a *actor) works(d time.Duration) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		if !a.say(OK) {
			return false
		}
	}
	return true
}

func statuses(rs []Reading) string {
	var words []string
	for _, r := range rs {
		if s := string(r.Status); len(words) == 0 || words[len(words)-1] != s {
			words = append(words, s)
		}
	}
	return strings.Join(words, " ")
}

const program = "/usr/lib/gpuprobe"

func TestPausesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, func(n int, a *actor) { a.ends = end{2, "exit status 2: out of luck"} })
		w.run(t, 5*time.Minute)
		want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183, 243}
		if len(w.began) != len(want) {
			t.Fatalf("started at %v", w.began)
		}
		for i, at := range w.began {
			if at != want[i]*time.Second {
				t.Errorf("start %d is at %v, not %v", i, at, want[i]*time.Second)
			}
		}
		if statuses(w.readings) != "silent" || !strings.Contains(w.readings[0].Message, "out of luck") {
			t.Errorf("readings are %+v", w.readings)
		}
	})
}

func TestPausesShrinkAfterALongLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, func(n int, a *actor) {
			a.ends = end{-1, "signal: killed"}
			if n == 5 {
				a.works(2 * time.Minute)
			}
		})
		w.run(t, 137*time.Second) // the fifth life begins at 15s
		if got := w.began[len(w.began)-1]; len(w.began) != 6 || got != 136*time.Second {
			t.Errorf("started at %v", w.began)
		}
	})
}

func TestNoDriverIsAskedEachMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, func(n int, a *actor) { a.say(NoDriver) })
		w.run(t, 5*time.Minute-1)
		if len(w.began) != 5 || w.began[4] != 4*time.Minute || statuses(w.readings) != "no_driver" {
			t.Errorf("started at %v; readings are %s", w.began, statuses(w.readings))
		}
	})
}

func TestSilenceThenDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zero := time.Now()
		w := act(t, Config{Program: program}, func(n int, a *actor) {
			if n == 2 && !a.works(10*time.Second) {
				return
			}
			<-a.stopped
		})
		w.run(t, 80*time.Second)
		// The first says nothing and has a minute; the second says nothing after its
		// last reading, at 70s, and has nine seconds.
		if len(w.stopped) != 2 || w.stopped[0] != time.Minute || w.stopped[1] != 79*time.Second {
			t.Errorf("killed at %v", w.stopped)
		}
		if statuses(w.readings) != "silent ok silent" {
			t.Errorf("readings are %s", statuses(w.readings))
		}
		if first := w.readings[0].At.Sub(zero); first != 3*time.Second {
			t.Errorf("silent after %v", first)
		}
	})
}

func TestSilenceIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, func(n int, a *actor) {
			for range 5 {
				a.say(OK)
				time.Sleep(5 * time.Second)
			}
			<-a.stopped
		})
		w.run(t, 21*time.Second)
		if len(w.began) != 1 || statuses(w.readings) != "ok silent ok silent ok silent ok silent ok" {
			t.Errorf("started at %v; readings are %s", w.began, statuses(w.readings))
		}
	})
}

// TestNonsenseIsNoReading has a probe that writes, and nothing that is a reading.
func TestNonsenseIsNoReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, func(n int, a *actor) {
			for {
				for _, l := range []line{{err: errors.New("gibberish")}, {Report: Report{Event: &Event{Xid: 31}}}} {
					select {
					case a.out <- l:
					case <-a.stopped:
						return
					}
				}
				time.Sleep(time.Second)
			}
		})
		w.run(t, 70*time.Second)
		if len(w.began) != 2 || statuses(w.readings) != "silent" || !strings.Contains(w.readings[0].Message, "gibberish") || w.events < 60 {
			t.Errorf("started at %v; %d events; readings are %+v", w.began, w.events, w.readings)
		}
	})
}

// TestGoodEndIsNoSilence has probes that end so that a new one looks.
func TestGoodEndIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, func(n int, a *actor) { a.works(time.Minute) })
		w.run(t, 10*time.Minute)
		if len(w.began) != 10 || statuses(w.readings) != "ok" {
			t.Errorf("started at %v; readings are %s", w.began, statuses(w.readings))
		}
	})
}

func TestStuckProbesAreNotMultiplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, nil)
		w.start = func() (*child, error) { return nil, errStuck }
		w.run(t, time.Second/2)
		if statuses(w.readings) != "silent" || !strings.Contains(w.readings[0].Message, "reboot") {
			t.Errorf("readings are %+v", w.readings)
		}
	})
}

func TestWithoutAProgramNothingIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{}, nil)
		w.run(t, time.Hour)
		if len(w.readings) != 0 {
			t.Errorf("readings are %+v", w.readings)
		}
	})
}
