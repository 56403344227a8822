package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// BenchmarkFastestRound measures a round in which nothing can be placed: tasks
// of 400 functions under policy fastest wait for 128 GPUs and 16 nodes, all held by
// attempts that are expected to end some day. Its last part explains them.
func BenchmarkFastestRound(b *testing.B) {
	l := newLoopback(b)
	t := newTerm(l.s.cfg, l.s.log, 1)
	t.now = time.Now()
	for f := range 400 {
		v := versionKey{functions.Name(fmt.Sprint("f", f)), 1}
		for i := range maxSamples {
			t.estimates.learn(v, functions.GPU, noInput, sample{time.Duration(10+i) * time.Second, t.now.Unix()}, false)
			t.estimates.learn(v, functions.CPU, noInput, sample{time.Duration(20+i) * time.Second, t.now.Unix()}, false)
		}
	}
	for i := range 16 {
		info := functions.NodeInfo{ID: functions.NodeID(fmt.Sprint("n", i)), Boot: "1", Ready: true}
		info.Capacity = functions.Resources{MilliCPU: 64_000, Memory: 1 << 40, Tasks: 100}
		for g := range 8 {
			info.GPUs = append(info.GPUs, functions.GPUInfo{UUID: fmt.Sprint(i, "-", g), State: functions.GPUFree})
		}
		t.node(info.ID).report(info, t.now)
	}
	t.refresh()
	for i := range 16 * 64 {
		task := benchTask(1_000_000+i, 400)
		task.State, task.Attempt = functions.Assigned, 1
		a := functions.Attempt{Number: 1, Node: functions.NodeID(fmt.Sprint("n", i%16)), Boot: "1", Device: functions.CPU, StartedAt: t.now}
		if i < 128 {
			a.Device, a.GPUs = functions.GPU, []string{fmt.Sprint(i%16, "-", i/16)}
		}
		task.Attempts = []functions.Attempt{a}
		if err := t.apply(&task, fromSnapshot); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 100_000 {
		task := benchTask(i, 400)
		task.Route = functions.Route{Policy: functions.Fastest}.Decide()
		if err := t.apply(&task, functions.Submit); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if got := t.plan(); len(got) != 0 {
			b.Fatalf("placed %d", len(got))
		}
	}
	start := time.Now()
	const explained = 100
	for i := range explained {
		if w, ok := t.explain(taskID(uint64(i)*997 + 1)); !ok || w.Reason == "" {
			b.Fatal("unexplained")
		}
	}
	b.ReportMetric(float64(time.Since(start).Microseconds())/explained, "us/explain")
}
