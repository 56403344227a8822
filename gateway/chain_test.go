package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// TestChainOfAttemptsIsShown: a task that failed on two GPUs and went to the CPU
// says so in its body, in its headers and in the figures.
func TestChainOfAttemptsIsShown(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	rec := w.do(t, "POST", "/async-function/echo?device=preferred", "{}")
	id := decode[struct{ ID functions.TaskID }](t, rec).ID
	attempt := func(node functions.NodeID, device functions.Device, gpu string, f *functions.Failure) {
		n := w.get(id).Attempt + 1
		asg := functions.Placement{Epoch: epoch, Attempt: n, Node: node, Boot: "b", Device: device, Reason: "of its turn"}
		if gpu != "" {
			asg.GPUs = []string{gpu}
		}
		w.apply(functions.Event{Kind: functions.Assign, Task: id, At: time.Now(), Asg: &asg})
		w.apply(functions.Event{Kind: functions.Finish, Task: id, At: time.Now(), Fin: &functions.Closing{Attempt: n, Node: node, Outcome: functions.Outcome{Failure: f}}})
	}
	attempt("n1", functions.GPU, "GPU-1", &functions.Failure{Class: functions.GPULost, Message: "Xid 79", Hint: "reset it"})
	w.release(id, functions.Verdict{To: functions.Queued, Why: "tried on another GPU"})
	attempt("n2", functions.GPU, "GPU-7", &functions.Failure{Class: functions.GPUHost, Message: "driver not loaded"})
	w.release(id, functions.Verdict{To: functions.Queued, Device: functions.CPU, Fallback: functions.GPUHost, Why: "respawned on the CPU"})
	attempt("n1", functions.CPU, "", nil)

	type view struct {
		Status, DeviceRequested, DeviceUsed string
		FallbackReason                      string `json:"fallback_reason"`
		Attempts                            []functions.Attempt
	}
	rec = w.do(t, "GET", "/v1/tasks/"+string(id), "")
	v := decode[view](t, rec)
	if v.Status != "succeeded" || v.FallbackReason != "gpu_host: driver not loaded" || len(v.Attempts) != 3 {
		t.Fatalf("%s", rec.Body)
	}
	for i, want := range []struct {
		node  functions.NodeID
		gpu   string
		class functions.Class
		then  string
	}{{"n1", "GPU-1", functions.GPULost, "tried on another GPU"}, {"n2", "GPU-7", functions.GPUHost, "respawned on the CPU"}, {"n1", "", "", ""}} {
		a := v.Attempts[i]
		var class functions.Class
		if a.Failure != nil {
			class = a.Failure.Class
		}
		if a.Number != i+1 || a.Node != want.node || strings.Join(a.GPUs, "") != want.gpu || class != want.class || a.Then != want.then || a.Reason == "" {
			t.Errorf("attempt %d: %+v, want %+v", i+1, a, want)
		}
	}
	for _, path := range []string{"/v1/tasks/" + string(id), "/v1/tasks/" + string(id) + "/result"} {
		h := w.do(t, "GET", path, "").Header()
		for k, want := range map[string]string{
			"Spillway-Device-Requested": "preferred", "Spillway-Device-Used": "cpu", "Spillway-Attempts": "3", "Spillway-Fallback-Reason": "gpu_host: driver not loaded",
		} {
			if h.Get(k) != want {
				t.Errorf("%s: %s is %q, want %q", path, k, h.Get(k), want)
			}
		}
	}
	figures := w.do(t, "GET", "/metrics", "").Body.String()
	for _, line := range []string{
		`spillway_cpu_fallbacks_total{function="echo",reason="gpu_host"} 1`,
		`spillway_gpu_attempt_failures_total{node="n1",reason="gpu_lost"} 1`,
		`spillway_gpu_attempt_failures_total{node="n2",reason="gpu_host"} 1`,
		`spillway_tasks_finished_total{device="cpu",function="echo",outcome="succeeded"} 1`,
		`spillway_gpu_state{gpu="GPU-3",node="n1",state="ejected"} 1`,
		`spillway_gpu_leases{gpu="GPU-1",node="n1"} 2`,
		`spillway_gpu_host_state{node="n1",state="off"} 1`,
	} {
		if !strings.Contains(figures, line+"\n") && !strings.Contains(figures, line+".0\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}
