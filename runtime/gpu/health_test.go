package gpu

import (
	"errors"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

func TestEachXid(t *testing.T) {
	for xid, why := range map[uint64]string{
		13: "", 31: "", 43: "", 45: "", 68: "", 109: "", // a program's
		48: "uncorrectable memory error", 62: "microcontroller halt", 63: "Xid 63", 64: "could not be remapped", 74: "NVLink", 79: "fallen off the bus",
		92: "Xid 92", 94: "Xid 94", 95: "uncontained", 119: "system processor", 120: "system processor", 140: "unrecovered", 999: "Xid 999",
	} {
		rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib), cardOf("b", 1, 24*gib)}, func(r *rig) {
			_, _ = r.lends(share(gib))
			r.Xid(probe.Event{UUID: "a", Xid: xid})
			if why == "" {
				r.is("a", functions.GPULeased, "")
				return
			}
			r.is("a", functions.GPUEjected, why)
			if g := r.device("a"); len(g.Leases) != 1 {
				t.Errorf("Xid %d took the device from its task", xid)
			}
			r.is("b", functions.GPUFree, "")
		})
	}
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib), cardOf("b", 1, 24*gib)}, func(r *rig) {
		r.Xid(probe.Event{UUID: "another", Xid: 79})
		r.is("a", functions.GPUFree, "")
		r.Xid(probe.Event{Xid: 79}) // the driver does not say which
		r.is("a", functions.GPUEjected, "Xid 79")
		r.is("b", functions.GPUEjected, "Xid 79")
	})
}

// TestEachSign ejects a device by what a reading says, and tries what ends that.
func TestEachSign(t *testing.T) {
	well := cardOf("a", 0, 24*gib)
	well.ECC = 3
	with := func(change func(*probe.Device)) probe.Device {
		d := well
		change(&d)
		return d
	}
	for name, c := range map[string]struct {
		device probe.Device
		why    string // empty = that is no sign
	}{
		"ECC errors":            {with(func(d *probe.Device) { d.ECC = 5 }), "from 3 to 5"},
		"ECC not known":         {with(func(d *probe.Device) { d.ECC = -1 }), ""},
		"no remapping":          {with(func(d *probe.Device) { d.Remap = true }), "could not be remapped"},
		"a reset is needed":     {with(func(d *probe.Device) { d.Recovery = 1 }), "a reset of the GPU"},
		"a reboot is needed":    {with(func(d *probe.Device) { d.Recovery = 2 }), "a reboot of the machine"},
		"something is needed":   {with(func(d *probe.Device) { d.Recovery = 12 }), "recovery action 12"},
		"recovery is not known": {with(func(d *probe.Device) { d.Recovery = -1 }), ""},
		"off the bus":           {with(func(d *probe.Device) { d.Lost = true }), "fallen off the bus"},
	} {
		t.Run(name, func(t *testing.T) {
			rigged(t, Config{}, []probe.Device{well}, func(r *rig) {
				r.Devices[0] = c.device
				r.read()
				if c.why == "" {
					r.is("a", functions.GPUFree, "")
					r.Devices[0] = well
					r.read()
					r.is("a", functions.GPUFree, "")
					return
				}
				r.is("a", functions.GPUEjected, c.why)
				r.refuses(share(gib))
				for range 3 {
					r.read()
				}
				time.Sleep(longQuarantine)
				r.read()
				r.is("a", functions.GPUEjected, c.why) // time does not heal it
				r.Devices[0] = well
				r.read()
				g, release := r.lends(share(gib)) // the trial
				r.refuses(share(gib))
				r.Report(nil, []string{g.UUID})
				release()
				r.read()
				r.is("a", functions.GPUFree, "")
			})
			rigged(t, Config{}, []probe.Device{well}, func(r *rig) {
				if c.why == "" {
					return
				}
				r.Devices[0] = c.device
				r.read()
				if err := r.Readmit("a"); err != nil {
					t.Fatal(err)
				}
				r.read() // known, and readmitted all the same
				r.is("a", functions.GPUFree, "")
			})
		})
	}
}

