package scheduler

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

func TestPlacesOnSharedGPUs(t *testing.T) {
	const s = time.Second
	w := newWorld()
	w.deploy(functions.Spec{Name: "shared", Device: functions.Required, GPU: &functions.GPUNeed{Memory: functions.GiB}})
	w.deploy(functions.Spec{Name: "alone", Device: functions.Required})
	w.deploy(functions.Spec{Name: "both", Device: functions.Required, GPU: &functions.GPUNeed{Count: 2}})
	w.deploy(functions.Spec{Name: "pair", Device: functions.Required, GPU: &functions.GPUNeed{Count: 2, Memory: functions.GiB}})
	w.deploy(functions.Spec{Name: "large", Device: functions.Required, GPU: &functions.GPUNeed{Memory: 40 * functions.GiB}})
	w.deploy(functions.Spec{Name: "new", Device: functions.Required, GPU: &functions.GPUNeed{Memory: functions.GiB}})
	now := time.Unix(1e9, 0)
	tm := newTerm(Config{Log: w, Nodes: w, Tasks: w, Functions: w, Now: func() time.Time { return now }}.withDefaults(), slog.New(slog.DiscardHandler), 1)
	info := functions.NodeInfo{ID: "n", Boot: "1", Ready: true, Capacity: functions.Resources{MilliCPU: 64_000, Memory: functions.TiB, Tasks: 64}}
	for _, uuid := range []string{"a", "b", "c"} {
		g := functions.GPUInfo{UUID: uuid, Memory: 24 * functions.GiB, State: functions.GPULeased, MaxLeases: 4}
		if uuid == "c" {
			g.State = functions.GPUQuarantined
		}
		info.GPUs = append(info.GPUs, g)
	}
	tm.node("n").report(info, now)
	tm.refresh()
	for range minSamples {
		tm.estimates.learn(versionKey{"shared", 1}, functions.GPU, noInput, sample{10 * s, now.Unix()}, false)
	}
	last := uint64(0)
	hold := func(fn functions.Name, uuid string, began time.Duration) {
		last++
		task := functions.Task{ID: taskID(last), Function: fn, Version: 1, State: functions.Assigned, Attempt: 1, Seq: last}
		task.Attempts = []functions.Attempt{{Number: 1, Node: "n", Boot: "1", Device: functions.GPU, GPUs: []string{uuid}, StartedAt: now.Add(-began)}}
		if err := tm.apply(&task, fromSnapshot); err != nil {
			t.Fatal(err)
		}
	}
	want := func(fn functions.Name, places ...time.Duration) {
		t.Helper()
		tm.forecast = forecast{}
		v := tm.version(fn, 1)
		if got := tm.placesFor(v, v.need(functions.GPU, nil, tm.queue.avoids[none])); !slices.Equal(got, places) {
			t.Errorf("places for %s are %v, want %v", fn, got, places)
		}
	}
	hold("shared", "a", 2*s)
	hold("shared", "a", 5*s)
	hold("shared", "b", 1*s)
	want("shared", 5*s, 8*s, 9*s)
	want("alone", 8*s, 9*s)
	want("both", 9*s)
	want("pair", 9*s)
	want("large")
	hold("new", "b", 1*s) // nobody knows how long it holds b
	want("shared", 5*s, 8*s, 9*s)
	want("alone", 8*s)
	want("both")
}
