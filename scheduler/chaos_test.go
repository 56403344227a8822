package scheduler

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
)

// TestChaos runs many tasks through random failures, refusals, lost answers,
// silent and restarting nodes, cancels, and leaders that are replaced while the
// old ones still write. What was accepted must end once, and nothing may ever be
// promised twice.
func TestChaos(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	for seed := range rounds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(uint64(seed), 7))) })
		})
	}
}

func chaos(t *testing.T, r *rand.Rand) {
	w := newWorld()
	locked := newLocked(rand.New(rand.NewPCG(r.Uint64(), 7)))
	w.appendErr = func() (bool, bool) { return locked(0.02), locked(0.02) }
	policies := []functions.Policy{functions.Required, functions.Preferred, functions.Fastest, functions.Never}
	var names []functions.Name
	for i := range 8 {
		name := functions.Name(fmt.Sprint("f", i))
		names = append(names, name)
		w.deploy(functions.Spec{
			Name: name, Device: policies[i%4], Priority: i % 3, Weight: 1 + i%2, Concurrency: []int{0, 5}[i%2],
			Retries: functions.Retries{Max: i % 3}, GPU: []*functions.GPUNeed{nil, {Memory: 3 * functions.GiB}, {Memory: 5 * functions.GiB}, {Count: 2}}[i/2],
			Limits: functions.Limits{CPUs: 0.5 + float64(i%3)}, QueueTimeout: functions.Duration(20 * time.Minute),
		})
	}
	names = append(names, "fast", "short")
	w.deploy(functions.Spec{Name: "fast", Device: functions.Fastest, SpillQueue: 6})
	w.deploy(functions.Spec{Name: "short", Device: functions.Preferred, SpillQueue: 2, GPU: &functions.GPUNeed{Count: 2}})
	within := [][]string{nil, {"media"}, {"nfs"}, {"media", "nfs"}} // only a has both
	nodes := []*fakeNode{w.node("a", 8, 2, sized(16*functions.GiB, 4)), w.node("b", 4, 1), w.node("c", 8, 0), w.node("d", 2, 0)}
	for i, n := range nodes {
		n.mu.Lock()
		n.info.Shares = within[3-i]
		n.mu.Unlock()
		n.answer = func() (bool, bool) { return locked(0.03), locked(0.03) }
		n.behave = func(a functions.Assignment) (time.Duration, functions.Outcome) {
			out := functions.Outcome{}
			switch {
			case locked(0.2) && a.Device == functions.GPU:
				out = failWith(classes[int(a.Task.ID[35])%10])
			case locked(0.15):
				out = failWith(classes[10+int(a.Task.ID[35]+a.Task.ID[34])%15])
			}
			return time.Duration(50+int(a.Task.ID[35])*20) * time.Millisecond, out
		}
	}
	schedulers := []*Scheduler{w.newScheduler(t), w.newScheduler(t)}
	leading := 0
	stop := w.lead(schedulers[0])

	var ids []functions.TaskID
	for step := range 300 {
		for range r.IntN(8) {
			shares := within[max(0, r.IntN(8)-4)]
			ids = append(ids, w.submit(names[r.IntN(len(names))], func(t *functions.Task) {
				for _, share := range shares {
					t.Inputs = append(t.Inputs, functions.Input{Name: share, File: share + "/x"})
				}
			}))
		}
		if r.IntN(4) == 0 {
			w.control(ids[r.IntN(len(ids))], []functions.Verb{functions.Cancel, functions.Retry}[r.IntN(2)])
		}
		if r.IntN(40) == 0 {
			nodes[r.IntN(len(nodes))].reboot()
		}
		if r.IntN(60) == 0 {
			n := nodes[r.IntN(len(nodes))]
			n.setSilent(true)
			time.AfterFunc(time.Duration(r.IntN(40))*time.Second, func() { n.setSilent(false) })
		}
		if step%60 == 59 { // the old leader is not told: it goes on writing for a while
			leading = 1 - leading
			next := w.lead(schedulers[leading])
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			_ = stop() // nil, or that it was deposed
			stop = next
		}
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
		if step%10 == 0 {
			synctest.Wait()
			explained(t, w, schedulers[leading], ids)
		}
	}
	w.mu.Lock()
	w.appendErr = nil
	w.mu.Unlock()
	for range 60 { // the longest wait is queue_timeout, 20 minutes
		if time.Sleep(time.Minute); live(w) == 0 {
			break
		}
	}
	synctest.Wait()
	w.mu.Lock()
	for _, id := range ids {
		if task := w.tasks[id]; !task.State.Final() {
			t.Errorf("task %s of %s (only %q) stays %s: %+v", id, task.Function, task.Only, task.State, task.Attempts)
		}
	}
	for _, wrong := range w.wrongs {
		t.Error(wrong)
	}
	t.Logf("%d tasks, %d messages, %d void events", len(ids), w.appends, w.stale)
	w.mu.Unlock()
	for _, n := range schedulers[leading].Nodes() {
		if n.Free != n.Capacity {
			t.Errorf("%s has %+v of %+v free at the end", n.ID, n.Free, n.Capacity)
		}
	}
	for _, name := range names {
		if got := schedulers[leading].QueueLength(name); got != 0 {
			t.Errorf("%d tasks of %s are queued at the end", got, name)
		}
	}
	schedulers[leading].ask(func(tm *term) {
		if len(tm.pool.index)+len(tm.attempts)+len(tm.alarms.all)+len(tm.queue.avoids)+tm.queue.n+len(tm.shares.index) != 0 {
			t.Errorf("the leader still keeps %d tasks, %d attempts, %d alarms", len(tm.pool.index), len(tm.attempts), len(tm.alarms.all))
		}
		for name, u := range tm.usages {
			if u.running != 0 {
				t.Errorf("%d attempts of %s are counted at the end", u.running, name)
			}
		}
	})
	if err := stop(); err != nil {
		t.Error(err)
	}
	w.close()
}

func live(w *world) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.tasks {
		if !t.State.Final() {
			n++
		}
	}
	return n
}

// explained checks that every task that waits can say why.
func explained(t *testing.T, w *world, s *Scheduler, ids []functions.TaskID) {
	t.Helper()
	for _, id := range ids {
		if w.task(id).State != functions.Queued {
			continue
		}
		if got, ok := s.Explain(id); !ok || got.Code == "" || got.Reason == "" {
			t.Errorf("task %s waits unexplained", id)
		}
	}
}

// newLocked draws with a generator of its own, for many goroutines.
func newLocked(r *rand.Rand) func(p float64) bool {
	var mu sync.Mutex // guards r
	return func(p float64) bool {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64() < p
	}
}
