package scheduler

import (
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"pgregory.net/rapid"
)

func TestKeyKeepsTheID(t *testing.T) {
	for _, id := range []functions.TaskID{"01890a5d-ac96-774b-bcce-b302099a8057", taskID(1)} {
		if k, ok := keyOf(id); !ok || k.id() != id {
			t.Errorf("%s becomes %s (%v)", id, k.id(), ok)
		}
	}
	for _, id := range []functions.TaskID{"", "x", "01890a5d-ac96-774b-bcce-b302099a805g", "01890a5dxac96x774bxbccexb302099a8057"} {
		if _, ok := keyOf(id); ok {
			t.Errorf("%q is taken for an id", id)
		}
	}
}

// TestQueueIsAListPerLane holds the linked lanes against plain slices.
func TestQueueIsAListPerLane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPool()
		q := newQueue(p)
		vs := []*version{{index: 0, name: "a"}, {index: 1, name: "b"}}
		model := map[int32][]slot{}
		next := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				next++
				k, _ := keyOf(taskID(next))
				v := rapid.SampledFrom(vs).Draw(t, "version")
				li := q.lane(laneKey{fn: v.index, prio: int16(rapid.IntRange(0, 2).Draw(t, "prio")), front: rapid.Bool().Draw(t, "front")}, v)
				s := p.add(k)
				q.push(s, li)
				model[li] = append(model[li], s)
			},
			"remove": func(t *rapid.T) {
				for li, l := range model {
					if len(l) == 0 {
						continue
					}
					i := rapid.IntRange(0, len(l)-1).Draw(t, "place")
					q.remove(l[i])
					p.drop(l[i])
					model[li] = slices.Delete(l, i, i+1)
					return
				}
			},
			"": func(t *rapid.T) {
				total := 0
				for li, want := range model {
					var got []slot
					for s := q.lanes[li].head; s != none; s = p.at(s).next {
						got = append(got, s)
						if n := q.ahead(s); !q.lanes[li].front && n < len(got)-1 {
							t.Fatalf("%d ahead of number %d", n, len(got))
						}
					}
					if !slices.Equal(got, want) || q.lanes[li].n != len(want) {
						t.Fatalf("lane holds %v, want %v", got, want)
					}
					total += len(want)
				}
				active := 0
				for i, lv := range q.levels {
					if i > 0 && lv.prio >= q.levels[i-1].prio {
						t.Fatal("levels are not in order")
					}
					for _, ln := range lv.active {
						active += ln.n
					}
				}
				if q.n != total || active != total || len(p.index) != total {
					t.Fatalf("counts %d queued, %d in active lines, %d in the pool, want %d", q.n, active, len(p.index), total)
				}
			},
		})
	})
}

func TestAlarmsRingInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPool()
		a := &alarms{pool: p}
		start := time.Unix(1000, 0)
		set := map[slot]time.Time{}
		for i := range rapid.IntRange(1, 50).Draw(t, "n") {
			k, _ := keyOf(taskID(uint64(i)))
			s := p.add(k)
			set[s] = start.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "at")) * time.Second)
			a.set(s, set[s])
		}
		for s := range set {
			if s%3 == 0 {
				a.cancel(s)
				delete(set, s)
			}
		}
		last := start
		for {
			s, ok := a.due(start.Add(50 * time.Second))
			if !ok {
				break
			}
			if set[s].Before(last) || set[s].After(start.Add(50*time.Second)) {
				t.Fatalf("rang at %s after %s", set[s], last)
			}
			last = set[s]
			delete(set, s)
		}
		for _, at := range set {
			if !at.After(start.Add(50 * time.Second)) {
				t.Fatalf("%s did not ring", at)
			}
		}
	})
}
