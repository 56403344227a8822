package serve

import (
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// What bounds a container of a function whose spec does not say (reuse is 0).
const (
	UsualIdle        = 5 * time.Minute // without an invocation
	UsualAge         = time.Hour
	UsualInvocations = 1000
)

// Limits are how long a container serves.
type Limits struct {
	Invocations int           // 0 = no bound
	Age         time.Duration // 0 = no bound
	Idle        time.Duration // between two invocations; 0 = no bound
}

// LimitsOf reads a spec: reuse N bounds the number of invocations in place of the
// usual one and keeps the usual times; forever bounds nothing, but for the idle
// time of a container that holds a GPU, whose memory others wait for.
func LimitsOf(s functions.Spec, gpu bool) Limits {
	l := Limits{Invocations: UsualInvocations, Age: UsualAge, Idle: UsualIdle}
	switch {
	case s.Reuse > 0:
		l.Invocations = int(s.Reuse)
	case s.Reuse == functions.ReuseForever:
		l = Limits{}
		if gpu {
			l.Idle = UsualIdle
		}
	}
	return l
}

// harmless are the failures after which a container is as good as before: the
// program has answered, and said no.
var harmless = []functions.Class{functions.ExitError, functions.Permanent, functions.TempFail}

// MayReuse decides whether a container serves again: served is how many
// invocations it was given, age how long it runs, and fail how the last one
// ended. A container that did anything but answer is never trusted again: not
// after a timeout, a cancel in flight, a lack of memory, a crash, an error of
// its start, or an error of CUDA, which stays with a process until its end.
func MayReuse(l Limits, served int, age time.Duration, fail *functions.Failure) bool {
	if fail != nil && (!slices.Contains(harmless, fail.Class) || fail.ExitCode != 0) {
		return false
	}
	return (l.Invocations == 0 || served < l.Invocations) && (l.Age == 0 || age < l.Age)
}
