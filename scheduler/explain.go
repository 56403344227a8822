package scheduler

import (
	"fmt"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// explain says why a task is not running yet; false when it does not wait.
func (t *term) explain(id functions.TaskID) (functions.Waiting, bool) {
	k, ok := keyOf(id)
	if !ok {
		return functions.Waiting{}, false
	}
	s, ok := t.pool.find(k)
	if !ok {
		return functions.Waiting{}, false
	}
	e := t.pool.at(s)
	switch e.where {
	case uploading:
		left := time.Unix(0, t.alarms.all[e.next].at).Sub(t.now)
		return because(functions.WaitUpload, "its upload has not arrived; it expires in %s", short(left)), true
	case delayed:
		at := time.Unix(0, t.alarms.all[e.next].at)
		return because(functions.WaitDelay, "it is not to start before %s, in %s", at.UTC().Format(time.TimeOnly+"Z"), short(at.Sub(t.now))), true
	case proposed:
		return because(functions.WaitTurn, "a place was found; the decision is being written"), true
	case settling:
		return because(functions.WaitTurn, "what follows is being decided"), true
	case waiting:
		w := t.whyQueued(s, e)
		w.Ahead = t.queue.ahead(s)
		if w.Ahead > 0 {
			w.Reason += fmt.Sprintf("; %d of this function go first", w.Ahead)
		}
		return w, true
	}
	return functions.Waiting{}, false
}

// whyQueued finds the first thing that keeps a queued task from a node.
func (t *term) whyQueued(s slot, e *entry) functions.Waiting {
	v := t.versions[e.fn]
	switch {
	case !t.isOpen():
		return because(functions.WaitNoLeader, "a scheduler has just taken over and waits for the nodes to report")
	case !v.known:
		return because(functions.WaitFunction, "version %d of function %s is not known to this server yet", v.number, v.name)
	case !t.anyOpen():
		return t.whyNoNode()
	case !t.mounted(t.shares.names(e.shares)):
		return because(functions.WaitShare, "no node%s is ready, and inputs of the task are there", among(t.shares.names(e.shares)))
	case v.full():
		return because(functions.WaitConcurrency, "function %s runs %d of at most %d tasks at once", v.name, v.usage.running, v.fn.Concurrency)
	}
	if why := t.neverRuns(v, e); why != "" {
		return because(functions.WaitTooBig, "%s", why)
	}
	av := t.queue.avoids[s]
	d := t.decide(s, v, av)
	n := v.need(d.Device, t.shares.names(e.shares), av)
	if d.Device == functions.GPU {
		if d.Wait {
			w := t.whyNoGPU(n, d)
			t.expect(&w, s, v, n)
			return w
		}
	} else if r, _ := place(t.rooms, n); r == nil {
		return t.whyNoRoom(n)
	}
	return because(functions.WaitTurn, "other tasks go first")
}

func (t *term) whyNoNode() functions.Waiting {
	if len(t.nodes) == 0 {
		return because(functions.WaitNoNode, "no node has joined")
	}
	var silent, unready int
	why := ""
	for _, n := range t.nodes {
		switch {
		case !n.heard || t.now.Sub(n.seen) > t.cfg.HeartbeatFresh:
			silent++
		case !n.ready:
			unready++
			why = n.reason
		}
	}
	w := because(functions.WaitNoNode, "no node is ready: %d known, %d silent, %d not taking tasks", len(t.nodes), silent, unready)
	if why != "" {
		w.Reason += " (" + why + ")"
	}
	return w
}

func (t *term) whyNoGPU(n need, d decision) functions.Waiting {
	g := supplyOf(t.rooms, n)
	var parts []string
	code := functions.WaitGPUBusy
	switch {
	case g.Total == 0:
		code = functions.WaitNoGPUNode
		parts = append(parts, "no ready node"+among(n.Shares)+" has a GPU")
	case !g.Suited && g.Quarantined < g.Total:
		code = functions.WaitTooBig
		parts = append(parts, d.Reason)
	default:
		parts = append(parts, fmt.Sprintf("it needs %d of %d GPU(s): %d leased, %d quarantined", n.GPUs, g.Total, g.Leased, g.Quarantined))
		if g.Leased+g.Quarantined < g.Total {
			parts = append(parts, "the rest do not suit or their node has no room")
		}
	}
	if g.Quarantined > 0 && g.NextTrial.After(t.now) {
		parts = append(parts, "the next quarantined GPU is tried again in "+short(g.NextTrial.Sub(t.now)))
	}
	if d.For > 0 {
		parts = append(parts, "it goes to the CPU in "+short(d.For)+" if none is free by then")
	}
	return because(code, "%s", strings.Join(parts, "; "))
}

// expect adds what a wait for a GPU is expected to come to, as far as earlier
// attempts tell.
func (t *term) expect(w *functions.Waiting, s slot, v *version, n need) {
	if w.Code != functions.WaitGPUBusy {
		return
	}
	t.forecast = forecast{} // what it holds may be of the last round
	o, q := t.outlookOf(s, v, n), t.standingOf(s, v)
	next, ok := o.nextGPU()
	if !ok {
		return
	}
	w.NextGPU = seconds(next)
	w.Reason += "; next GPU free in about " + about(next)
	gpu, ok := o.onGPU(q.Ahead)
	if ok {
		w.ExpectedGPU = seconds(gpu)
	}
	if t.pool.at(s).demand == requiresGPU {
		return
	}
	cpu, known := o.onCPU()
	if known {
		w.ExpectedCPU = seconds(cpu)
	}
	if ok && known && cpu < gpu {
		w.Reason += fmt.Sprintf("; the CPU would finish sooner (about %s against about %s%s)", about(cpu), about(gpu), source(o.GPU, o.CPU))
	}
}

// seconds is a duration for a client, to a tenth.
func seconds(d time.Duration) float64 { return d.Round(soon).Seconds() }

func (t *term) whyNoRoom(n need) functions.Waiting {
	fitsIdle, open := false, 0
	var most functions.Resources
	for _, r := range t.rooms {
		if !r.Open || !r.has(n.Shares) {
			continue
		}
		open++
		fitsIdle = fitsIdle || n.Res.Fits(r.Capacity)
		most.MilliCPU = max(most.MilliCPU, r.Free.MilliCPU)
		most.Memory = max(most.Memory, r.Free.Memory)
		most.Tasks = max(most.Tasks, r.Free.Tasks)
	}
	if !fitsIdle {
		return because(functions.WaitTooBig, "it needs %s and %s, which no ready node%s has even when idle", cores(n.Res.MilliCPU), n.Res.Memory, among(n.Shares))
	}
	return because(functions.WaitRoom, "%d node(s)%s ready and full: it needs %s and %s; at most %s, %s and %d containers are free on one",
		open, among(n.Shares), cores(n.Res.MilliCPU), n.Res.Memory, cores(most.MilliCPU), most.Memory, most.Tasks)
}

func because(code functions.WaitCode, format string, args ...any) functions.Waiting {
	return functions.Waiting{Code: code, Reason: fmt.Sprintf(format, args...)}
}

func cores(milli int64) string { return fmt.Sprintf("%.4g CPU(s)", float64(milli)/1000) }

func short(d time.Duration) string { return max(d, 0).Round(time.Second).String() }