func TestWhatProvesAReset(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(r *rig)
		heals   bool
	}{
		"nothing":                 {func(r *rig) { time.Sleep(time.Hour) }, false},
		"a task that ended well":  {func(r *rig) { r.Report(nil, []string{"a"}) }, false},
		"the probe was silent":    {func(r *rig) { r.status(probe.Silent) }, false},
		"the driver was broken":   {func(r *rig) { r.status(probe.Broken) }, false},
		"the module was unloaded": {func(r *rig) { r.status(probe.NotLoaded) }, true},
		"the driver was removed":  {func(r *rig) { r.status(probe.NoDriver) }, true},
		"the driver said no version": {func(r *rig) {
			r.Driver = ""
			r.read()
			r.Driver = "580.65.06"
		}, false},
		"another driver":            {func(r *rig) { r.Driver = "590.1" }, true},
		"the error count restarted": {func(r *rig) { r.Devices[0].ECC = 0 }, true},
		"another probe that counts less": {func(r *rig) {
			r.Devices[0].ECC, r.Source = 0, "nvidia-smi"
		}, false},
		"another probe that sees less": {func(r *rig) {
			r.Devices[0].Recovery = 1
			r.read()
			r.Devices[0].Recovery, r.Source = 0, "nvidia-smi"
		}, false},
		"the device was away": {func(r *rig) {
			d := r.Devices
			r.Devices = nil
			r.read()
			r.Devices = d
		}, true},
		"it was lost and found": {func(r *rig) {
			r.Devices[0].Lost = true
			r.read()
			r.Devices[0].Lost = false
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			device := cardOf("a", 0, 24*gib)
			device.ECC = 2
			rigged(t, Config{}, []probe.Device{device}, func(r *rig) {
				r.Xid(probe.Event{UUID: "a", Xid: 119})
				r.read()
				c.happens(r)
				r.read()
				if s := r.device("a").State; (s != functions.GPUEjected) != c.heals {
					t.Fatalf("the device is %s", s)
				}
				if !c.heals {
					return
				}
				r.refuses(some(1)) // the rest of its quarantine passes first
				for range 2 * int(firstQuarantine/time.Second) {
					r.read()
				}
				r.lends(some(1))
			})
		})
	}
}

// status lets the pool read that the driver does not work.
func (r *rig) status(s probe.Status) {
	time.Sleep(time.Second)
	r.Observe(probe.Reading{At: time.Now(), Source: r.Source, Status: s})
}

func TestAResetThatNoReadingHasSeenTheFaultBeforeProvesNothing(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		time.Sleep(time.Second)
		r.Xid(probe.Event{UUID: "a", Xid: 79})
		r.Driver = "590.1" // it may have changed before the fault
		r.read()
		r.is("a", functions.GPUEjected, "Xid 79")
	})
}

func TestADeviceThatFailsAgainAfterEachResetStaysAwayLonger(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		for i := range 3 {
			r.Devices[0].Lost = true
			r.read()
			r.Devices[0].Lost = false
			r.read()
			if left := time.Until(r.device("a").Until); left != firstQuarantine<<i-time.Second {
				t.Fatalf("loss %d: away for %s more", i, left)
			}
			for r.device("a").State == functions.GPUQuarantined {
				r.read()
			}
		}
	})
}

func TestAnErrorCountThatIsUnknownForOnceIsNotForgotten(t *testing.T) {
	device := cardOf("a", 0, 24*gib)
	device.ECC = 3
	rigged(t, Config{}, []probe.Device{device}, func(r *rig) {
		r.Devices[0].ECC = -1
		r.read()
		r.Devices[0].ECC = 4
		r.read()
		r.is("a", functions.GPUEjected, "from 3 to 4")
	})
	rigged(t, Config{}, []probe.Device{device}, func(r *rig) {
		r.Devices[0].ECC, r.Source = 4, "nvidia-smi" // which counts in another way
		r.read()
		r.is("a", functions.GPUFree, "")
	})
}

func TestAfterAResetATrialDecidesWhateverOldTasksSay(t *testing.T) {
	rigged(t, Config{Canary: true}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.canary(nil)
		_, release := r.lends(share(gib))
		r.Xid(probe.Event{UUID: "a", Xid: 79})
		for range 600 {
			r.read()
		}
		r.Report(nil, []string{"a"})
		release()
		r.Driver = "590.1"
		r.read()
		r.is("a", functions.GPUQuarantined, "canary")
		if id := r.canary(nil); id != "a" {
			t.Fatalf("canary on %q", id)
		}
		r.lends(some(1))
	})
}

func TestReadmit(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib), cardOf("b", 1, 24*gib)}, func(r *rig) {
		if err := r.Readmit("c"); !errors.Is(err, functions.ErrNotFound) {
			t.Errorf("Readmit of a device that was never here = %v", err)
		}
		r.Report(fail(functions.GPULost), []string{"a"})
		r.Xid(probe.Event{UUID: "b", Xid: 79})
		if err := r.Readmit("a"); err != nil {
			t.Fatal(err)
		}
		r.is("a", functions.GPUFree, "")
		r.is("b", functions.GPUEjected, "Xid 79")
		r.Report(fail(functions.GPUHung), []string{"a"})
		r.Report(fail(functions.GPULost), []string{"a"})
		if err := r.Readmit(""); err != nil {
			t.Fatal(err)
		}
		r.is("a", functions.GPUFree, "")
		r.is("b", functions.GPUFree, "")
		r.lends(functions.GPUClaim{Count: 2})
	})
}
