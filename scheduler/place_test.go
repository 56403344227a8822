package scheduler

import (
	"fmt"
	"slices"
	"testing"

	"github.com/spillway/spillway/functions"
)

// open is a ready node with free cores and GPUs of a memory in GiB; a negative
// memory is a leased GPU, 0 a quarantined one.
func open(id functions.NodeID, cores int64, gpus ...int) *room {
	res := functions.Resources{MilliCPU: cores * 1000, Memory: 64 * functions.GiB, Tasks: 10}
	r := &room{ID: id, Open: true, Capacity: res, Free: res}
	for i, m := range gpus {
		g := functions.GPUInfo{
			UUID: fmt.Sprintf("%s%d", id, i), Index: i, Memory: functions.Bytes(max(m, -m)) * functions.GiB, State: functions.GPUFree,
		}
		switch {
		case m < 0:
			g.State, g.Leases = functions.GPULeased, []functions.GPULease{{Task: "other"}}
		case m == 0:
			g.State = functions.GPUQuarantined
		}
		r.GPUs = append(r.GPUs, reported(g, nil))
	}
	r.countIdle()
	return r
}

// alone is a claim to one device of a memory in GiB alone.
func alone(gib functions.Bytes) functions.GPUClaim {
	return functions.GPUClaim{Count: 1, Memory: gib * functions.GiB, Exclusive: true}
}

func TestPlace(t *testing.T) {
	shut := open("shut", 64, 80)
	shut.Open = false
	with := func(r *room, shares ...string) *room { r.Shares = shares; return r }
	fleet := []*room{with(open("cpu1", 4), "media", "nfs"), open("cpu2", 8), with(open("gpu1", 16, 24, 24), "media"), open("gpu2", 16, 80, -80), open("sick", 16, 0), shut}
	one := functions.Resources{MilliCPU: 1000, Memory: functions.GiB, Tasks: 1}
	big := functions.Resources{MilliCPU: 12000, Memory: functions.GiB, Tasks: 1}
	for _, tt := range []struct {
		name string
		need need
		node functions.NodeID
		gpus []string
	}{
		{"CPU work takes the freest node without GPUs", need{Res: one}, "cpu2", nil},
		{"and a GPU node when nothing else fits", need{Res: big}, "gpu1", nil},
		{"a GPU alone is the smallest", need{Res: one, GPUs: 1}, "gpu1", []string{"gpu10"}},
		{"two come from one node", need{Res: one, GPUs: 2}, "gpu1", []string{"gpu10", "gpu11"}},
		{"three are nowhere", need{Res: one, GPUs: 3}, "", nil},
		{"memory", need{Res: one, GPUs: 1, Claim: alone(40)}, "gpu2", []string{"gpu20"}},
		{"too much memory", need{Res: one, GPUs: 1, Claim: alone(100)}, "", nil},
		{"a failed device is avoided", need{Res: one, GPUs: 1, Avoid: &avoidance{Devices: []string{"gpu10"}}}, "gpu1", []string{"gpu11"}},
		{"a failed host is avoided", need{Res: one, GPUs: 1, Avoid: &avoidance{Never: []functions.NodeID{"gpu1", "gpu2"}}}, "", nil},
		{"a failed GPU host still does CPU work", need{Res: big, Avoid: &avoidance{Never: []functions.NodeID{"gpu1"}}}, "gpu1", nil},
		{"a share decides the node", need{Res: one, Shares: []string{"media"}}, "cpu1", nil},
		{"two shares on one node", need{Res: one, Shares: []string{"media", "nfs"}}, "cpu1", nil},
		{"a share and room", need{Res: big, Shares: []string{"media"}}, "gpu1", nil},
		{"a share and a GPU", need{Res: one, GPUs: 1, Shares: []string{"media"}}, "gpu1", []string{"gpu10"}},
		{"a share and a GPU are on different nodes", need{Res: one, GPUs: 1, Shares: []string{"nfs"}}, "", nil},
		{"a share that nobody has", need{Res: one, Shares: []string{"attic"}}, "", nil},
		{"one that refused comes last", need{Res: one, GPUs: 1, Avoid: &avoidance{Rather: []functions.NodeID{"gpu1"}}}, "gpu2", []string{"gpu20"}},
		{"but is better than none", need{Res: one, GPUs: 2, Avoid: &avoidance{Rather: []functions.NodeID{"gpu1"}}}, "gpu1", []string{"gpu10", "gpu11"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, gpus := place(fleet, tt.need)
			var got functions.NodeID
			if r != nil {
				got = r.ID
			}
			if got != tt.node || !slices.Equal(gpus, tt.gpus) {
				t.Errorf("got %q %v, want %q %v", got, gpus, tt.node, tt.gpus)
			}
		})
	}
	equal := []*room{open("more", 16, 24, 24), open("fewer", 16, 24, -24)}
	if r, _ := place(equal, need{Res: one, GPUs: 1}); r.ID != "fewer" {
		t.Errorf("of equal GPUs, one of %s was taken, which has more left", r.ID)
	}
	if got, want := supplyOf(fleet, need{Res: one, GPUs: 1, Shares: []string{"media"}}), (supply{Nodes: 2, Total: 2, Suited: true, Fits: true}); got != want {
		t.Errorf("supply of a share is %+v, want %+v", got, want)
	}
	s := supplyOf(fleet, need{Res: one, GPUs: 2})
	want := supply{Nodes: 5, Total: 5, Leased: 1, Quarantined: 1, Suited: true, Fits: true}
	if s != want {
		t.Errorf("supply is %+v, want %+v", s, want)
	}
}
