package functions

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestADeviceTakesWhatFitsBesideItsLeases(t *testing.T) {
	const total = 24 * GiB
	read := func(free Bytes, leases ...GPULease) GPUInfo {
		return GPUInfo{State: GPUFree, Memory: total, Free: free, ReadAt: time.Unix(1, 0), MaxLeases: 2, Leases: leases}
	}
	four, alone := GPUClaim{Count: 1, Memory: 4 * GiB}, GPUClaim{Count: 1}
	held, whole := GPULease{Task: "t", Memory: 5 * GiB}, GPULease{Task: "t"}
	busy, off, unread := read(total-GPUOverhead), read(total), read(total)
	busy.Utilisation, off.State, unread.ReadAt = 95, GPUEjected, time.Time{}
	busyOurs := read(12*GiB, held)
	busyOurs.Utilisation = 100
	for name, c := range map[string]struct {
		device GPUInfo
		claim  GPUClaim
		want   bool
	}{
		"idle, shared":                      {read(total - GPUOverhead), four, true},
		"idle, alone":                       {read(total - GPUOverhead), alone, true},
		"a display does not disturb":        {read(total - GPUOverhead - GiB), alone, true},
		"somebody else's memory does":       {read(total - 4*GiB), alone, false},
		"so it does on a small one":         {GPUInfo{State: GPUFree, Memory: GiB, ReadAt: time.Unix(1, 0)}, alone, false},
		"shared beside somebody else":       {read(5 * GiB), four, true},
		"context and memory must fit":       {read(4*GiB + 511*MiB), four, false},
		"beside another":                    {read(12*GiB, held), four, true},
		"not beside one that is alone":      {read(12*GiB, whole), four, false},
		"alone not beside another":          {read(12*GiB, held), alone, false},
		"exclusive is alone":                {read(20*GiB, held), GPUClaim{Count: 1, Memory: GiB, Exclusive: true}, false},
		"no more than may share":            {read(12*GiB, held, held), four, false},
		"somebody else works on it":         {busy, four, false},
		"our own work is none of that":      {busyOurs, four, true},
		"sick":                              {off, four, false},
		"never read, first":                 {unread, four, true},
		"never read, second":                {GPUInfo{State: GPULeased, MaxLeases: 4, Leases: []GPULease{held}}, four, false},
		"larger than it is":                 {read(total), GPUClaim{Count: 1, Memory: total}, false},
		"no encoder":                        {read(total), GPUClaim{Count: 1, Memory: GiB, Can: []string{"nvenc"}}, false},
		"an assumed one is given a chance":  {GPUInfo{State: GPUFree, Assumed: true}, GPUClaim{Count: 1, Can: []string{"nvenc"}}, true},
		"all GPUs are whole ones":           {GPUInfo{State: GPUFree, Parent: "GPU-1"}, GPUClaim{All: true}, false},
		"a MIG instance is alone by itself": {GPUInfo{State: GPUFree, Parent: "GPU-1", Memory: 18 * GiB}, four, true},
	} {
		if got := c.device.Takes(c.claim); got != c.want {
			t.Errorf("%s: Takes = %v", name, got)
		}
	}
}

func TestReactionsAreWhole(t *testing.T) {
	for c, r := range reactions {
		if c.GPUFault() != (r.Next != NextNone) {
			t.Errorf("%s: next %s, and GPUFault is %v", c, r.Next, c.GPUFault())
		}
		if c.GPULaunch() && r.Host == BlameCleared {
			t.Errorf("%s clears the host, whose launch has failed", c)
		}
		if (c == GPUHost || c == GPUHung) && r.Host == BlameNothing || c == GPULost && r.Device != BlameFatal {
			t.Errorf("%s blames nobody", c)
		}
	}
	for _, c := range append(append([]Class{}, launchGPU...), runGPU...) {
		if _, ok := reactions[c]; !ok {
			t.Errorf("%s has no reaction", c)
		}
	}
	for _, c := range []Class{"", ExitError, Permanent, TempFail, OutOfMemory, Crashed, TimedOutRun, DiskExceeded, BadOutput} {
		if r := React(c); r != (Reaction{NextNone, BlameCleared, BlameCleared}) {
			t.Errorf("%q, which ran, is %+v", c, r)
		}
	}
}

func TestAClaimNeverTakesLessThanItSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		need := &GPUNeed{Count: rapid.IntRange(0, 8).Draw(t, "count"), Memory: Bytes(rapid.Int64Range(0, 1<<40).Draw(t, "memory")), Exclusive: rapid.Bool().Draw(t, "exclusive")}
		c := Spec{GPU: need}.Claim()
		if c.Count < 1 || c.Alone() != (need.Memory == 0 || need.Exclusive) || (!c.Alone() && c.Promise() < need.Memory) {
			t.Fatalf("%+v claims %+v, promise %s", need, c, c.Promise())
		}
	})
	if c := (Assignment{Device: GPU}).Asks(); c.Count != 1 {
		t.Errorf("an order without claim asks for %+v", c)
	}
	if c := (Assignment{Device: CPU, Claim: GPUClaim{Count: 2}}).Asks(); c.Count != 0 {
		t.Errorf("a CPU attempt asks for %+v", c)
	}
}
