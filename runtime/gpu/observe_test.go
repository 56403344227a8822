package gpu

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

func TestDevicesComeAndGoWithReadings(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.Devices = append(r.Devices, probe.Device{UUID: "b", Index: 1, BusID: "0:1", Model: "L4", Total: 16 * gib, Used: gib, Free: 15 * gib, Utilisation: 7, Can: []string{"nvenc"}})
		r.read()
		g := r.device("b")
		if g.BusID != "0:1" || g.Model != "L4" || g.Memory != 16*gib || g.Used != gib || g.Utilisation != 7 || !slices.Equal(g.Can, []string{"nvenc"}) || !g.ReadAt.Equal(time.Now()) {
			t.Errorf("a new device: %+v", g)
		}
		_, release := r.lends(functions.GPUClaim{Count: 1, Can: []string{"nvenc"}})
		r.Devices = r.Devices[:0]
		r.read()
		if all := r.Snapshot(); len(all) != 1 || all[0].UUID != "b" {
			t.Fatalf("after both have vanished, one leased: %+v", all)
		}
		r.is("b", functions.GPUEjected, "driver's list")
		if err := r.Readmit("b"); !errors.Is(err, functions.ErrNotFound) {
			t.Errorf("Readmit of a device that is gone = %v", err)
		}
		release()
		if all := r.Snapshot(); len(all) > 0 {
			t.Errorf("nobody holds it any more: %+v", all)
		}
		r.Devices = append(r.Devices, cardOf("b", 0, 16*gib))
		r.read()
		r.is("b", functions.GPUQuarantined, "driver's list") // it was taken from under a task
		for range 30 {
			r.read()
		}
		r.lends(some(1))
	})
}

func TestTheInstancesOfADividedGPUAreTheDevices(t *testing.T) {
	instance := func(uuid string) probe.Device {
		return probe.Device{UUID: uuid, Parent: "GPU-1", Profile: "1g.18gb", Total: 18 * gib, Free: 18 * gib}
	}
	rigged(t, Config{}, []probe.Device{{UUID: "GPU-1", MIG: true, Total: 141 * gib, Free: 141 * gib}, instance("MIG-1"), instance("MIG-2")}, func(r *rig) {
		if ids := uuids(r.Snapshot()); !slices.Equal(ids, []string{"MIG-1", "MIG-2"}) {
			t.Fatalf("devices %v", ids)
		}
		if g := r.device("MIG-1"); g.MaxLeases != 1 || g.Profile != "1g.18gb" || g.Parent != "GPU-1" {
			t.Errorf("an instance is %+v", g)
		}
		r.lends(share(gib))
		r.lends(share(gib))
		r.refuses(share(gib))
		r.Xid(probe.Event{UUID: "GPU-1", Xid: 48})
		r.is("MIG-1", functions.GPUEjected, "Xid 48")
		r.is("MIG-2", functions.GPUEjected, "Xid 48")
	})
}

func TestAnAssumedDeviceBecomesTheOneThatIsRead(t *testing.T) {
	rigged(t, Config{Devices: Assumed(2)}, nil, func(r *rig) {
		r.Devices = []probe.Device{cardOf("GPU-a", 0, 24*gib)}
		got, release, err := r.Acquire("t", some(1), []string{"assumed-0"})
		if err != nil || EngineID(got[0]) != "0" {
			t.Fatal(got, err)
		}
		r.read()
		if ids := uuids(r.Snapshot()); !slices.Equal(ids, []string{"GPU-a"}) {
			t.Fatalf("devices %v", ids)
		}
		g := r.device("GPU-a")
		if len(g.Leases) != 1 || g.Assumed || EngineID(g) != "GPU-a" {
			t.Errorf("its lease has gone: %+v", g)
		}
		r.Report(fail(functions.GPULost), []string{"assumed-0"}) // by the name that the attempt knows
		r.is("GPU-a", functions.GPUQuarantined, "gpu_lost")
		release()
		if g := r.device("GPU-a"); len(g.Leases) > 0 {
			t.Errorf("not given back: %+v", g)
		}
	})
}

