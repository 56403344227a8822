package gpu

import (
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// during leases a device to a task that uses it, and ends the task.
func (r *rig) during(claim functions.GPUClaim, used functions.Bytes, processes ...probe.Process) {
	r.t.Helper()
	g, release := r.lends(claim)
	r.uses(g.Index, used, processes...)
	r.read()
	r.Report(nil, []string{g.UUID})
	release()
}

func TestADeviceIsGivenAgainWhenAReadingShowsItsMemoryBack(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.uses(0, gib/2)
		r.read()
		r.during(some(1), 20*gib)
		r.refuses(some(1)) // no reading yet
		r.is("a", functions.GPUFree, "not seen free yet")
		r.uses(0, 6*gib)
		r.read() // going back
		r.refuses(share(gib))
		r.uses(0, gib/2+returnSlack)
		r.read()
		r.is("a", functions.GPUFree, "")
		r.lends(some(1))
	})
}

func TestMemoryThatDoesNotComeBack(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.uses(0, gib)
		r.read()
		stay := gib + 21*gib/5
		r.during(share(8*gib), 9*gib)
		r.uses(0, stay)
		for range int(returnWithin / time.Second) {
			r.read()
			if s := r.device("a").State; s != functions.GPUFree {
				t.Fatalf("already %s", s)
			}
		}
		r.read()
		r.is("a", functions.GPUQuarantined, (stay-gib).String()+" are still in use after the task's end")
		for range int(firstQuarantine / time.Second) {
			r.read()
		}
		_, release := r.lends(share(4 * gib)) // from now on it counts as somebody else's
		r.uses(0, 20*gib)
		r.read()
		r.Report(nil, []string{"a"})
		release()
		r.uses(0, stay)
		r.read()
		r.is("a", functions.GPUFree, "")
		r.lends(share(4 * gib))
	})
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.during(some(1), 9*gib)
		for range 40 {
			r.read()
		}
		r.is("a", functions.GPUQuarantined, "9GiB are still in use")
		r.uses(0, 0)
		r.read() // late, and all the same
		r.lends(some(1))
	})
}

func TestAProcessOfSomebodyElseIsNoTrace(t *testing.T) {
	before, ours, after := probe.Process{PID: 1, Memory: 2 * gib}, probe.Process{PID: 2, Memory: 6 * gib}, probe.Process{PID: 3, Memory: 3 * gib}
	grown := before
	grown.Memory = 9 * gib
	for name, c := range map[string]struct {
		used      functions.Bytes
		processes []probe.Process
		back      bool
	}{
		"it has grown":               {10 * gib, []probe.Process{grown}, true},
		"it came after the end":      {6 * gib, []probe.Process{before, after}, true},
		"ours is still there":        {9 * gib, []probe.Process{before, ours}, false},
		"memory of no process":       {9 * gib, []probe.Process{before}, false},
		"nothing but what was there": {3 * gib, []probe.Process{before}, true},
	} {
		t.Run(name, func(t *testing.T) {
			rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
				r.uses(0, 3*gib, before)
				r.read()
				r.during(share(6*gib), 9*gib, before, ours)
				r.uses(0, c.used, c.processes...)
				r.read()
				r.read()
				if waits := r.device("a").Reason != ""; waits == c.back {
					t.Errorf("%+v", r.device("a"))
				}
			})
		})
	}
}

func TestWhoComesAfterTheEndIsNoTraceEither(t *testing.T) {
	ours, other := probe.Process{PID: 2, Memory: 6 * gib}, probe.Process{PID: 3, Memory: 3 * gib}
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.during(share(6*gib), 6*gib, ours)
		r.uses(0, 9*gib, ours, other)
		r.read()
		r.is("a", functions.GPUFree, "not seen free yet")
		r.uses(0, 3*gib, other)
		r.read()
		r.is("a", functions.GPUFree, "")
	})
}

func TestBesideOtherTasksTheirPromisesExplainWhatIsUsed(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.lends(share(8 * gib))
		free := r.device("a").Free
		_, release := r.lends(share(8 * gib)) // and uses nothing
		for range 20 {
			r.read()
		}
		release()
		if g := r.device("a"); g.Free != 24*gib-functions.GPUOverhead-2*(8*gib+functions.GPUOverhead) {
			t.Errorf("the promise was forgotten before a reading: %s", g.Free)
		}
		r.read()
		r.during(share(8*gib), 16*gib)
		r.uses(0, 8*gib)
		for range 20 {
			r.read()
		}
		if g := r.device("a"); g.Free != free {
			t.Errorf("free %s, want %s", g.Free, free)
		}
		r.during(share(4*gib), 16*gib) // the first uses twice what it declared, or the second stays: nobody can tell
		for range 40 {
			r.read()
		}
		if g := r.device("a"); g.State != functions.GPULeased || g.Free != 8*gib-functions.GPUOverhead {
			t.Errorf("the reading alone counts then: %+v", g)
		}
	})
}

func TestWithoutReadingsADeviceIsGivenAtOnce(t *testing.T) {
	p := pool(t, Assumed(1)...)
	for range 3 {
		_, release, err := p.Acquire("t", some(1), nil)
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
}
