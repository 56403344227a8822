package gpu

import (
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// canary runs a canary container that ends so, and returns its device; empty when
// none is due.
func (r *rig) canary(f *functions.Failure) string {
	r.t.Helper()
	ids, release, ok := r.Trial()
	if !ok {
		return ""
	}
	if len(ids) != 1 {
		r.t.Fatalf("a canary on %v", ids)
	}
	if g := r.device(ids[0]); g.State.Healthy() || len(g.Leases) != 1 || g.Leases[0].Task != canaryTask {
		r.t.Fatalf("under a canary: %+v", g)
	}
	r.Report(f, ids)
	release()
	r.read()
	return ids[0]
}

func TestTheCanaryComesBeforeTheFirstTask(t *testing.T) {
	rigged(t, Config{Canary: true}, []probe.Device{cardOf("a", 0, 24*gib), cardOf("b", 1, 24*gib)}, func(r *rig) {
		r.refuses(some(1))
		r.is("b", functions.GPUQuarantined, "canary")
		if h := r.Host(); h.State != functions.GPUHostOff || !contains(h.Reason, "canary") {
			t.Errorf("before the canary: %+v", h)
		}
		if id := r.canary(fail(functions.GPUHost)); id != "a" { // the only one: once is enough
			t.Fatalf("canary on %q", id)
		}
		r.is("b", functions.GPUQuarantined, "gpu_host: as seen")
		if id := r.canary(nil); id != "" {
			t.Fatalf("canary on %q of a host in quarantine", id)
		}
		for range int(firstQuarantine / time.Second) {
			r.read()
		}
		if id := r.canary(fail(functions.Infra)); id != "a" { // says nothing: the next one is due
			t.Fatalf("canary on %q", id)
		}
		if id := r.canary(nil); id != "a" {
			t.Fatalf("canary on %q", id)
		}
		if id := r.canary(nil); id != "" {
			t.Fatalf("canary on %q, and none is due", id)
		}
		r.lends(functions.GPUClaim{Count: 2})
	})
}

func TestTheCanaryComesBeforeTheTasksOfADeviceInDoubt(t *testing.T) {
	rigged(t, Config{Canary: true}, []probe.Device{cardOf("a", 0, 24*gib), cardOf("b", 1, 24*gib)}, func(r *rig) {
		r.canary(nil)
		r.Report(fail(functions.GPULost), []string{"a"})
		for range int(firstQuarantine / time.Second) {
			if id := r.canary(nil); id != "" {
				t.Fatalf("canary on %q", id)
			}
			r.read()
		}
		r.refuses(functions.GPUClaim{Count: 2})
		if g, release := r.lends(some(1)); g.UUID != "b" {
			t.Errorf("a task got %s", g.UUID)
		} else {
			release()
		}
		ids, release, ok := r.Trial()
		if !ok || ids[0] != "a" {
			t.Fatalf("canary on %v", ids)
		}
		if more, _, ok := r.Trial(); ok {
			t.Errorf("two canaries at once, on %v", more)
		}
		r.Report(fail(functions.GPUDevice), ids)
		release()
		if left := time.Until(r.device("a").Until); left != 2*firstQuarantine {
			t.Errorf("after a bad trial: %s", left)
		}
		for range 2 * int(firstQuarantine/time.Second) {
			r.read()
		}
		if id := r.canary(nil); id != "a" {
			t.Errorf("canary on %q", id)
		}
		r.lends(functions.GPUClaim{Count: 2})
	})
}

func TestATaskIsTheTrialWhereNoCanaryComes(t *testing.T) {
	rigged(t, Config{Canary: true}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		for range int(canaryPatience/time.Second) - 1 { // the first second has passed with the first reading
			r.refuses(some(1))
			r.read()
		}
		_, release := r.lends(share(gib))
		r.refuses(share(gib))
		r.Report(nil, []string{"a"})
		r.lends(share(gib))
		release()
	})
	rigged(t, Config{Canary: true}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.canary(nil)
		r.lends(share(gib)) // for a long time
		r.Report(fail(functions.GPULost), []string{"a"})
		for range int(firstQuarantine / time.Second) {
			r.read()
		}
		if _, _, ok := r.Trial(); ok {
			t.Error("a canary on a device that a task holds")
		}
		r.lends(share(gib))
		r.refuses(share(gib))
		r.Report(nil, []string{"a"})
		r.lends(share(gib))
	})
}

func TestAHostWhoseTrialIsWaived(t *testing.T) {
	sick := cardOf("b", 1, 24*gib)
	sick.Remap = true
	rigged(t, Config{Canary: true}, []probe.Device{cardOf("a", 0, 24*gib), sick}, func(r *rig) {
		if !r.Untried() {
			t.Error("it counts as tried")
		}
		r.refuses(some(1))
		r.Waive()
		if r.Untried() {
			t.Error("it counts as untried")
		}
		r.lends(some(1))
		r.is("b", functions.GPUEjected, "could not be remapped")
	})
	rigged(t, Config{Canary: true}, []probe.Device{}, func(r *rig) {
		if r.Untried() {
			t.Error("a host without a GPU waits for a trial")
		}
	})
	rigged(t, Config{Canary: true}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.canary(fail(functions.GPUHost))
		if r.Untried() {
			t.Error("a host that was tried, and failed, counts as untried")
		}
	})
}

func TestAnAttemptOfBeforeSaysNothingOfAQuarantine(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.Report(fail(functions.GPULost), []string{"a"})
		r.Report(nil, []string{"a"})
		r.is("a", functions.GPUQuarantined, "gpu_lost")
	})
}
