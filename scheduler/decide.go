package scheduler

import (
	"fmt"
	"time"

	"github.com/spillway/spillway/functions"
)

// ask is what a device decision depends on, on the side of the task.
type ask struct {
	Route      functions.Route
	Only       functions.Device
	Waited     time.Duration
	SpillAfter time.Duration
	GPUs       int             // devices wanted
	Memory     functions.Bytes // wanted on each; 0 = any
	Shares     []string        // shared folders that it needs: the supply is of nodes that have them
	Queue      standing
	Outlook    outlook // under policy fastest
}

// standing is a task's place among those of its function that wait for a GPU.
type standing struct {
	Ahead int // that go before it
	All   int // itself included
	Limit int // beyond so many the rest go to the CPU; 0 = never
}

func (q standing) over() bool { return q.Limit > 0 && q.Ahead >= q.Limit }

// demandOf says what a task wants, by its route, or by what a respawn or a
// client's retry has fixed.
func demandOf(r functions.Route, only functions.Device) demand {
	switch {
	case only == functions.CPU:
		return wantsCPU
	case only == functions.GPU, r.Policy == functions.Required:
		return requiresGPU
	case r.Policy == functions.Never:
		return wantsCPU
	case r.Policy == functions.Preferred, r.Device == functions.GPU:
		return prefersGPU
	}
	return wantsCPU
}

// supply is the GPUs of the ready nodes, as far as one function is concerned.
type supply struct {
	Nodes       int       // ready nodes
	Total       int       // devices they have
	Leased      int       // of those
	Quarantined int       // of those
	NextTrial   time.Time // when the first quarantined device is tried again; zero = unknown
	Suited      bool      // some node could run the task on GPUs were it idle
	Fits        bool      // some node can run it on GPUs now
	Shunned     bool      // but only nodes that have just refused or lost it
}

// decision is the device of an attempt about to be placed. Wait means: nothing
// yet; For is how long until the answer may change by time alone, 0 = it does not.
type decision struct {
	Device functions.Device
	Wait   bool
	For    time.Duration
	Reason string
}

// decide chooses a device from what is free at this moment. It is asked again
// whenever something changes, so that a choice binds nobody before the launch.
func decide(a ask, s supply) decision {
	switch demandOf(a.Route, a.Only) {
	case wantsCPU:
		return decision{Device: functions.CPU, Reason: whyCPU(a)}
	case requiresGPU:
		if s.Fits {
			return decision{Device: functions.GPU, Reason: whyGPU(a)}
		}
		return decision{Device: functions.GPU, Wait: true, Reason: shortage(a, s)}
	}
	patience := patienceOf(a)
	if s.Fits && (!s.Shunned || a.Waited < patience) {
		return freeGPU(a)
	}
	if !s.Suited && s.Nodes > 0 {
		return decision{Device: functions.CPU, Reason: "on the CPU at once: " + shortage(a, s)}
	}
	if s.Nodes > 0 && a.Queue.over() {
		return decision{Device: functions.CPU, Reason: fmt.Sprintf(
			"spilled: %d tasks of the function wait for a GPU, over its limit of %d", a.Queue.All, a.Queue.Limit)}
	}
	if why, sooner := soonerOnCPU(a); sooner {
		return decision{Device: functions.CPU, Reason: why}
	}
	if left := patience - a.Waited; left > 0 {
		return decision{Device: functions.GPU, Wait: true, For: left, Reason: shortage(a, s)}
	}
	if s.Nodes == 0 {
		return decision{Device: functions.CPU, Reason: fmt.Sprintf("spilled after %s: no node%s was ready", patience, among(a.Shares))}
	}
	return decision{Device: functions.CPU, Reason: fmt.Sprintf("spilled after %s: %s", patience, shortage(a, s))}
}

