package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// TestASickGPUIsMended quarantines a device that fails its tasks, takes the fault
// away through the file, and sees it come back.
func TestASickGPUIsMended(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	faults := newFaulty(t, "device@0 # it is not found any more")
	f.node("a", "2x80GiB", "--fail-file", faults.path)
	f.deploy("work", "device: preferred", "spill_after: 1m")
	sick := func() functions.GPUInfo { return f.gpus("a")["SIM-a-0"] }
	eventually(t, time.Minute, "the sick device is quarantined", func() bool {
		if _, task := f.call("work", `{"sleep_ms":10}`); !strings.HasSuffix(chain(task), "ok:SIM-a-1") {
			t.Fatalf("attempts %s; want the device that is well in the end", chain(task))
		}
		return sick().State == functions.GPUQuarantined
	})
	if g := sick(); !strings.Contains(g.Reason, "gpu_device") || g.Until.IsZero() {
		t.Errorf("the device says %q, until %s; want why, and until when", g.Reason, g.Until)
	}
	if out, err := f.CLI(t.Context(), "nodes"); err != nil || !strings.Contains(out, "1 quarantined (gpu_device") {
		t.Errorf("`spillway nodes` says: %v\n%s", err, out)
	}
	if _, task := f.call("work", `{"sleep_ms":10}`); chain(task) != "ok:SIM-a-1" {
		t.Errorf("attempts %s; want none on the device in quarantine", chain(task))
	}
	faults.write("# mended")
	eventually(t, 90*time.Second, "the device is readmitted", func() bool { return sick().State == functions.GPUFree && sick().Reason == "" })
	eventually(t, time.Minute, "it works", func() bool {
		tasks := f.ended(f.submit("work", 2, 500*time.Millisecond))
		return len(countBy(tasks, onDevice)) == 2
	})
}
