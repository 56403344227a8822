package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// The bounds of trying again.
const (
	maxPlatformTries = 10                     // failures of ours in a row before we say so
	maxBackoff       = 5 * time.Minute        // between retries of the function's own failures
	minPlatformPause = time.Second            // after the first failure of ours; doubles
	maxPlatformPause = time.Minute            //
	minRefusedPause  = 100 * time.Millisecond // after a refusal: a place may be free elsewhere right now
)

// gaveUp begins the sentence of every verdict that ends a task.
const gaveUp = "gave up: "

// view is what the fleet offers to the next attempt of a task whose attempt on a
// GPU has just failed: to what it asks for now, away from what has failed it.
type view struct {
	Now   time.Time
	Free  bool // a place on GPUs is free now
	There bool // one is there, free or not, well or not
}

// follow says what comes after an attempt that failed with f. The class alone
// decides; a failure of the function itself never changes the device.
func follow(t *functions.Task, fn functions.Function, f functions.Failure, v view) functions.Verdict {
	verdict := byClass(t, fn, f, v)
	verdict.Attempt = t.Attempt
	if verdict.To != functions.Queued && verdict.Failure == nil {
		verdict.Failure = &f
	}
	return verdict
}

func byClass(t *functions.Task, fn functions.Function, f functions.Failure, v view) functions.Verdict {
	switch {
	case f.Class.GPUFault():
		return afterGPU(t, fn, f, v)
	case f.Class.Platform():
		return afterPlatform(t, fn, f, v)
	}
	switch f.Class {
	case functions.ExitError, functions.Crashed, functions.TempFail, functions.TimedOutRun:
		return afterUser(t, fn, f, v)
	case functions.CanceledByUser:
		return functions.Verdict{To: functions.Canceled, Why: gaveUp + "canceled"}
	}
	return end(functions.Failed, "%s is not worth another try", f.Class)
}

// afterUser retries as the call's own policy says, or else the function's.
func afterUser(t *functions.Task, fn functions.Function, f functions.Failure, v view) functions.Verdict {
	policy, whose := fn.Retries, "function"
	if t.Retries != nil {
		policy, whose = *t.Retries, "call"
	}
	to := functions.Failed
	if f.Class == functions.TimedOutRun {
		to = functions.TimedOut
	}
	n := count(t, func(a functions.Attempt) bool { return ownFault(a.Failure.Class) })
	if n <= policy.Max {
		pause := doubled(policy.Backoff.Std(), n, maxBackoff)
		if tooOld(t, v.Now.Add(pause)) {
			return end(to, "%s, and a retry in %s would be past the age of %s that the call allows", f.Class, pause, t.MaxAge)
		}
		return functions.Verdict{
			To: functions.Queued, NotBefore: v.Now.Add(pause),
			Why: fmt.Sprintf("retry %d of %d in %s: %s", n, policy.Max, pause, f.Class),
		}
	}
	if policy.Max == 0 {
		return end(to, "%s, and the %s has no retries", f.Class, whose)
	}
	return end(to, "%s, and all %d retries are used", f.Class, policy.Max)
}

// tooOld reports whether the task has outlived its own limit by then.
func tooOld(t *functions.Task, then time.Time) bool {
	return t.MaxAge > 0 && then.Sub(t.CreatedAt) > t.MaxAge.Std()
}

func ownFault(c functions.Class) bool {
	switch c {
	case functions.ExitError, functions.Crashed, functions.TempFail, functions.TimedOutRun:
		return true
	}
	return false
}

// causeOf is the class with the first line of what was seen.
func causeOf(f functions.Failure) string {
	line, _, _ := strings.Cut(strings.TrimSpace(f.Message), "\n")
	const most = 200
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "..."
	}
	if line == "" {
		return string(f.Class)
	}
	return string(f.Class) + " (" + line + ")"
}

// afterPlatform tries again, elsewhere if there is an elsewhere, until it is
// plain that it does not help.
func afterPlatform(t *functions.Task, fn functions.Function, f functions.Failure, v view) functions.Verdict {
	all, counted, since := inARow(t, v.Now)
	if counted >= maxPlatformTries {
		return end(functions.Failed, "%d failures of the platform in a row, the last one %s", counted, causeOf(f))
	}
	limit := fn.QueueTimeout.Std()
	if t.MaxAge > 0 {
		limit = t.MaxAge.Std()
	}
	if limit > 0 && v.Now.Sub(since) > limit {
		return end(functions.Failed, "%s, and no place was found in %s", causeOf(f), limit)
	}
	first := minPlatformPause
	if f.Class == functions.Refused {
		first = minRefusedPause
	}
	pause := doubled(first, all, maxPlatformPause)
	return functions.Verdict{
		To: functions.Queued, NotBefore: v.Now.Add(pause),
		Why: fmt.Sprintf("again in %s, not counted as a retry: %s", pause, causeOf(f)),
	}
}

// inARow counts the newest attempts that ended by our fault without another
// end between them; counted leaves refusals out, which cost nothing; since is
// when the first of them began.
func inARow(t *functions.Task, now time.Time) (all, counted int, since time.Time) {
	since = now
	for _, a := range slices.Backward(life(t)) {
		if a.Failure == nil || !a.Failure.Class.Platform() {
			break
		}
		all++
		since = a.StartedAt
		if a.Failure.Class != functions.Refused {
			counted++
		}
	}
	return max(all, 1), counted, since
}

// life returns the attempts since the task was accepted or a client last asked
// for it again.
func life(t *functions.Task) []functions.Attempt {
	i := slices.IndexFunc(t.Attempts, func(a functions.Attempt) bool { return a.Number > t.Earlier })
	if i < 0 {
		return nil
	}
	return t.Attempts[i:]
}

// count counts the failed attempts of this life that match.
func count(t *functions.Task, match func(functions.Attempt) bool) (n int) {
	for _, a := range life(t) {
		if a.Failure != nil && match(a) {
			n++
		}
	}
	return n
}

func doubled(first time.Duration, n int, most time.Duration) time.Duration {
	d := first
	for i := 1; i < n && d < most; i++ {
		d *= 2
	}
	return min(d, most)
}

func end(to functions.State, format string, args ...any) functions.Verdict {
	return functions.Verdict{To: to, Why: gaveUp + fmt.Sprintf(format, args...)}
}
