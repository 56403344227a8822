package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

const (
	// settled is how long a program runs before readings are asked where it is: it
	// loads its libraries first.
	settled = 5 * time.Second
	// unseenAfter is how long one must have run before it is worth a word that it
	// never was on its GPU.
	unseenAfter = 10 * time.Second
)

// placement is what readings show of an attempt's processes. It is part of an
// attempt, under its mutex.
type placement struct {
	container runtime.ID // empty = none runs
	since     time.Time
	looks     int  // readings since it had settled that could show its processes
	seen      bool // one of them did
}

// placed notes in which container an attempt runs from now on.
func (a *attempt) placed(id runtime.ID, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.place = placement{container: id, since: since}
}

// displaced ends that.
func (a *attempt) displaced() placement {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.place
	a.place.container = ""
	return p
}

// checkPlacement compares where processes run with where they should. A driver
// gives out what it was asked for, by its own account; a program that turns up on
// another device is in the way of whoever holds that, and is stopped.
func (n *Node) checkPlacement(r probe.Reading) {
	find := n.look.finder()
	if r.Status != probe.OK || find == nil {
		return
	}
	groups := groupsIn(r, find)
	listed := r.Source == sourceNVML || len(groups) > 0
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.attempts {
		if !a.onGPU() {
			continue
		}
		if why := a.strayed(r, groups, listed); why != "" {
			n.cfg.Log.Error("program stopped", "task", a.key.task, "attempt", a.key.attempt, "why", why)
			a.stop(stopOrder{class: functions.GPUMissing, message: why,
				hint: "the node hands out the wrong device: write its CDI specification anew (nvidia-ctk cdi generate), or look at its container toolkit"})
		}
	}
}

const sourceNVML = "nvml"

// groupsIn are the cgroups of each process that a reading names.
func groupsIn(r probe.Reading, find func(pid int) string) map[int][]string {
	groups := make(map[int][]string)
	for _, d := range r.Devices {
		for _, p := range d.Processes {
			if _, ok := groups[p.PID]; !ok {
				groups[p.PID] = strings.FieldsFunc(find(p.PID), func(c rune) bool { return c == '/' || c == '\n' })
			}
		}
	}
	return groups
}

// within reports whether a process is in a container, by its cgroups: they have
// the container's ID for a name, or at the end of one.
func within(groups []string, id runtime.ID) bool {
	return slices.ContainsFunc(groups, func(g string) bool {
		g = strings.TrimSuffix(g, ".scope")
		return g == string(id) || g == "docker-"+string(id)
	})
}

// strayed says on which device a reading shows the attempt although it was not
// given it; empty when on none.
func (a *attempt) strayed(r probe.Reading, groups map[int][]string, listed bool) (why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &a.place
	if p.container == "" || r.At.Sub(p.since) < settled {
		return ""
	}
	if listed {
		p.looks++
	}
	for _, d := range r.Devices {
		own := slices.Contains(a.Leased, d.UUID)
		for _, process := range d.Processes {
			switch {
			case !within(groups[process.PID], p.container):
			case own:
				p.seen = true
			case !a.partOf(r, d.UUID):
				why = fmt.Sprintf("the program runs on GPU %s, and the attempt was given %s", d.UUID, strings.Join(a.Leased, ", "))
			default:
				p.seen = true
			}
		}
	}
	return why
}

// partOf reports whether a device of the attempt is an instance of the GPU, or was
// only assumed: then nobody knows which it is.
func (a *attempt) partOf(r probe.Reading, whole string) bool {
	return slices.ContainsFunc(a.Leased, func(id string) bool {
		i := indexOf(r, id)
		return i < 0 || r.Devices[i].Parent == whole
	})
}

// noteUnseen tells the attempt's log when no reading ever showed it on its GPU. It
// may have worked on the CPU all along, and that is its own business.
func (n *Node) noteUnseen(a *attempt) {
	p := a.displaced()
	if p.container != "" && !p.seen && p.looks > 1 && n.cfg.Now().Sub(p.since) >= unseenAfter {
		a.output.note("no process of the task was seen on its GPU")
	}
}

// withoutIdle leaves out of a reading what containers hold that wait for a task:
// they make room for any other. Where it cannot be known what they hold, they are
// ended, and the next reading tells.
func (n *Node) withoutIdle(r probe.Reading) probe.Reading {
	idle := n.served.Idle()
	if len(idle) == 0 || r.Status != probe.OK || r.Source == sourceSimulated {
		return r
	}
	var groups map[int][]string
	if find := n.look.finder(); find != nil {
		groups = groupsIn(r, find)
	}
	r, unknown := without(r, idle, groups)
	if len(unknown) > 0 {
		n.served.Free(noKey, unknown)
	}
	return r
}

// without leaves the processes of containers out of a reading, and names the
// devices of which nobody can tell what the containers hold there. Without groups
// nobody can of any.
func without(r probe.Reading, containers []runtime.ID, groups map[int][]string) (_ probe.Reading, unknown []string) {
	r.Devices = slices.Clone(r.Devices)
	for i := range r.Devices {
		d := &r.Devices[i]
		known := groups != nil && (r.Source == sourceNVML || len(d.Processes) > 0)
		var others []probe.Process
		for _, p := range d.Processes {
			ours := slices.ContainsFunc(containers, func(id runtime.ID) bool { return within(groups[p.PID], id) })
			switch {
			case !ours:
				others = append(others, p)
			case p.Memory < 0:
				known = false
			default:
				d.Used, d.Free = max(0, d.Used-p.Memory), min(d.Total, d.Free+p.Memory)
			}
		}
		d.Processes = others
		if !known {
			unknown = append(unknown, d.UUID)
		}
	}
	return r, unknown
}
