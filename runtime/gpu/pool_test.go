package gpu

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"pgregory.net/rapid"
)

func pool(t interface{ Fatal(...any) }, devices ...functions.GPUInfo) *Pool {
	p, err := New(Config{Devices: devices})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func some(n int) functions.GPUClaim { return functions.GPUClaim{Count: n} }

func uuids(devices []functions.GPUInfo) (ids []string) {
	for _, d := range devices {
		ids = append(ids, d.UUID)
	}
	return ids
}

func TestNewRefusesDevicesItCannotTellApart(t *testing.T) {
	for name, devices := range map[string][]functions.GPUInfo{
		"no uuid":    {{Index: 0}},
		"same twice": {{UUID: "a"}, {UUID: "a", Index: 1}},
	} {
		if _, err := New(Config{Devices: devices}); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("%s: New = %v, want ErrInvalid", name, err)
		}
	}
}

func TestAssumedDevicesAreKnownToTheEngineByIndex(t *testing.T) {
	got := Assumed(2)
	if len(got) != 2 || got[1].UUID != "assumed-1" || EngineID(got[1]) != "1" {
		t.Errorf("Assumed(2) = %+v, engine id %q", got, EngineID(got[1]))
	}
	if id := EngineID(functions.GPUInfo{UUID: "GPU-7", Index: 3}); id != "GPU-7" {
		t.Errorf("EngineID of a seen device = %q, want its UUID", id)
	}
}

func TestAcquireIsAllOrNothing(t *testing.T) {
	p := pool(t, Assumed(3)...)
	two, release, err := p.Acquire("t1", some(2), nil)
	if err != nil || !slices.Equal(uuids(two), []string{"assumed-0", "assumed-1"}) {
		t.Fatalf("Acquire(2) = %v, %v", uuids(two), err)
	}
	if _, _, err := p.Acquire("t2", some(2), nil); !errors.Is(err, functions.ErrThrottled) {
		t.Fatalf("Acquire(2) with one left = %v, want ErrThrottled", err)
	}
	if one, _, err := p.Acquire("t3", some(1), nil); err != nil || one[0].UUID != "assumed-2" {
		t.Fatalf("the one left was not lent: %v, %v", uuids(one), err)
	}
	release()
	release()
	for _, g := range p.Snapshot()[:2] {
		if g.State != functions.GPUFree || len(g.Leases) > 0 {
			t.Errorf("%s after release: %s by %q", g.UUID, g.State, g.Leases)
		}
	}
	if g := p.Snapshot()[2]; g.State != functions.GPULeased || len(g.Leases) != 1 || g.Leases[0].Task != "t3" {
		t.Errorf("a second release gave back another's device: %+v", g)
	}
	if _, _, err := p.Acquire("t", some(0), nil); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("Acquire(0) = %v, want ErrInvalid", err)
	}
}

func TestAcquireHonoursPreferenceAndMemory(t *testing.T) {
	p := pool(t,
		functions.GPUInfo{UUID: "small", Index: 0, Memory: 8 * functions.GiB},
		functions.GPUInfo{UUID: "big", Index: 1, Memory: 80 * functions.GiB},
		functions.GPUInfo{UUID: "unknown", Index: 2})
	for _, c := range []struct {
		prefer []string
		memory functions.Bytes
		want   string
	}{
		{nil, 0, "small"},
		{[]string{"gone", "unknown", "big"}, 0, "unknown"},
		{nil, 16 * functions.GiB, "big"},
		{[]string{"small"}, 16 * functions.GiB, "big"},
	} {
		got, release, err := p.Acquire("t", functions.GPUClaim{Count: 1, Memory: c.memory}, c.prefer)
		if err != nil || got[0].UUID != c.want {
			t.Errorf("Acquire(prefer %v, memory %s) = %v, %v; want %s", c.prefer, c.memory, uuids(got), err, c.want)
			continue
		}
		release()
	}
}

