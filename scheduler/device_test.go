package scheduler

import (
	"fmt"
	"slices"
	"testing"

	"github.com/spillway/spillway/functions"
	"pgregory.net/rapid"
)

const gib = functions.GiB

// shared is a claim to so many devices with others.
func shared(count int, gib functions.Bytes) functions.GPUClaim {
	return functions.GPUClaim{Count: count, Memory: gib * functions.GiB}
}

// gpu is a device that was read: its size and what is free, in GiB, and the
// memory of its leases, of which 0 is one alone.
func gpu(size, free functions.Bytes, leases ...functions.Bytes) functions.GPUInfo {
	g := functions.GPUInfo{Memory: size * gib, Free: free * gib, Used: (size - free) * gib, State: functions.GPUFree, MaxLeases: 4, ReadAt: now}
	for i, m := range leases {
		g.Leases = append(g.Leases, functions.GPULease{Task: taskID(uint64(1000 + i)), Memory: m * gib})
		g.State = functions.GPULeased
	}
	return g
}

// gpuHost is an idle node of such devices.
func gpuHost(id functions.NodeID, gpus ...functions.GPUInfo) *room {
	res := functions.Resources{MilliCPU: 64000, Memory: 64 * gib, Tasks: 64}
	r := &room{ID: id, Open: true, Capacity: res, Free: res}
	for i, g := range gpus {
		g.UUID, g.Index = fmt.Sprint(id, i), i
		r.GPUs = append(r.GPUs, reported(g, r.GPUHost))
	}
	r.countIdle()
	return r
}

func TestPlaceOnGPUs(t *testing.T) {
	with := func(r *room, h functions.GPUHostInfo) *room { r.GPUHost = &h; return r }
	can := func(g functions.GPUInfo, what ...string) functions.GPUInfo { g.Can = what; return g }
	part := func(g functions.GPUInfo) functions.GPUInfo { g.Parent = "GPU-parent"; return g }
	fleet := []*room{
		gpuHost("a", gpu(24, 23), gpu(24, 12, 11), gpu(24, 4, 19)),
		gpuHost("b", gpu(80, 79), gpu(80, 79)),
		gpuHost("c", can(gpu(16, 15), "nvenc")),
		gpuHost("d", part(gpu(20, 19)), part(gpu(20, 19))),
	}
	old := []*room{with(gpuHost("old", gpu(16, 15)), functions.GPUHostInfo{State: functions.GPUHostReady, Driver: "535.54.03", CUDA: "12.2"}), fleet[1]}
	bad := []*room{with(gpuHost("bad", gpu(16, 15)), functions.GPUHostInfo{State: functions.GPUHostReady, Unsuited: []functions.UnsuitedImage{{Image: "new"}}}), fleet[1]}
	all := functions.GPUClaim{Count: 1, All: true}
	for _, tt := range []struct {
		name  string
		rooms []*room
		need  need
		gpus  []string
	}{
		{"shared, where least is left", fleet, need{Claim: shared(1, 3)}, []string{"a2"}},
		{"shared, the next that has room", fleet, need{Claim: shared(1, 8)}, []string{"a1"}},
		{"shared, an idle one at last", fleet, need{Claim: shared(1, 14)}, []string{"c0"}},
		{"shared, larger than the small ones", fleet, need{Claim: shared(1, 40)}, []string{"b0"}},
		{"shared, of two on one node", fleet, need{GPUs: 2, Claim: shared(2, 8)}, []string{"a1", "a0"}},
		{"shared, and another device failed it", fleet, need{Claim: shared(1, 3), Avoid: &avoidance{Devices: []string{"a2"}}}, []string{"a1"}},
		{"shared, and larger than one that was not enough", fleet, need{Claim: shared(1, 3), Larger: 24 * gib}, []string{"b0"}},
		{"alone, the smallest idle one", fleet, need{Claim: functions.GPUClaim{Count: 1}}, []string{"c0"}},
		{"alone, with memory", fleet, need{Claim: alone(22)}, []string{"a0"}},
		{"an encoder", fleet, need{Claim: functions.GPUClaim{Count: 1, Can: []string{"nvenc"}}}, []string{"c0"}},
		{"two alone, MIG instances too", fleet, need{GPUs: 2, Claim: functions.GPUClaim{Count: 2}}, []string{"d0", "d1"}},
		{"all: the smallest node that is free", fleet, need{Claim: all}, []string{"c0"}},
		{"all, of nodes with more: not with a lease, not of parts", []*room{fleet[0], fleet[1], fleet[3]}, need{Claim: all}, []string{"b0", "b1"}},
		{"all: fewer GPUs before smaller ones", []*room{gpuHost("many", gpu(8, 7), gpu(8, 7), gpu(8, 7)), fleet[1]}, need{Claim: all}, []string{"b0", "b1"}},
		{"all, and nobody is idle", fleet[:1], need{Claim: all}, nil},
		{"a newer driver", old, need{Claim: shared(1, 8), Spec: &functions.GPUNeed{MinDriver: "535.104"}}, []string{"b0"}},
		{"the driver that is there", old, need{Claim: shared(1, 8), Spec: &functions.GPUNeed{MinDriver: "535.54", MinCUDA: "12"}}, []string{"old0"}},
		{"an image that does not run there", bad, need{Claim: shared(1, 8), Image: "new"}, []string{"b0"}},
		{"another image", bad, need{Claim: shared(1, 8), Image: "old"}, []string{"bad0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.need.GPUs = max(tt.need.GPUs, 1)
			_, gpus := place(tt.rooms, tt.need)
			if !slices.Equal(gpus, tt.gpus) {
				t.Errorf("got %v, want %v", gpus, tt.gpus)
			}
		})
	}
}

