package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/spillway/spillway/functions"
)

func TestGPUGauges(t *testing.T) {
	g := bare()
	read := time.Unix(1, 0)
	nodes := []functions.NodeStatus{{NodeInfo: functions.NodeInfo{ID: "n", GPUHost: &functions.GPUHostInfo{State: functions.GPUHostReady}, GPUs: []functions.GPUInfo{
		{UUID: "GPU-1", Model: "T4", Memory: 16 * functions.GiB, State: functions.GPULeased, ReadAt: read, Used: 6 * functions.GiB, Free: 9 * functions.GiB, Utilisation: 25,
			Leases: []functions.GPULease{{Task: "a"}, {Task: "b"}}},
		{UUID: "GPU-2", State: functions.GPUUnread, Utilisation: 0}, // nothing has read it: no figure, not 0
		{UUID: "GPU-3", State: functions.GPUEjected, ReadAt: read, Utilisation: -1},
	}}}}
	g.metrics.fill(nil, nodes)
	if problems, err := testutil.GatherAndLint(g.metrics.registry); err != nil || len(problems) != 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	want := `# HELP spillway_gpu_host_state 1 for the state that the node's GPUs as a whole are in.
# TYPE spillway_gpu_host_state gauge
spillway_gpu_host_state{node="n",state="none"} 0
spillway_gpu_host_state{node="n",state="off"} 0
spillway_gpu_host_state{node="n",state="ready"} 1
# HELP spillway_gpu_leases Tasks that hold the device.
# TYPE spillway_gpu_leases gauge
spillway_gpu_leases{gpu="GPU-1",node="n"} 2
spillway_gpu_leases{gpu="GPU-2",node="n"} 0
spillway_gpu_leases{gpu="GPU-3",node="n"} 0
# HELP spillway_gpu_memory_free_bytes Memory for further tasks: of what is promised and what was read, the less.
# TYPE spillway_gpu_memory_free_bytes gauge
spillway_gpu_memory_free_bytes{gpu="GPU-1",node="n"} 9.663676416e+09
spillway_gpu_memory_free_bytes{gpu="GPU-3",node="n"} 0
# HELP spillway_gpu_memory_size_bytes Memory of the device.
# TYPE spillway_gpu_memory_size_bytes gauge
spillway_gpu_memory_size_bytes{gpu="GPU-1",model="T4",node="n"} 1.7179869184e+10
# HELP spillway_gpu_memory_used_bytes Memory that is in use by anybody, as last read.
# TYPE spillway_gpu_memory_used_bytes gauge
spillway_gpu_memory_used_bytes{gpu="GPU-1",node="n"} 6.442450944e+09
spillway_gpu_memory_used_bytes{gpu="GPU-3",node="n"} 0
# HELP spillway_gpu_utilisation_ratio Share of the time that the device works, 0 to 1, as last read.
# TYPE spillway_gpu_utilisation_ratio gauge
spillway_gpu_utilisation_ratio{gpu="GPU-1",node="n"} 0.25
`
	if err := testutil.GatherAndCompare(g.metrics.registry, strings.NewReader(want), "spillway_gpu_host_state", "spillway_gpu_leases", "spillway_gpu_memory_free_bytes",
		"spillway_gpu_memory_size_bytes", "spillway_gpu_memory_used_bytes", "spillway_gpu_utilisation_ratio"); err != nil {
		t.Error(err)
	}
	for _, d := range nodes[0].GPUs {
		if got := testutil.ToFloat64(g.metrics.gpus.state.WithLabelValues("n", d.UUID, string(d.State))); got != 1 {
			t.Errorf("%s is %s, and the gauge says %v", d.UUID, d.State, got)
		}
	}
	if n := testutil.CollectAndCount(g.metrics.gpus.state); n != 15 {
		t.Errorf("%d rows of states, want every state of every device", n)
	}
	g.metrics.fill(nil, nil)
	for _, gauge := range g.metrics.gpus.gauges() {
		if n := testutil.CollectAndCount(gauge); n != 0 {
			t.Errorf("%d rows stay of a node that is gone", n)
		}
	}
}

func TestQuarantinesAreCounted(t *testing.T) {
	g := bare()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	say := func(state functions.GPUState, reason string, until time.Time) {
		g.SawNode(functions.NodeInfo{ID: "n", GPUs: []functions.GPUInfo{{UUID: "GPU-1", State: state, Reason: reason, Until: until}}})
	}
	const q, e = functions.GPUQuarantined, functions.GPUEjected
	say(q, "gpu_device: x", at(30)) // it was so before this server came
	say(functions.GPUFree, "", time.Time{})
	say(q, "gpu_missing: saw no device", at(60))
	say(q, "gpu_missing: saw no device", at(60)) // the next heartbeat says the same
	say(q, "gpu_missing: again", at(120))        // a trial has failed
	say(functions.GPULeased, "", time.Time{})
	say(functions.GPUUnread, "no reading for 4s", time.Time{})
	say(e, "Xid 79: fell off the bus", time.Time{})
	say(e, "Xid 79: fell off the bus", time.Time{})
	say(functions.GPUFree, "", time.Time{})
	say(q, "somebody else's words: long", at(200))
	for label, want := range map[[2]string]float64{
		{"quarantined", "gpu_missing"}: 2, {"ejected", "xid_79"}: 1, {"quarantined", "other"}: 1, {"quarantined", "gpu_device"}: 0,
	} {
		if got := testutil.ToFloat64(g.metrics.gpus.quarantines.WithLabelValues("n", label[0], label[1])); got != want {
			t.Errorf("%v: %v, want %v", label, got, want)
		}
	}
	g.metrics.fill(nil, nil)
	if len(g.metrics.gpus.seen) != 0 {
		t.Error("a node that is gone is remembered")
	}
}

func TestCauseIsBounded(t *testing.T) {
	for reason, want := range map[string]string{
		"gpu_host: could not select device driver": "gpu_host", "gpu_lost": "gpu_lost", "exit_error: x": "other", "": "other",
		"Xid 48": "xid_48", "the driver reported XID: 94, twice": "xid_94", "Xid 123456": "other", "oxid 7": "other",
	} {
		if got := cause(reason); got != want {
			t.Errorf("%q: %q, want %q", reason, got, want)
		}
	}
}

func TestFailuresOfGPUsAreCounted(t *testing.T) {
	g := bare()
	end := func(kind functions.Kind, device functions.Device, class functions.Class) {
		a := functions.Attempt{Number: 1, Node: "n", Device: device}
		if class != "" {
			a.Failure = &functions.Failure{Class: class}
		}
		g.Feed.Publish([]functions.Change{{Kind: kind, Before: functions.Assigned, Task: functions.Task{ID: "x", Function: "f", State: functions.Deciding, Attempts: []functions.Attempt{a}}}})
	}
	end(functions.Finish, functions.GPU, functions.GPUHung)
	end(functions.Release, functions.GPU, functions.GPUHung) // the same attempt, decided on
	end(functions.Finish, functions.GPU, functions.ExitError)
	end(functions.Finish, functions.CPU, functions.Declined)
	end(functions.Finish, functions.GPU, "")
	g.Feed.Publish([]functions.Change{{Kind: functions.Finish, Task: functions.Task{ID: "y", State: functions.Failed}}})
	if got := testutil.ToFloat64(g.metrics.gpus.failures.WithLabelValues("n", "gpu_hung")); got != 1 {
		t.Errorf("gpu_hung: %v, want 1", got)
	}
	if n := testutil.CollectAndCount(g.metrics.gpus.failures); n != 1 {
		t.Errorf("%d rows of failures, want 1", n)
	}
}
