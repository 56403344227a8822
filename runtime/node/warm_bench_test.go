package node

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// BenchmarkWarmTask measures what a task costs that finds a warm container: from
// Admit to the first instruction of its program, and to the fin event. Behind the
// last task the pool has been filled again, and the engine is at rest.
func BenchmarkWarmTask(b *testing.B) {
	b.Run("docker", func(b *testing.B) {
		w, cfg, _, image := warmDocker(b)
		cfg.Log = nil
		a := w.agent(cfg)
		measureWarm(b, a, 100*time.Millisecond, func() functions.Assignment { return w.warmImage(a, image, 2, "now") })
	})
	// The agent's own part: its files, the hand-over and the collecting.
	b.Run("no engine", func(b *testing.B) {
		w := newWorld(b)
		w.fake.Add("box", runtimetest.Box)
		cfg := w.warmConfig()
		cfg.Log = nil
		a := w.agent(cfg)
		measureWarm(b, a, time.Millisecond, func() functions.Assignment { return w.warmOrder(a, 2, "now") })
	})
}

func measureWarm(b *testing.B, a *agent, rest time.Duration, order func() functions.Assignment) {
	w := a.w
	k, _ := a.warm.learn(order().Function)
	var running, result []time.Duration
	for b.Loop() {
		b.StopTimer()
		w.until("the pool is full", func() bool { c := a.warm.pool.Counts()[k]; return c.Idle == 2 && c.Starting == 0 })
		time.Sleep(rest)
		as := order()
		as.Function.Stdout = functions.StdoutResult
		id := fmt.Sprintf("fin-%s-1", as.Task.ID)
		b.StartTimer()
		began := time.Now()
		a.admit(as)
		var e functions.Event
		for ok := false; !ok; time.Sleep(50 * time.Microsecond) {
			w.log.mu.Lock()
			e, ok = w.log.ids[id]
			w.log.mu.Unlock()
		}
		result = append(result, time.Since(began))
		out := e.Fin.Outcome
		if out.Failure != nil || !out.Warm {
			b.Fatalf("outcome %+v", out)
		}
		ran, err := strconv.ParseInt(strings.TrimSpace(string(out.Result)), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		running = append(running, time.Unix(0, ran).Sub(began))
	}
	for name, all := range map[string][]time.Duration{"running": running, "result": result} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name+"-p50-ms")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, name+"-p99-ms")
	}
}
