package gpu

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

const gib = functions.GiB

// rig is a pool and the machine that it reads, in the time of a synctest bubble.
type rig struct {
	*Pool
	t *testing.T
	probe.Reading
}

// rigged runs a test on a machine with the given devices, which was read once.
func rigged(t *testing.T, cfg Config, devices []probe.Device, test func(r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		p, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{Pool: p, t: t, Reading: probe.Reading{Source: "nvml", Status: probe.OK, Driver: "580.65.06", CUDA: "13.0", Devices: devices}}
		if devices != nil {
			r.read()
		}
		test(r)
	})
}

// card is an idle device.
func cardOf(uuid string, index int, total functions.Bytes) probe.Device {
	return probe.Device{UUID: uuid, Index: index, Total: total, Free: total}
}

// read lets the pool read the machine, after as long as a probe waits.
func (r *rig) read() {
	time.Sleep(time.Second)
	r.At = time.Now()
	r.Observe(r.Reading)
}

// uses sets what is in use of a device, by anybody.
func (r *rig) uses(i int, used functions.Bytes, processes ...probe.Process) {
	d := &r.Devices[i]
	d.Used, d.Free, d.Processes = used, d.Total-used, processes
}

func (r *rig) device(uuid string) functions.GPUInfo {
	r.t.Helper()
	for _, g := range r.Snapshot() {
		if g.UUID == uuid {
			return g
		}
	}
	r.t.Fatalf("%s is not in %+v", uuid, r.Snapshot())
	return functions.GPUInfo{}
}

// lends leases a device, or fails.
func (r *rig) lends(claim functions.GPUClaim) (functions.GPUInfo, func()) {
	r.t.Helper()
	got, release, err := r.Acquire("t", claim, nil)
	if err != nil {
		r.t.Fatalf("Acquire(%+v): %v\n%+v", claim, err, r.Snapshot())
	}
	return got[0], release
}

func (r *rig) refuses(claim functions.GPUClaim) {
	r.t.Helper()
	if got, _, err := r.Acquire("t", claim, nil); err == nil {
		r.t.Fatalf("Acquire(%+v) = %+v", claim, got)
	}
}

// is demands the state of a device, and a word of why, or no reason.
func (r *rig) is(uuid string, state functions.GPUState, why string) {
	r.t.Helper()
	if g := r.device(uuid); g.State != state || !contains(g.Reason, why) || why == "" && g.Reason != "" {
		r.t.Fatalf("%s is %s (%s), want %s (%s)", uuid, g.State, g.Reason, state, why)
	}
}

// share is a claim that shares.
func share(memory functions.Bytes) functions.GPUClaim {
	return functions.GPUClaim{Count: 1, Memory: memory}
}
