package scheduler

import (
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

func TestDecide(t *testing.T) {
	route := func(p functions.Policy, contentType string) functions.Route {
		return functions.Route{Policy: p, ContentType: contentType}.Decide()
	}
	var (
		free  = supply{Nodes: 1, Total: 2, Leased: 1, Suited: true, Fits: true}
		busy  = supply{Nodes: 1, Total: 2, Leased: 1, Quarantined: 1, Suited: true}
		sick  = supply{Nodes: 1, Total: 2, Quarantined: 2}
		small = supply{Nodes: 1, Total: 2}
		bare  = supply{Nodes: 2}
		cold  = supply{Nodes: 1, Total: 1, Suited: true, Fits: true, Shunned: true}
	)
	const cpu, gpu, wait = "cpu", "gpu", "wait"
	for _, tt := range []struct {
		name   string
		route  functions.Route
		only   functions.Device
		waited time.Duration
		supply supply
		want   string
		reason string
	}{
		{"never", route(functions.Never, "audio/mpeg"), "", 0, free, cpu, "policy never: CPU only"},
		{"auto, a document", route(functions.Auto, "application/pdf"), "", 0, free, cpu, "policy auto: application/pdf does not gain from a GPU"},
		{"auto, sound", route(functions.Auto, "audio/mpeg"), "", 0, free, gpu, "policy auto: audio (audio/mpeg) gains from a GPU; one is free"},
		{"auto, sound, busy", route(functions.Auto, "audio/mpeg"), "", 0, busy, wait, "every GPU is busy"},
		{"required, free", route(functions.Required, ""), "", 0, free, gpu, "policy required: a GPU or nothing; one is free"},
		{"required, busy for long", route(functions.Required, ""), "", time.Hour, busy, wait, "every GPU is busy"},
		{"required, none", route(functions.Required, ""), "", time.Hour, bare, wait, "no ready node has a GPU"},
		{"required, only refusing ones", route(functions.Required, ""), "", time.Hour, cold, gpu, "policy required: a GPU or nothing; one is free"},
		{"preferred, busy", route(functions.Preferred, ""), "", 29 * time.Second, busy, wait, "every GPU is busy"},
		{"preferred, busy for long", route(functions.Preferred, ""), "", 30 * time.Second, busy, cpu, "spilled after 30s: every GPU is busy"},
		{"preferred, freed in time", route(functions.Preferred, ""), "", time.Hour, free, gpu, "policy preferred: a GPU first; one is free"},
		{"preferred, quarantined", route(functions.Preferred, ""), "", 0, sick, cpu, "on the CPU at once: every GPU is quarantined"},
		{"preferred, none", route(functions.Preferred, ""), "", 0, bare, cpu, "on the CPU at once: no ready node has a GPU"},
		{"preferred, too small", route(functions.Preferred, ""), "", 0, small, cpu, "on the CPU at once: no ready node offers 1 healthy GPU(s) of 8GiB and the rest of what the function needs"},
		{"preferred, no node", route(functions.Preferred, ""), "", 0, supply{}, wait, "no node is ready"},
		{"preferred, refused", route(functions.Preferred, ""), "", time.Second, cold, gpu, "policy preferred: a GPU first; one is free"},
		{"preferred, refused for long", route(functions.Preferred, ""), "", time.Minute, cold, cpu, "spilled after 30s: the node with a free GPU does not take the task"},
		{"fixed to the CPU", route(functions.Required, ""), functions.CPU, 0, free, cpu, "only the CPU is left for this task"},
		{"fixed to a GPU", route(functions.Never, ""), functions.GPU, time.Hour, busy, wait, "every GPU is busy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := decide(ask{
				Route: tt.route, Only: tt.only, Waited: tt.waited, SpillAfter: 30 * time.Second, GPUs: 1, Memory: 8 * functions.GiB,
			}, tt.supply)
			got := string(d.Device)
			if d.Wait {
				got = wait
			}
			if got != tt.want || d.Reason != tt.reason {
				t.Errorf("got %s, %q\nwant %s, %q", got, d.Reason, tt.want, tt.reason)
			}
		})
	}
}