// patienceOf is how long a task that may use the CPU waits for a GPU at most.
// Under policy fastest a wait that looked worth it may last as long as the CPU
// would have taken: one that lasts longer was misjudged.
func patienceOf(a ask) time.Duration {
	if cpu := a.Outlook.CPU; a.Route.Policy == functions.Fastest && cpu.known() && a.Outlook.GPU.known() {
		return max(a.SpillAfter, cpu.Took.Round(time.Second))
	}
	return a.SpillAfter
}

// freeGPU decides for a task that a GPU is free for. Under policy fastest it goes
// to the CPU when that is known to be faster and has room at this moment; while
// either is known from too few attempts, the GPU is tried.
func freeGPU(a ask) decision {
	gpu, cpu := a.Outlook.GPU, a.Outlook.CPU
	switch {
	case a.Route.Policy != functions.Fastest || !gpu.known() || !cpu.known():
		return decision{Device: functions.GPU, Reason: whyGPU(a)}
	case a.Outlook.CPUFree && cpu.Took < gpu.Took:
		return decision{Device: functions.CPU, Reason: fmt.Sprintf(
			"policy fastest: the CPU is expected to finish in about %s, a free GPU in about %s%s", about(cpu.Took), about(gpu.Took), source(gpu, cpu))}
	}
	return decision{Device: functions.GPU, Reason: fmt.Sprintf(
		"policy fastest: a free GPU is expected to finish in about %s, the CPU in about %s%s", about(gpu.Took), about(cpu.Took), source(gpu, cpu))}
}

// soonerOnCPU reports whether a task under policy fastest, for which no GPU is
// free, is expected to be done sooner on the CPU.
func soonerOnCPU(a ask) (why string, sooner bool) {
	if a.Route.Policy != functions.Fastest {
		return "", false
	}
	o := a.Outlook
	cpu, ok := o.onCPU()
	if !ok || !o.tells(a.Queue.Ahead) || o.inTime(a.Queue.Ahead, cpu) {
		return "", false
	}
	if !o.CPUFree { // nothing comes of it now: the numbers are not worth computing
		return "policy fastest: the CPU is expected to finish first, once it has room", true
	}
	gpu, _ := o.onGPU(a.Queue.Ahead)
	return fmt.Sprintf("policy fastest: the CPU is expected to finish in about %s, the next GPU in about %s%s",
		about(cpu), about(gpu), source(o.GPU, o.CPU)), true
}

func whyCPU(a ask) string {
	if a.Only == functions.CPU {
		return "only the CPU is left for this task"
	}
	return a.Route.Reason
}

func whyGPU(a ask) string {
	switch {
	case a.Only == functions.GPU:
		return "asked to run on a GPU only; one is free"
	case a.GPUs > 1:
		return fmt.Sprintf("%s; %d GPUs are free on one node", a.Route.Reason, a.GPUs)
	}
	return a.Route.Reason + "; one is free"
}

// shortage says why no GPU can be had now.
func shortage(a ask, s supply) string {
	switch {
	case s.Nodes == 0:
		return "no node" + among(a.Shares) + " is ready"
	case s.Total == 0:
		return "no ready node" + among(a.Shares) + " has a GPU"
	case s.Quarantined == s.Total:
		return "every GPU" + of(a) + " is quarantined"
	case !s.Suited && a.Memory > 0:
		return fmt.Sprintf("no ready node%s offers %d healthy GPU(s) of %s and the rest of what the function needs", among(a.Shares), a.GPUs, a.Memory)
	case !s.Suited:
		return fmt.Sprintf("no ready node%s offers %d healthy GPU(s) and the rest of what the function needs", among(a.Shares), a.GPUs)
	case s.Fits:
		return "the node with a free GPU does not take the task"
	case s.Leased+s.Quarantined == s.Total:
		return "every GPU" + of(a) + " is busy"
	}
	return "the free GPUs do not suit: too few on one node, or that node has no room"
}

// of narrows "every GPU" to the nodes that count.
func of(a ask) string {
	if len(a.Shares) == 0 {
		return ""
	}
	return " of the nodes" + among(a.Shares)
}
