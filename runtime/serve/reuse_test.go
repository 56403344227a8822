package serve

import (
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

func TestMayReuse(t *testing.T) {
	limits := func(r functions.Reuse) Limits { return LimitsOf(functions.Spec{Reuse: r}, false) }
	for name, c := range map[string]struct {
		limits Limits
		served int
		age    time.Duration
		fail   *functions.Failure
		want   bool
	}{
		"first":                 {limits(0), 1, time.Second, nil, true},
		"usual last":            {limits(0), UsualInvocations, time.Second, nil, false},
		"usual one before last": {limits(0), UsualInvocations - 1, time.Second, nil, true},
		"usual age":             {limits(0), 1, UsualAge, nil, false},
		"two of three":          {limits(3), 2, time.Second, nil, true},
		"three of three":        {limits(3), 3, time.Second, nil, false},
		"one of one":            {limits(1), 1, time.Second, nil, false},
		"N keeps the age":       {limits(3), 2, UsualAge, nil, false},
		"forever":               {limits(functions.ReuseForever), 1e6, 1e6 * time.Hour, nil, true},
	} {
		if got := MayReuse(c.limits, c.served, c.age, c.fail); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestOnlyAnswersKeepAContainer(t *testing.T) {
	for class, want := range map[functions.Class]bool{
		functions.ExitError: true, functions.Permanent: true, functions.TempFail: true,

		functions.TimedOutRun: false, functions.OutOfMemory: false, functions.Crashed: false, functions.BadEntry: false,
		functions.CanceledByUser: false, functions.GPUMemory: false, functions.GPULost: false, functions.GPUMissing: false,
		functions.GPUUnsuited: false, functions.Declined: false, functions.DiskExceeded: false, functions.BadOutput: false,
		functions.Infra: false, functions.NodeLost: false,
	} {
		if got := MayReuse(LimitsOf(functions.Spec{Reuse: functions.ReuseForever}, false), 1, 0, &functions.Failure{Class: class}); got != want {
			t.Errorf("after %s: got %v, want %v", class, got, want)
		}
	}
	ended := &functions.Failure{Class: functions.ExitError, ExitCode: 3}
	if MayReuse(Limits{}, 1, 0, ended) {
		t.Error("a container whose process has exited with code 3 was to be used again")
	}
}

func TestForeverOnAGPUEndsIdle(t *testing.T) {
	if l := LimitsOf(functions.Spec{Reuse: functions.ReuseForever}, true); l.Idle != UsualIdle || l.Invocations != 0 || l.Age != 0 {
		t.Errorf("got %+v", l)
	}
	if l := LimitsOf(functions.Spec{Reuse: functions.ReuseForever}, false); l != (Limits{}) {
		t.Errorf("got %+v, want no bound", l)
	}
}
