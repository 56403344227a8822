package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// thing is an instance of the tests.
type thing struct {
	key    string
	number int
	w      *works
	die    func()
	done   chan struct{}
}

func (x *thing) Done() <-chan struct{} { return x.done }

func (x *thing) Close() {
	time.Sleep(x.w.close)
	x.w.mu.Lock()
	defer x.w.mu.Unlock()
	if x.w.out[x] {
		x.w.wrong("instance %d was closed by the pool after it was handed out", x.number)
	}
	delete(x.w.alive, x)
}

// works makes things, and watches what the pool does with them.
type works struct {
	take, close time.Duration
	most        int

	mu      sync.Mutex // guards the fields below
	made    int
	pending int
	tries   int
	failing bool
	infant  bool            // what is started dies a second later
	alive   map[*thing]bool // started, and neither closed nor handed out
	out     map[*thing]bool
	faults  []string
}

func newWorks(most int) *works {
	return &works{take: time.Second, close: 300 * time.Millisecond, most: most, alive: map[*thing]bool{}, out: map[*thing]bool{}}
}

func (w *works) wrong(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

var errNoLuck = errors.New("no luck")

func (w *works) start(ctx context.Context, key string) (*thing, error) {
	w.mu.Lock()
	w.pending++
	w.tries++
	w.mu.Unlock()
	time.Sleep(1) // until the caller of what made room has noted that it is its own
	w.mu.Lock()
	if n := w.pending + len(w.alive); n > w.most {
		w.wrong("%d instances at once, and there is room for %d", n, w.most)
	}
	w.mu.Unlock()
	select {
	case <-time.After(w.take - 1):
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending--
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case w.failing:
		return nil, errNoLuck
	}
	w.made++
	x := &thing{key: key, number: w.made, w: w, done: make(chan struct{})}
	x.die = sync.OnceFunc(func() { close(x.done) })
	w.alive[x] = true
	if w.infant {
		time.AfterFunc(time.Second, x.die)
	}
	return x, nil
}

// got notes that a caller has an instance.
func (w *works) got(x *thing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out[x] || !w.alive[x] {
		w.wrong("instance %d has two users, or was closed before", x.number)
	}
	w.out[x] = true
	delete(w.alive, x)
}

func (w *works) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// started is how many have started so far.
func (w *works) started() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.made
}

// inPool runs a test with a pool in a bubble, where time passes at once.
func inPool(t *testing.T, most int, test func(t *testing.T, p *Pool[string, *thing], w *works)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorks(most)
		p := New(Config[string, *thing]{Start: w.start, Memory: functions.Bytes(most) * functions.MiB, Overhead: functions.MiB})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx) }()
		synctest.Wait()
		test(t, p, w)
		cancel()
		<-done
		w.settled(t)
	})
}

// settled checks what must be true of a pool that has ended.
func (w *works) settled(t interface{ Errorf(string, ...any) }) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.faults {
		t.Errorf("%s", f)
	}
	if len(w.alive) > 0 || w.pending > 0 {
		t.Errorf("%d instances and %d starts are left", len(w.alive), w.pending)
	}
}

func mustGet(t *testing.T, p *Pool[string, *thing], w *works, key string) *thing {
	t.Helper()
	x, err := p.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get = %v", err)
	}
	w.got(x)
	if x.key != key {
		t.Errorf("asked for %s, got one of %s", key, x.key)
	}
	return x
}

func TestAnEmptyPoolStartsOneForItsCaller(t *testing.T) {
	inPool(t, 4, func(t *testing.T, p *Pool[string, *thing], w *works) {
		began := time.Now()
		mustGet(t, p, w, "a")
		if took := time.Since(began); took != w.take {
			t.Errorf("it took %s", took)
		}
		time.Sleep(time.Hour)
		if n := w.started(); n != 1 {
			t.Errorf("%d were started for a key that keeps none", n)
		}
	})
}

func TestAFixedNumberIsKept(t *testing.T) {
	inPool(t, 8, func(t *testing.T, p *Pool[string, *thing], w *works) {
		p.Keep("a", 3)
		time.Sleep(time.Minute)
		for range 3 {
			began := time.Now()
			mustGet(t, p, w, "a")
			if took := time.Since(began); took != 0 {
				t.Errorf("an idle one took %s", took)
			}
		}
		time.Sleep(24 * time.Hour)
		if c := p.Counts()["a"]; c != (Count{Wanted: 3, Idle: 3}) || w.started() != 6 {
			t.Errorf("%+v, %d started", c, w.started())
		}
		if all, waited := p.Served(); all != 3 || waited != 0 {
			t.Errorf("served %d, of which %d waited", all, waited)
		}
		p.Keep("a", 1)
		time.Sleep(time.Minute)
		if c := p.Counts()["a"]; c != (Count{Wanted: 1, Idle: 1}) {
			t.Errorf("after it wants fewer: %+v", c)
		}
	})
}