func TestRestoreTakesBackWhatAContainerHolds(t *testing.T) {
	p := pool(t, Assumed(2)...)
	p.Report(&functions.Failure{Class: functions.GPUHung}, []string{"assumed-0"}) // off: no matter
	_, release, err := p.Restore("t", some(1), []string{"assumed-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Restore("u", some(1), []string{"assumed-1"}); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("Restore of a leased device = %v, want ErrConflict", err)
	}
	if _, _, err := p.Restore("u", some(1), []string{"assumed-9"}); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("Restore of a device that is gone = %v, want ErrNotFound", err)
	}
	release()
	if _, _, err := p.Restore("u", some(1), []string{"assumed-1", "assumed-1"}); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("Restore of one device twice = %v, want ErrConflict", err)
	}
}

func TestNoInterleavingLendsADeviceTwice(t *testing.T) {
	classes := []functions.Class{"", functions.GPUHost, functions.GPUHung, functions.GPUDevice, functions.GPULost, functions.ExitError, functions.Infra}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 5).Draw(t, "devices")
		now := time.Unix(0, 0)
		p, err := New(Config{Devices: Assumed(n), Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		type held struct {
			ids     []string
			release func()
		}
		var leases []held
		owner := map[string]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				want := rapid.IntRange(1, 4).Draw(t, "want")
				got, release, err := p.Acquire("t", some(want), nil)
				if err != nil {
					if !errors.Is(err, functions.ErrThrottled) || len(got) > 0 {
						t.Fatalf("Acquire = %v, %v", got, err)
					}
					continue
				}
				if len(got) != want {
					t.Fatalf("asked for %d, got %d", want, len(got))
				}
				for _, id := range uuids(got) {
					if owner[id] {
						t.Fatalf("%s lent twice", id)
					}
					owner[id] = true
				}
				leases = append(leases, held{uuids(got), release})
			case 2:
				if len(leases) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(leases)-1).Draw(t, "which")
				l := leases[i]
				if c := rapid.SampledFrom(classes).Draw(t, "class"); c == "" {
					p.Report(nil, l.ids)
				} else {
					p.Report(&functions.Failure{Class: c}, l.ids)
				}
				l.release()
				l.release()
				for _, id := range l.ids {
					delete(owner, id)
				}
				leases = slices.Delete(leases, i, i+1)
			case 3:
				now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			}
			for _, g := range p.Snapshot() {
				if (len(g.Leases) > 0) != owner[g.UUID] {
					t.Fatalf("%s is %s, leases %v, held: %v", g.UUID, g.State, g.Leases, owner[g.UUID])
				}
			}
		}
		// Whatever happened, an idle pool recovers by itself.
		for _, l := range leases {
			l.release()
		}
		now = now.Add(longQuarantine)
		if n > 0 {
			if _, _, err := p.Acquire("t", some(n), nil); err != nil {
				t.Fatalf("all quarantines are over, yet: %v", err)
			}
		}
	})
}

func TestConcurrentAcquireNeverOversubscribes(t *testing.T) {
	p := pool(t, Assumed(4)...)
	var mu sync.Mutex
	held := map[string]bool{}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				got, release, err := p.Acquire("t", some(1+i%3), nil)
				if err != nil {
					continue
				}
				mu.Lock()
				for _, id := range uuids(got) {
					if held[id] {
						t.Errorf("%s lent twice", id)
					}
					held[id] = true
				}
				mu.Unlock()
				mu.Lock()
				for _, id := range uuids(got) {
					delete(held, id)
				}
				mu.Unlock()
				release()
			}
		})
	}
	wg.Wait()
}

func fail(c functions.Class) *functions.Failure {
	return &functions.Failure{Class: c, Message: "as seen"}
}

func TestDeviceQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, Assumed(2)...)
		sick := []string{"assumed-0"}
		state := func() functions.GPUInfo { return p.Snapshot()[0] }

		p.Report(fail(functions.GPUDevice), sick)
		if s := state(); s.State != functions.GPUFree {
			t.Fatalf("after one fault: %+v", s)
		}
		p.Report(nil, sick)
		p.Report(fail(functions.GPUUnknown), sick)
		if s := state(); s.State != functions.GPUFree {
			t.Fatalf("two faults with a success between: %+v", s)
		}
		p.Report(fail(functions.GPUMissing), sick)
		s := state()
		if s.State != functions.GPUQuarantined || s.Reason != "gpu_missing: as seen" || time.Until(s.Until) != 30*time.Second {
			t.Fatalf("after two faults in a row: %+v", s)
		}
		if _, _, err := p.Acquire("t", some(2), nil); err == nil {
			t.Fatal("a quarantined device was lent")
		}

		time.Sleep(30 * time.Second) // half open: the trial fails at once
		got, release, err := p.Acquire("t", some(1), sick)
		if err != nil || got[0].UUID != "assumed-0" {
			t.Fatalf("trial: %v, %v", uuids(got), err)
		}
		p.Report(fail(functions.GPUDevice), sick)
		release()
		if s := state(); time.Until(s.Until) != time.Minute {
			t.Fatalf("second quarantine: %+v", s)
		}
		for range 20 {
			time.Sleep(time.Until(state().Until))
			p.Report(fail(functions.GPUDevice), sick)
		}
		if d := time.Until(state().Until); d != 30*time.Minute {
			t.Fatalf("longest quarantine = %s, want 30m", d)
		}
		time.Sleep(30 * time.Minute)
		p.Report(fail(functions.ExitError), sick) // ran and blames no GPU
		p.Report(fail(functions.GPUDevice), sick)
		if s := state(); s.State != functions.GPUFree {
			t.Fatalf("a success did not reset the count: %+v", s)
		}
	})
}

func TestHostQuarantineAdmitsOneTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, Assumed(2)...)
		ids := []string{"assumed-0"}
		p.Report(fail(functions.GPUHost), ids)
		if s := p.Snapshot()[1]; s.State != functions.GPUFree {
			t.Fatalf("after one host fault: %+v", s)
		}
		p.Report(fail(functions.GPUHost), ids)
		for _, s := range p.Snapshot() {
			if s.State != functions.GPUQuarantined || s.Reason != "gpu_host: as seen" {
				t.Fatalf("after two host faults: %+v", s)
			}
		}
		if _, _, err := p.Acquire("t", some(1), nil); !errors.Is(err, functions.ErrThrottled) {
			t.Fatalf("Acquire while off = %v", err)
		}

		time.Sleep(30 * time.Second)
		_, release, err := p.Acquire("t", some(1), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.Acquire("u", some(1), nil); !errors.Is(err, functions.ErrThrottled) {
			t.Fatalf("a second trial at once = %v", err)
		}
		if s := p.Snapshot()[1]; s.State != functions.GPUQuarantined {
			t.Fatalf("the other device during the trial: %+v", s)
		}
		p.Report(fail(functions.Store), ids) // never launched: says nothing
		release()
		_, release, err = p.Acquire("t", some(1), nil)
		if err != nil {
			t.Fatalf("next trial after one that said nothing: %v", err)
		}
		p.Report(nil, ids)
		release()
		if _, _, err := p.Acquire("t", some(2), nil); err != nil {
			t.Fatalf("after a good trial: %v", err)
		}
	})
}

func TestOneHungLaunchSwitchesTheHostOff(t *testing.T) {
	p := pool(t, Assumed(1)...)
	p.Report(fail(functions.GPUHung), []string{"assumed-0"})
	if s := p.Snapshot()[0]; s.State != functions.GPUQuarantined {
		t.Fatalf("after a hung launch: %+v", s)
	}
}

func TestACPUAttemptSaysNothing(t *testing.T) {
	p := pool(t, Assumed(1)...)
	for range 5 {
		p.Report(fail(functions.GPUHung), nil)
	}
	if s := p.Snapshot()[0]; s.State != functions.GPUFree {
		t.Fatalf("after reports without devices: %+v", s)
	}
}
