package gpu

import (
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

func TestTasksShareADeviceByWhatTheyDeclare(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib), cardOf("b", 1, 24*gib)}, func(r *rig) {
		r.uses(1, 21*gib) // somebody else's
		r.read()
		for range 4 {
			if g, _ := r.lends(share(4 * gib)); g.UUID != "a" || g.State != functions.GPULeased {
				t.Fatalf("lent %+v", g)
			}
		}
		if g := r.device("a"); len(g.Leases) != 4 || g.Leases[0].Memory != 4*gib+functions.GPUOverhead || g.MaxLeases != 4 {
			t.Errorf("four share %+v", g)
		}
		r.refuses(share(4 * gib))
		if g, _ := r.lends(share(2 * gib)); g.UUID != "b" {
			t.Errorf("2GiB beside a foreign process went to %s", g.UUID)
		}
		r.refuses(share(2 * gib))
		r.refuses(some(1))
	})
}

func TestWhatDeclaresNothingIsAlone(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		_, release := r.lends(some(1))
		if g := r.device("a"); g.Free != 0 || g.Leases[0].Memory != 0 {
			t.Errorf("a device that is lent whole: %+v", g)
		}
		r.refuses(share(gib))
		release()
		r.read()
		_, release = r.lends(share(gib))
		r.refuses(some(1))
		r.refuses(functions.GPUClaim{Count: 1, Memory: gib, Exclusive: true})
		release()
		r.read()
		r.lends(functions.GPUClaim{Count: 1, Memory: gib, Exclusive: true})
	})
}

func TestAllIsEveryGPUAlone(t *testing.T) {
	all := functions.GPUClaim{All: true}
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib), cardOf("b", 1, 24*gib)}, func(r *rig) {
		_, release := r.lends(share(gib))
		r.refuses(all)
		release()
		r.read()
		got, release, err := r.Acquire("t", all, nil)
		if err != nil || !slices.Equal(uuids(got), []string{"a", "b"}) {
			t.Fatalf("all are %v, %v", uuids(got), err)
		}
		r.refuses(share(gib))
		release()
		r.read()
		r.Xid(probe.Event{UUID: "b", Xid: 79})
		r.refuses(all)
		r.Devices = r.Devices[:1]
		r.read()
		r.lends(all)
	})
	rigged(t, Config{}, []probe.Device{}, func(r *rig) { r.refuses(all) })
}

func TestTheTightestFitIsTaken(t *testing.T) {
	devices := []probe.Device{cardOf("large", 0, 80*gib), cardOf("small", 1, 16*gib), cardOf("middle", 2, 40*gib), cardOf("twin", 3, 16*gib)}
	rigged(t, Config{}, devices, func(r *rig) {
		for _, c := range []struct {
			claim functions.GPUClaim
			want  string
		}{
			{share(10 * gib), "small"},
			{share(4 * gib), "small"}, // fills it up
			{share(4 * gib), "twin"},
			{share(20 * gib), "middle"},
			{some(1), "large"},
		} {
			if g, _ := r.lends(c.claim); g.UUID != c.want {
				t.Errorf("%+v went to %s, want %s", c.claim, g.UUID, c.want)
			}
		}
	})
}

func TestAPromiseCountsBesideTheReadingUntilItHasSettled(t *testing.T) {
	rigged(t, Config{Settle: 10 * time.Second}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		free := func() functions.Bytes { return r.device("a").Free }
		r.lends(share(8*gib - functions.GPUOverhead))
		if free() != 16*gib-functions.GPUOverhead {
			t.Errorf("beside a promise of 8GiB: %s", free())
		}
		r.uses(0, 6*gib) // it allocates: counted twice, until it has settled
		r.read()
		if free() != 10*gib-functions.GPUOverhead {
			t.Errorf("a young task's memory: %s", free())
		}
		for range 10 {
			r.read()
		}
		if free() != 16*gib-functions.GPUOverhead {
			t.Errorf("what it was promised and does not use: %s", free())
		}
		r.uses(0, 12*gib) // more than it declared, or somebody else
		r.read()
		if free() != 12*gib-functions.GPUOverhead {
			t.Errorf("what the reading leaves: %s", free())
		}
	})
}

func TestAPromiseCountsUntilAReadingIsYounger(t *testing.T) {
	rigged(t, Config{Settle: time.Nanosecond}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.uses(0, 16*gib)
		r.read()
		r.lends(share(4 * gib))
		time.Sleep(time.Second)
		if g := r.device("a"); g.Free != 8*gib-functions.GPUOverhead-4*gib-functions.GPUOverhead {
			t.Errorf("no reading has seen the task: %s", g.Free)
		}
		r.read()
		if g := r.device("a"); g.Free != 8*gib-functions.GPUOverhead {
			t.Errorf("a reading has seen the task: %s", g.Free)
		}
	})
}

func TestADeviceThatIsWellGoesBeforeOneOnTrial(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("doubt", 0, 16*gib), cardOf("well", 1, 24*gib)}, func(r *rig) {
		r.Report(fail(functions.GPULost), []string{"doubt"})
		for range int(firstQuarantine / time.Second) {
			r.read()
		}
		if g, _ := r.lends(some(1)); g.UUID != "well" {
			t.Errorf("lent %s", g.UUID)
		}
		if g, _ := r.lends(some(1)); g.UUID != "doubt" {
			t.Errorf("lent %s", g.UUID)
		}
	})
}

func TestAForeignerThatWorksKeepsTheFirstTaskAway(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.Devices[0].Utilisation = 100
		r.read()
		r.refuses(share(gib))
		r.Devices[0].Utilisation = -1
		r.read()
		r.lends(share(gib))
		r.Devices[0].Utilisation = 100 // our own work
		r.read()
		r.lends(share(gib))
	})
}