func TestTheOldestCallerGetsWhatComesFirst(t *testing.T) {
	inPool(t, 2, func(t *testing.T, p *Pool[string, *thing], w *works) {
		var order []int
		var mu sync.Mutex
		var group sync.WaitGroup
		for n := range 6 {
			group.Go(func() {
				x, err := p.Get(t.Context(), []string{"a", "b"}[n%2])
				if err != nil {
					t.Error(err)
					return
				}
				w.got(x)
				mu.Lock()
				order = append(order, n)
				mu.Unlock()
			})
			time.Sleep(time.Millisecond)
		}
		group.Wait()
		if !slices.Equal(order, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("served in the order %v", order)
		}
	})
}

func TestAnIdleOneMakesRoomForACallerOfAnotherKey(t *testing.T) {
	inPool(t, 2, func(t *testing.T, p *Pool[string, *thing], w *works) {
		p.Keep("old", 1)
		time.Sleep(time.Minute)
		p.Keep("new", 1)
		time.Sleep(time.Minute)
		mustGet(t, p, w, "other")
		if c := p.Counts(); c["new"].Idle != 1 {
			t.Errorf("not the one used longest ago went: %+v", c)
		}
		time.Sleep(time.Minute)
		if c := p.Counts(); c["old"].Idle != 1 || c["new"].Idle != 1 {
			t.Errorf("not filled again: %+v", c)
		}
	})
}

func TestADeadIdleOneIsReplaced(t *testing.T) {
	inPool(t, 4, func(t *testing.T, p *Pool[string, *thing], w *works) {
		p.Keep("a", 2)
		time.Sleep(time.Minute)
		w.set(func() {
			for x := range w.alive {
				x.die()
			}
		})
		time.Sleep(time.Minute)
		if c := p.Counts()["a"]; c.Idle != 2 || w.started() != 4 {
			t.Errorf("%+v, %d started", c, w.started())
		}
		mustGet(t, p, w, "a")
	})
}

func TestFailedStartsAreBackedOff(t *testing.T) {
	inPool(t, 8, func(t *testing.T, p *Pool[string, *thing], w *works) {
		w.set(func() { w.failing = true })
		if _, err := p.Get(t.Context(), "a"); !errors.Is(err, errNoLuck) {
			t.Errorf("Get = %v", err)
		}
		began := time.Now()
		if _, err := p.Get(t.Context(), "a"); !errors.Is(err, errNoLuck) || !errors.Is(err, functions.ErrUnavailable) || time.Since(began) != 0 {
			t.Errorf("Get right after = %v, after %s", err, time.Since(began))
		}
		p.Keep("a", 5)
		time.Sleep(time.Hour)
		w.set(func() {
			if w.tries < 10 || w.tries > 100 {
				t.Errorf("%d tries in an hour", w.tries)
			}
			w.failing = false
		})
		time.Sleep(longestRetry + time.Minute)
		if c := p.Counts()["a"]; c.Idle != 5 {
			t.Errorf("when it works again: %+v", c)
		}
	})
}

func TestInstancesThatDieAtOnceAreBackedOff(t *testing.T) {
	inPool(t, 8, func(t *testing.T, p *Pool[string, *thing], w *works) {
		w.set(func() { w.infant = true })
		p.Keep("a", 2)
		time.Sleep(time.Hour)
		if n := w.started(); n < 10 || n > 200 {
			t.Errorf("%d starts in an hour", n)
		}
	})
}

func TestAnAutoKeyExpires(t *testing.T) {
	inPool(t, 8, func(t *testing.T, p *Pool[string, *thing], w *works) {
		p.Keep("a", Auto)
		for range 20 {
			mustGet(t, p, w, "a")
			time.Sleep(5 * time.Second)
		}
		if c := p.Counts()["a"]; c.Idle != 1 {
			t.Errorf("while it is called: %+v", c)
		}
		time.Sleep(11 * time.Minute)
		w.set(func() {
			if c, ok := p.Counts()["a"]; ok || len(w.alive) != 0 {
				t.Errorf("long after: %+v, %d alive", c, len(w.alive))
			}
		})
	})
}

func TestARetiredKeyKeepsNothing(t *testing.T) {
	inPool(t, 8, func(t *testing.T, p *Pool[string, *thing], w *works) {
		p.Keep("a", 2)
		time.Sleep(time.Minute)
		p.Keep("a", 4)
		p.Retire("a") // two idle, two under way
		time.Sleep(time.Minute)
		w.set(func() {
			if len(w.alive) != 0 {
				t.Errorf("%d are alive", len(w.alive))
			}
		})
	})
}

