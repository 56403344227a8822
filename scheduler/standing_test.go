package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"pgregory.net/rapid"
)

// TestEveryTaskHasAPlaceOfItsOwn: whatever lanes the tasks of a function wait in,
// their places are 0, 1, 2 and so on, so that a limit keeps exactly so many.
func TestEveryTaskHasAPlaceOfItsOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPool()
		tm := &term{pool: p, queue: newQueue(p)}
		fns := []*version{{index: 0, name: "f"}, {index: 1, name: "f"}, {index: 2, name: "other"}}
		var waiting []slot
		for i := range rapid.IntRange(1, 30).Draw(t, "tasks") {
			k, _ := keyOf(taskID(uint64(i) + 1))
			s := p.add(k)
			p.at(s).entered = int64(i / 2)
			v := rapid.SampledFrom(fns).Draw(t, "version")
			p.at(s).fn = v.index
			tm.queue.push(s, tm.queue.lane(laneKey{
				fn: v.index, prio: int16(rapid.IntRange(0, 1).Draw(t, "prio")), front: rapid.Bool().Draw(t, "front"),
				demand: rapid.SampledFrom([]demand{wantsCPU, prefersGPU, requiresGPU}).Draw(t, "demand"),
				size:   rapid.SampledFrom([]size{anySize, smallest}).Draw(t, "size"),
			}, v))
			waiting = append(waiting, s)
			if i > 0 && rapid.IntRange(0, 3).Draw(t, "leaves") == 0 {
				at := rapid.IntRange(0, len(waiting)-1).Draw(t, "which")
				tm.queue.remove(waiting[at])
				p.drop(waiting[at])
				waiting = append(waiting[:at], waiting[at+1:]...)
			}
		}
		places, all := map[int]bool{}, 0
		for _, s := range waiting {
			l := tm.queue.lanes[p.at(s).lane]
			if l.version.name != "f" || l.demand == wantsCPU {
				continue
			}
			q := tm.standingOf(s, l.version)
			if places[q.Ahead] || q.Ahead >= q.All {
				t.Fatalf("place %d of %d is given twice, or there is none", q.Ahead, q.All)
			}
			places[q.Ahead], all = true, q.All
		}
		if len(places) != all {
			t.Fatalf("%d tasks wait, and %d have a place", all, len(places))
		}
	})
}

func TestOthersThatWaitForGPUsCount(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f", Device: functions.Required})
		w.deploy(functions.Spec{Name: "even", Device: functions.Required})
		w.deploy(functions.Spec{Name: "urgent", Device: functions.Required, Priority: 5})
		w.deploy(functions.Spec{Name: "new", Device: functions.Required})
		w.node("g", 8, 1).behave = lasting(10*time.Second, time.Second)
		after(1100 * time.Millisecond)
		for _, fn := range []functions.Name{"f", "even", "urgent"} {
			train(w, fn, minSamples)
		}
		w.submit("f", nil)
		synctest.Wait()
		id := w.submit("f", nil)
		expect := func(gpu float64) {
			t.Helper()
			synctest.Wait()
			if got, _ := s.Explain(id); got.NextGPU != 10 || got.ExpectedGPU != gpu {
				t.Errorf("waiting: %+v, want it done in %g s", got, gpu)
			}
		}
		expect(20)
		for range 3 {
			w.submit("even", nil)
		}
		expect(30) // they take turns with it
		w.submit("urgent", nil)
		w.submit("urgent", nil)
		expect(50)
		w.submit("new", nil) // nobody knows how long that takes, and it may come first
		expect(0)
	})
}
