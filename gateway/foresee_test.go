package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway"
)

// cluster is a scheduler whose nodes a test chooses.
type cluster struct {
	*world
	nodes []functions.NodeStatus
	asked int
}

func (c *cluster) Nodes() []functions.NodeStatus { c.asked++; return c.nodes }

// small is a CPU node, with GPUs when memory is given for them.
func small(gpus ...functions.Bytes) functions.NodeStatus {
	n := functions.NodeStatus{Alive: true, NodeInfo: functions.NodeInfo{ID: "n1", Ready: true, Capacity: functions.Resources{MilliCPU: 4000, Memory: 8 * functions.GiB, Tasks: 8}}}
	for _, memory := range gpus {
		n.GPUs = append(n.GPUs, functions.GPUInfo{UUID: "GPU-" + string(rune('a'+len(n.GPUs))), State: functions.GPUFree, Memory: memory})
	}
	return n
}

// TestWhatNoNodeCanRun is accepted, since a node that can may join, and its
// answers say so.
func TestWhatNoNodeCanRun(t *testing.T) {
	for _, c := range []struct {
		name     string
		spec     string
		nodes    []functions.NodeStatus
		deployed string // the warning of the deployment, in part
		called   string // that of a call
	}{
		{"a small function", `{"name":"f","image":"i"}`, []functions.NodeStatus{small()}, "", ""},
		{"no node has joined", `{"name":"f","image":"i","device":"required"}`, nil, "", ""},
		{"no GPU", `{"name":"f","image":"i","device":"required"}`, []functions.NodeStatus{small()}, "no node has one", "no node has one"},
		{"too large a GPU", `{"name":"f","image":"i","device":"required","gpu":{"memory":"200GiB"}}`, []functions.NodeStatus{small(80 * functions.GiB)}, "80GiB", "200GiB"},
		{"too many GPUs", `{"name":"f","image":"i","device":"required","gpu":{"count":3}}`, []functions.NodeStatus{small(functions.GiB, functions.GiB)}, "the largest node has 2", "3 GPUs"},
		{"too much memory", `{"name":"f","image":"i","limits":{"memory":"64GiB"}}`, []functions.NodeStatus{small()}, "64GiB", "64GiB"},
		{"the CPU is left", `{"name":"f","image":"i","device":"preferred","gpu":{"memory":"200GiB"}}`, []functions.NodeStatus{small(80 * functions.GiB)}, "it runs on the CPU", ""},
	} {
		scheduler := &cluster{nodes: c.nodes}
		w := newWorld(t, func(cfg *gateway.Config) { cfg.Scheduler = scheduler })
		scheduler.world, w.run = w, nil
		type body struct{ Warning string }
		for _, call := range []struct{ what, method, path, body, want string }{
			{"deploy", "POST", "/v1/functions", c.spec, c.deployed},
			{"asynchronous call", "POST", "/async-function/f", "{}", c.called},
			{"synchronous call", "POST", "/v1/functions/f/invoke?wait=1ms", "{}", c.called},
			{"task", "POST", "/v1/tasks?wait=1ms", `{"function":"f"}`, c.called},
			{"upload", "POST", "/v1/uploads", `{"function":"f","name":"a.txt","size":1}`, c.called},
		} {
			rec := w.do(t, call.method, call.path, call.body)
			if rec.Code != 201 && rec.Code != 202 {
				t.Fatalf("%s, %s: %d %s", c.name, call.what, rec.Code, rec.Body)
			}
			said := decode[body](t, rec).Warning
			if !strings.Contains(said, call.want) || (said != "") != (call.want != "") || said != rec.Header().Get("Spillway-Warning") {
				t.Errorf("%s, %s: warns of %q, and in the header of %q; want %q", c.name, call.what, said, rec.Header().Get("Spillway-Warning"), call.want)
			}
		}
	}
}

// TestWarningsFollowTheCall: the device of the call counts, not the function's.
func TestWarningsFollowTheCall(t *testing.T) {
	scheduler := &cluster{nodes: []functions.NodeStatus{small()}}
	w := newWorld(t, func(cfg *gateway.Config) { cfg.Scheduler = scheduler })
	scheduler.world, w.run = w, nil
	for device, warned := range map[string]bool{"required": true, "preferred": false, "auto": false, "fastest": false, "never": false} {
		rec := w.do(t, "POST", "/async-function/echo?device="+device, "{}")
		if got := rec.Header().Get("Spillway-Warning") != ""; got != warned {
			t.Errorf("device %s: warned %v", device, got)
		}
	}
}

// TestNobodyWaitsForWhatNeverRuns: the answer is there at once, though the caller
// would wait.
func TestNobodyWaitsForWhatNeverRuns(t *testing.T) {
	scheduler := &cluster{nodes: []functions.NodeStatus{small()}}
	w := newWorld(t, func(cfg *gateway.Config) { cfg.Scheduler = scheduler })
	scheduler.world, w.run = w, nil
	began := time.Now()
	rec := w.do(t, "POST", "/v1/functions/echo/invoke?wait=60s&device=required", "{}")
	if rec.Code != 202 || time.Since(began) > 30*time.Second {
		t.Errorf("%d after %s: %s", rec.Code, time.Since(began), rec.Body)
	}
}

// TestForesightIsShortLived: many calls look at the nodes once, and those after a
// node has joined look again.
func TestForesightIsShortLived(t *testing.T) {
	now := time.Unix(1000, 0)
	scheduler := &cluster{nodes: []functions.NodeStatus{small()}}
	w := newWorld(t, func(cfg *gateway.Config) { cfg.Scheduler, cfg.Now = scheduler, func() time.Time { return now } })
	scheduler.world, w.run = w, nil
	warned := func() bool {
		return w.do(t, "POST", "/async-function/echo?device=required", "{}").Header().Get("Spillway-Warning") != ""
	}
	for range 5 {
		if !warned() {
			t.Error("not warned")
		}
	}
	if scheduler.asked != 1 {
		t.Errorf("5 calls looked at the nodes %d times", scheduler.asked)
	}
	scheduler.nodes = append(scheduler.nodes, small(80*functions.GiB))
	now = now.Add(2 * time.Second)
	if warned() || scheduler.asked != 2 {
		t.Errorf("a node that can has joined, and the warning stays (%d looks)", scheduler.asked)
	}
	now = now.Add(-time.Hour) // a clock that was set back
	scheduler.nodes = scheduler.nodes[:1]
	if !warned() {
		t.Error("an old answer holds for an hour")
	}
}
