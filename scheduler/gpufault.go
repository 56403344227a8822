package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// afterGPU moves the task to another GPU or to the CPU, as its policy allows.
func afterGPU(t *functions.Task, fn functions.Function, f functions.Failure, v view) functions.Verdict {
	if t.DeviceUsed() != functions.GPU {
		return end(functions.Failed, "%s on the CPU, which leaves no other device", f.Class)
	}
	required := demandOf(t.Route, t.Only) == requiresGPU
	tries, since := gpuFaults(t, v.Now)
	most, within := fn.Budget(required)
	spent := tries >= most || v.Now.Sub(since) >= within
	if required {
		return afterRequired(t, f, v, tries, most, spent)
	}
	how, ok := elsewhere(t, functions.React(f.Class).Next)
	if ok && v.Free && !spent {
		return functions.Verdict{To: functions.Queued, Why: how + ": " + causeOf(f)}
	}
	return functions.Verdict{
		To: functions.Queued, Device: functions.CPU, Fallback: f.Class,
		Why: "on the CPU instead: " + causeOf(f),
	}
}

// elsewhere says what a GPU attempt after this one is; false when the CPU is next.
func elsewhere(t *functions.Task, next functions.Next) (how string, ok bool) {
	switch next {
	case functions.NextDevice:
		return "on another GPU that is free", true
	case functions.NextHost:
		return "on a GPU of another node that is free", true
	case functions.NextBigger:
		short := count(t, func(a functions.Attempt) bool { return a.Failure.Class == functions.GPUMemory })
		return "once more with more GPU memory or a GPU alone, which is free", short == 1
	}
	return "", false
}

// afterRequired waits for another GPU, while there may be one.
func afterRequired(t *functions.Task, f functions.Failure, v view, tries, most int, spent bool) functions.Verdict {
	why := ""
	switch {
	case tries >= most:
		why = fmt.Sprintf("a GPU is required and %d attempts on GPUs have failed", tries)
	case spent:
		why = "a GPU is required and GPUs have failed it for too long"
	case !v.There:
		why = "a GPU is required and no other suitable one is there"
	default:
		return functions.Verdict{
			To: functions.Queued, NotBefore: v.Now.Add(doubled(minPlatformPause, tries, maxPlatformPause)),
			Why: fmt.Sprintf("on another GPU, try %d of %d: %s", tries+1, most, causeOf(f)),
		}
	}
	return noMoreGPU(f, why, story(t))
}

// noMoreGPU ends a task that only a GPU could have run, with all that was tried.
func noMoreGPU(f functions.Failure, why, story string) functions.Verdict {
	verdict := end(functions.Failed, "%s: %s", why, story)
	f.Message = why + ": " + story
	if f.Hint == "" {
		f.Hint = "see the GPUs of the nodes, or let it use the CPU too: device preferred"
	}
	verdict.Failure = &f
	return verdict
}

// gpuFaults counts the attempts that GPUs have failed, and says when the first of
// them began.
func gpuFaults(t *functions.Task, now time.Time) (n int, since time.Time) {
	since = now
	for _, a := range slices.Backward(life(t)) {
		if faulted(a) {
			n, since = n+1, a.StartedAt
		}
	}
	return n, since
}

func faulted(a functions.Attempt) bool {
	return a.Failure != nil && a.Device == functions.GPU && a.Failure.Class.GPUFault()
}

// story tells what GPUs have done to a task, attempt by attempt.
func story(t *functions.Task) string {
	var parts []string
	for _, a := range life(t) {
		if !faulted(a) {
			continue
		}
		where := string(a.Node)
		if len(a.GPUs) > 0 {
			where += " " + strings.Join(a.GPUs, " ")
		}
		parts = append(parts, fmt.Sprintf("attempt %d on %s: %s", a.Number, where, causeOf(*a.Failure)))
	}
	return strings.Join(parts, "; ")
}