func TestGPUsOfAHostThatIsOffWaitForIt(t *testing.T) {
	h := &functions.GPUHostInfo{State: functions.GPUHostOff, Reason: "could not select device driver", Until: now}
	d := reported(gpu(16, 15), h)
	if d.healthy() || d.Reason != h.Reason || !d.Until.Equal(now) || d.said.Takes(shared(1, 1)) {
		t.Errorf("taken for %s: %s", d.State, d.Reason)
	}
	if d := reported(functions.GPUInfo{State: functions.GPULeased}, nil); d.idle() || d.Takes(shared(1, 1)) {
		t.Errorf("leased to nobody known, and offered: %+v", d.GPUInfo)
	}
}

// However reports and the log's word follow each other, what the leader takes
// for free is never more than the node's last report less what the leader has
// promised since, and no more tasks share a device than may.
func TestTheLeaderIsNeverFreerThanTheReport(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := newNode("n", now)
		info := functions.NodeInfo{ID: "n", Ready: true, Capacity: functions.Resources{MilliCPU: 1 << 40, Memory: 1 << 50, Tasks: 1 << 20}}
		for i := range 2 {
			g := gpu(24, 23)
			g.UUID = fmt.Sprint("g", i)
			info.GPUs = append(info.GPUs, g)
		}
		n.report(info, now)
		n.Open = true
		var held []*attempt
		for step := range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				c := shared(rapid.IntRange(1, 2).Draw(t, "count"), functions.Bytes(rapid.IntRange(0, 12).Draw(t, "memory")))
				_, gpus := place([]*room{&n.room}, need{GPUs: c.Count, Claim: c})
				if gpus == nil {
					continue
				}
				k, _ := keyOf(taskID(uint64(step)))
				a := &attempt{key: k, node: n, device: functions.GPU, gpus: gpus, more: c}
				held = append(held, a)
				n.hold(a)
			case 2:
				if len(held) > 0 {
					i := rapid.IntRange(0, len(held)-1).Draw(t, "ends")
					n.release(held[i])
					held = slices.Delete(held, i, i+1)
				}
			case 3: // the node has taken in what it was told, or a part of it
				for i := range info.GPUs {
					g := &info.GPUs[i]
					g.Leases, g.Free, g.State = nil, 23*gib, functions.GPUFree
					for _, a := range held {
						if slices.Contains(a.gpus, g.UUID) && rapid.Bool().Draw(t, "listed") {
							p := a.claim().Promise()
							g.Leases, g.State = append(g.Leases, functions.GPULease{Task: a.key.id(), Memory: p}), functions.GPULeased
							if g.Free -= p; p == 0 {
								g.Free = 0
							}
						}
					}
				}
				n.report(info, now)
			}
			idle := 0
			for i := range n.GPUs {
				d := &n.GPUs[i]
				free, alone, tasks := info.GPUs[i].Free, 0, 0
				for _, a := range held {
					if !slices.Contains(a.gpus, d.UUID) {
						continue
					}
					tasks++
					listed := slices.ContainsFunc(d.said.Leases, func(l functions.GPULease) bool { return l.Task == a.key.id() })
					switch p := a.claim().Promise(); {
					case p == 0:
						alone++
						free = 0
					case !listed:
						free -= p
					}
				}
				if d.Free > free || len(d.Leases) < tasks || tasks > d.MaxLeases || (alone > 0 && tasks > 1) {
					t.Fatalf("%s: %s free of at most %s, %d leases of %d tasks, %d alone", d.UUID, d.Free, free, len(d.Leases), tasks, alone)
				}
				if len(d.Leases) == 0 {
					idle++
				}
			}
			if n.Idle != idle {
				t.Fatalf("%d idle, counted %d", idle, n.Idle)
			}
		}
		for _, a := range held {
			n.release(a)
		}
		if len(n.holders) != 0 || n.Idle != len(n.GPUs) || n.Free != n.Capacity {
			t.Fatalf("after all: %d holders, %d idle", len(n.holders), n.Idle)
		}
	})
}