func TestAnOldReadingCountsForNothing(t *testing.T) {
	rigged(t, Config{Stale: 5 * time.Second}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		time.Sleep(5 * time.Second)
		_, release := r.lends(share(gib))
		time.Sleep(time.Second)
		r.is("a", functions.GPUUnread, "6s ago")
		r.refuses(share(gib))
		if _, _, ok := r.Trial(); ok {
			t.Error("a device that nobody reads was given to a canary")
		}
		release()
		r.read()
		older := r.Reading
		older.At, older.Devices = older.At.Add(-time.Second), nil
		r.Observe(older) // late
		r.lends(share(gib))
		r.At = time.Now().Add(time.Hour) // the clock was set back
		r.Observe(r.Reading)
		if g := r.device("a"); !g.ReadAt.Equal(time.Now()) {
			t.Errorf("read in the future: %s", g.ReadAt)
		}
	})
}

func TestADeviceWithoutFigures(t *testing.T) {
	rigged(t, Config{}, []probe.Device{{UUID: "a", Total: -1, Used: -1, Free: -1, Utilisation: -1}}, func(r *rig) {
		_, release := r.lends(share(gib)) // the driver never tells: one task at a time
		r.refuses(share(gib))
		release()
		r.lends(some(1))
		r.Devices[0].Error = "memory: unknown error"
		r.read()
		r.is("a", functions.GPUUnread, "memory: unknown error")
		r.Devices = []probe.Device{{UUID: "", Total: gib, Free: gib}, cardOf("b", 1, gib), cardOf("b", 1, gib)}
		r.read()
		if ids := uuids(r.Snapshot()); !slices.Equal(ids, []string{"a", "b"}) {
			t.Errorf("one that is leased and one that is named twice: %v", ids)
		}
	})
}

func TestRestoreBeforeTheFirstReadingBelieves(t *testing.T) {
	rigged(t, Config{}, nil, func(r *rig) {
		_, release, err := r.Restore("t1", share(4*gib), []string{"a"})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Restore("t2", share(4*gib), []string{"a"}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Restore("t3", some(1), []string{"a"}); !errors.Is(err, functions.ErrConflict) {
			t.Errorf("alone on a device that two share = %v", err)
		}
		_, other, err := r.Restore("t4", some(1), []string{"gone"})
		if err != nil {
			t.Fatal(err)
		}
		r.is("a", functions.GPUUnread, "no reading")
		if _, brief, err := r.Restore("t5", some(1), []string{"brief"}); err != nil {
			t.Fatal(err)
		} else {
			brief()
		}
		if ids := uuids(r.Snapshot()); !slices.Equal(ids, []string{"a", "gone"}) {
			t.Errorf("a device that was known by its task alone stays: %v", ids)
		}
		r.refuses(share(gib))
		r.Devices = []probe.Device{cardOf("a", 0, 24*gib)}
		r.read()
		if g := r.device("a"); g.State != functions.GPULeased || g.Free != 24*gib-functions.GPUOverhead-2*(4*gib+functions.GPUOverhead) {
			t.Errorf("read: %+v", g)
		}
		r.is("gone", functions.GPUEjected, "driver's list")
		other()
		release()
		if _, _, err := r.Restore("t5", some(1), []string{"gone"}); !errors.Is(err, functions.ErrNotFound) {
			t.Errorf("Restore of a device that is not listed = %v", err)
		}
	})
}

func TestADeviceInDoubtStaysSoWhileItIsAway(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib), cardOf("b", 1, 24*gib)}, func(r *rig) {
		r.Report(fail(functions.GPULost), []string{"a"})
		devices := r.Devices
		r.Devices = devices[1:]
		r.read()
		r.Devices = devices
		r.read()
		r.is("a", functions.GPUQuarantined, "gpu_lost")
	})
}

func TestADeviceThatCannotSayItsNameIsKnownByItsPlace(t *testing.T) {
	device := cardOf("a", 0, 24*gib)
	device.BusID = "0:1"
	rigged(t, Config{}, []probe.Device{device}, func(r *rig) {
		r.Devices[0].UUID, r.Devices[0].Lost = "", true
		r.read()
		r.is("a", functions.GPUEjected, "fallen off the bus")
	})
}

func TestAClockThatIsSetBack(t *testing.T) {
	now := time.Unix(1e9, 0)
	p, err := New(Config{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	r := probe.Reading{Status: probe.OK, Devices: []probe.Device{cardOf("a", 0, 24*gib)}}
	for range 2 {
		r.At = now
		p.Observe(r)
		now = now.Add(-time.Hour)
	}
	if at := p.Snapshot()[0].ReadAt; !at.Equal(now.Add(time.Hour)) {
		t.Errorf("the last reading is of %s", at)
	}
}
