package schedules

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// world is a registry, a door, and every server in the world.
type world struct {
	mu       sync.Mutex
	versions []functions.Function // of one function, oldest first
	tasks    map[string]intake.Call
	outage   bool // of the door
}

func newWorld(all ...functions.Schedule) *world {
	w := &world{tasks: map[string]intake.Call{}}
	w.deploy(all...)
	return w
}

func (w *world) deploy(all ...functions.Schedule) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions = append(w.versions, functions.Function{
		Spec: functions.Spec{Name: "f", Schedules: all}, Version: len(w.versions) + 1, CreatedAt: time.Now(),
	})
}

func (w *world) List() []functions.Function {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.versions[len(w.versions)-1:])
}

func (w *world) Versions(functions.Name) []functions.Function {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.versions)
}

// Accept has the door's rule: a key makes one task.
func (w *world) Accept(_ context.Context, c intake.Call) (intake.Ticket, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.outage {
		return intake.Ticket{}, functions.Unavailable("log_unavailable", "down")
	}
	if _, there := w.tasks[c.Key]; !there {
		w.tasks[c.Key] = c
	}
	return intake.Ticket{}, nil
}

// leading runs a server's term until what it returns is called.
func (w *world) leading() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s := New(Config{Functions: w, Door: w, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	go func() { defer close(done); _ = s.Run(ctx) }()
	synctest.Wait()
	return func() { cancel(); <-done }
}

// started lists the ticks that have a task, oldest first.
func (w *world) started(t interface{ Fatal(...any) }) (ticks []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, c := range w.tasks {
		var unix int64
		if _, err := fmt.Sscanf(key[strings.LastIndexByte(key, '|')+1:], "%d", &unix); err != nil || c.Source != "schedule" || c.Key != c.BodyHash {
			t.Fatal("a task was begun as", c)
		}
		ticks = append(ticks, time.Unix(unix, 0).UTC())
	}
	slices.SortFunc(ticks, time.Time.Compare)
	return ticks
}

func (w *world) setOutage(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outage = down
}

var hourly = functions.Schedule{Rate: "1 hour"}

func TestATickStartsATaskInItsSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // from 2000-01-01T00:00:00Z on
		own := functions.Schedule{Cron: "30 0 * * *", Event: functions.JSON(`{"n":1}`)}
		w := newWorld(hourly, own)
		defer w.leading()()
		time.Sleep(30*time.Minute - time.Second)
		if got := w.started(t); len(got) != 0 {
			t.Fatalf("too early: %s", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		events := map[string]bool{}
		for _, c := range w.tasks {
			var e map[string]any
			if err := json.Unmarshal(c.Event, &e); err != nil || c.Version != 1 || c.Function != "f" {
				t.Errorf("it was called as %+v: %v", c, err)
			}
			events[fmt.Sprint(e["n"], e["detail-type"], e["time"])] = true
		}
		if len(events) != 2 || !events["1<nil><nil>"] && !events["1 <nil> <nil>"] || !events["<nil>Scheduled Event2000-01-01T01:00:00Z"] && !events["<nil> Scheduled Event 2000-01-01T01:00:00Z"] {
			t.Errorf("the events are %v", events)
		}
	})
}

func TestOfMissedTicksTheNewestIsMadeUpFor(t *testing.T) {
	hour := func(n int) time.Time { return time.Date(2000, 1, 1, n, 0, 0, 0, time.UTC) }
	for name, c := range map[string]struct {
		missing func(w *world, stop func()) // five hours and a half, from half past midnight on
		want    []time.Time
	}{
		"nobody led": {func(w *world, stop func()) { stop(); time.Sleep(330 * time.Minute) }, []time.Time{hour(6)}},
		"the door was shut": {func(w *world, stop func()) {
			w.setOutage(true)
			time.Sleep(330 * time.Minute)
			w.setOutage(false)
			stop()
		}, []time.Time{hour(6)}},
		"a version came since": {func(w *world, stop func()) {
			stop()
			time.Sleep(333 * time.Minute)
			w.deploy(hourly)
			w.deploy(hourly)
		}, []time.Time{hour(6)}},
		"it is a new schedule":   {func(w *world, stop func()) { stop(); w.deploy(); time.Sleep(330 * time.Minute); w.deploy(hourly) }, nil},
		"it has been taken away": {func(w *world, stop func()) { stop(); time.Sleep(330 * time.Minute); w.deploy() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(hourly)
				stop := w.leading()
				time.Sleep(30 * time.Minute)
				c.missing(w, stop)
				stop = w.leading()
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				stop()
				if got := w.started(t); !slices.Equal(got, c.want) {
					t.Errorf("started %s, want %s", got, c.want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(functions.Schedule{Cron: "0 0 1 * *"})
		time.Sleep(31*24*time.Hour + 25*time.Hour) // a day is enough
		defer w.leading()()
		time.Sleep(time.Minute)
		if got := w.started(t); len(got) != 0 {
			t.Errorf("%s was made up for after more than a day", got)
		}
	})
}

// TestEveryTickStartsOneTask while somebody leads and the door is open; of those
// that came meanwhile, the newest does, when both are so again.
func TestEveryTickStartsOneTask(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 99), 1, 25).Draw(rt, "steps")
		sched := rapid.SampledFrom([]functions.Schedule{
			{Rate: "1 minute"}, {Rate: "7 minutes"}, {Cron: "*/10 * * * *"}, {Cron: "17 3-20 * * *", Timezone: "Asia/Kolkata"},
		}).Draw(rt, "schedule")
		synctest.Test(t, func(*testing.T) { history(rt, sched, steps) })
	})
}

func history(rt *rapid.T, sched functions.Schedule, steps []int) {
	ticks, err := sched.Ticks()
	if err != nil {
		rt.Fatal(err)
	}
	w := newWorld(sched)
	var terms []func() // those that lead, for a while two
	born := time.Now()
	var want []time.Time // must have a task
	last := born         // until when all is decided
	healthy := func() bool { return len(terms) > 0 && !w.outage }
	pass := func(d time.Duration) {
		time.Sleep(d)
		synctest.Wait()
		if !healthy() {
			return
		}
		now, newest := time.Now(), time.Time{}
		for at := ticks.Next(last); !at.After(now); at = ticks.Next(at) {
			if at.After(now.Add(-d)) {
				want = append(want, at)
			} else {
				newest = at
			}
		}
		if !newest.IsZero() && now.Add(-d).Sub(newest) < catchUp-time.Minute {
			want = append(want, newest)
		}
		last = now
	}
	for _, step := range steps {
		switch {
		case step < 50:
			pass(time.Duration(step+1)*time.Minute + 2*time.Second)
		case step < 60:
			pass(time.Duration(step-49) * 3 * time.Hour)
		case step < 70:
			w.setOutage(!w.outage)
			pass(2 * time.Second)
		case step < 80:
			w.deploy(sched)
			pass(2 * time.Second)
		case step < 90 || len(terms) == 0:
			terms = append(terms, w.leading())
			pass(2 * time.Second)
		default:
			terms[0]()
			terms = terms[1:]
		}
	}
	for _, stop := range terms {
		stop()
	}
	got := w.started(rt)
	for i, at := range got {
		if !ticks.Next(at.Add(-time.Second)).Equal(at) || at.Before(born) {
			rt.Fatalf("%s is no tick", at)
		}
		if i > 0 && at.Equal(got[i-1]) {
			rt.Fatalf("%s started two tasks", at)
		}
	}
	for _, at := range want {
		if !slices.ContainsFunc(got, at.Equal) {
			rt.Fatalf("%s started no task", at)
		}
	}
}
