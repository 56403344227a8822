package gpu

import (
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"pgregory.net/rapid"
)

// TestNoReadingConfusesThePool feeds readings that no driver should give.
func TestNoReadingConfusesThePool(t *testing.T) {
	uuid := rapid.SampledFrom([]string{"", "a", "b", "c", "assumed-0"})
	size := rapid.Custom(func(t *rapid.T) functions.Bytes {
		return functions.Bytes(rapid.Int64Range(-2, 1<<50).Draw(t, "bytes"))
	})
	device := rapid.Custom(func(t *rapid.T) probe.Device {
		return probe.Device{
			UUID: uuid.Draw(t, "uuid"), Parent: uuid.Draw(t, "parent"), BusID: uuid.Draw(t, "bus"), Index: rapid.IntRange(-1, 3).Draw(t, "index"),
			MIG: rapid.Bool().Draw(t, "mig"), Total: size.Draw(t, "total"), Used: size.Draw(t, "used"), Free: size.Draw(t, "free"),
			Utilisation: rapid.IntRange(-1, 300).Draw(t, "busy"), ECC: rapid.Int64Range(-1, 3).Draw(t, "ecc"), Remap: rapid.Bool().Draw(t, "remap"),
			Recovery: rapid.IntRange(-1, 20).Draw(t, "recovery"), Lost: rapid.Bool().Draw(t, "lost"), Error: uuid.Draw(t, "error"),
			Processes: []probe.Process{{PID: rapid.IntRange(-1, 3).Draw(t, "pid"), Memory: size.Draw(t, "memory")}},
		}
	})
	reading := rapid.Custom(func(t *rapid.T) probe.Reading {
		return probe.Reading{
			At: time.Unix(rapid.Int64Range(0, 100).Draw(t, "at"), 0), Source: uuid.Draw(t, "source"), Driver: uuid.Draw(t, "driver"),
			Status:  rapid.SampledFrom([]probe.Status{probe.OK, probe.OK, probe.OK, probe.NoDriver, probe.Silent, ""}).Draw(t, "status"),
			Devices: rapid.SliceOfN(device, 0, 4).Draw(t, "devices"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		p, err := New(Config{Devices: Assumed(rapid.IntRange(0, 2).Draw(t, "assumed")), Now: func() time.Time { return time.Unix(50, 0) }})
		if err != nil {
			t.Fatal(err)
		}
		var releases []func()
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			p.Observe(reading.Draw(t, "reading"))
			if rapid.Bool().Draw(t, "end") && len(releases) > 0 {
				releases[0]()
				releases = releases[1:]
			}
			claim := functions.GPUClaim{Count: 1, Memory: max(0, size.Draw(t, "claim"))}
			before := p.Snapshot()
			_, release, err := p.Acquire("t", claim, nil)
			if takes := slices.ContainsFunc(before, func(g functions.GPUInfo) bool { return g.Takes(claim) }); takes != (err == nil) {
				t.Fatalf("a device takes %+v: %v, and Acquire = %v\n%+v", claim, takes, err, before)
			}
			if err == nil {
				releases = append(releases, release)
			}
			seen := map[string]bool{}
			for _, g := range p.Snapshot() {
				if g.UUID == "" || seen[g.UUID] || g.Free < 0 || g.Memory < 0 {
					t.Fatalf("a device is %+v", g)
				}
				seen[g.UUID] = true
			}
		}
	})
}