func TestACallerThatGivesUpLeavesTheLine(t *testing.T) {
	inPool(t, 1, func(t *testing.T, p *Pool[string, *thing], w *works) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := p.Get(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get = %v", err)
		}
		began := time.Now()
		mustGet(t, p, w, "a") // what was started for the first
		if took := time.Since(began); took != w.take/2 {
			t.Errorf("the next waited %s", took)
		}
	})
}

func TestAPoolThatStopsAnswersItsCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorks(2)
		p := New(Config[string, *thing]{Start: w.start, Memory: 2 * functions.MiB, Overhead: functions.MiB})
		if _, err := p.Get(t.Context(), "a"); !errors.Is(err, functions.ErrUnavailable) {
			t.Errorf("Get before Run = %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx) }()
		synctest.Wait()
		p.Keep("a", 2)
		time.AfterFunc(500*time.Millisecond, cancel)
		if _, err := p.Get(t.Context(), "b"); !errors.Is(err, functions.ErrUnavailable) {
			t.Errorf("Get while it stops = %v", err)
		}
		<-done
		w.settled(t)
	})
}

// One random schedule of callers, deaths, failures and changes of mind. Whatever
// happens: an instance has one user, room is never exceeded, of two callers of one
// key the older is served first, and in the end nothing is left.
func TestRandomSchedules(t *testing.T) {
	keys := []string{"a", "b", "c"}
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			what, key, number int
			wait              time.Duration
		}
		most := rapid.IntRange(1, 6).Draw(rt, "most")
		// Never 0: room is checked 1 ns after each start, when all hand-outs of its instant are known.
		take := time.Duration(rapid.IntRange(0, 2000).Draw(rt, "take"))*time.Millisecond + 10
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{
				rapid.IntRange(0, 9).Draw(rt, "what"), rapid.IntRange(0, 2).Draw(rt, "key"), rapid.IntRange(-1, 4).Draw(rt, "number"),
				time.Duration(rapid.IntRange(0, 1500).Draw(rt, "wait")) * time.Millisecond,
			}
		}), 1, 60).Draw(rt, "steps")
		var faults []string
		synctest.Test(t, func(t *testing.T) {
			w := newWorks(most)
			w.take = take
			p := New(Config[string, *thing]{Start: w.start, Memory: functions.Bytes(most) * functions.MiB, Overhead: functions.MiB})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); p.Run(ctx) }()
			synctest.Wait()

			type call struct {
				key    string
				served time.Time // zero: refused or gave up
				ended  time.Time
			}
			var calls []*call
			var group sync.WaitGroup
			for _, s := range steps {
				key := keys[s.key]
				switch {
				case s.what < 5:
					c := &call{key: key}
					calls = append(calls, c)
					group.Go(func() {
						patience, cancel := context.WithTimeout(ctx, time.Duration(1+s.number*s.number)*time.Second)
						defer cancel()
						x, err := p.Get(patience, key)
						c.ended = time.Now()
						if err == nil {
							c.served = c.ended
							w.got(x)
						}
					})
				case s.what == 5:
					p.Keep(key, s.number)
				case s.what == 6:
					p.Retire(key)
				case s.what == 7:
					w.set(func() {
						for x := range w.alive {
							if x.key == key {
								x.die()
							}
						}
					})
				case s.what == 8:
					w.set(func() { w.failing = s.number < 1 })
				}
				synctest.Wait()
				time.Sleep(s.wait)
			}
			w.set(func() { w.failing = false })
			group.Wait()
			for i, older := range calls {
				for _, younger := range calls[i+1:] {
					if older.key == younger.key && !older.served.IsZero() && !younger.served.IsZero() && younger.served.Before(older.served) {
						w.wrong("a younger caller of %s was served before an older one", older.key)
					}
				}
			}
			for _, key := range keys {
				p.Keep(key, 0)
			}
			p.Keep("a", most)
			time.Sleep(2*longestRetry + time.Minute)
			if c := p.Counts()["a"]; c.Idle != most || c.Starting != 0 {
				w.wrong("at rest there are %+v of %d", c, most)
			}
			cancel()
			<-done
			w.settled(faultList{&faults})
		})
		for _, f := range faults {
			rt.Errorf("%s", f)
		}
	})
}

type faultList struct{ to *[]string }

func (f faultList) Errorf(format string, args ...any) {
	*f.to = append(*f.to, fmt.Sprintf(format, args...))
}
