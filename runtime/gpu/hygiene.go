package gpu

import (
	"fmt"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

const (
	// returnSlack is how much more may be used after a task than before it.
	returnSlack = functions.GPUOverhead
	// returnWithin is how long a task's memory may take to come back.
	returnWithin = 30 * time.Second
)

// traces are what tasks leave behind. The promise of one that has ended stands
// until a reading taken later shows its memory free, so that nobody is lent what
// a dying process still holds.
//
// Used memory does not say whose it is. Before the first task of several, what was
// used is somebody else's; afterwards a process that was there before, or that
// came after the end, is too, and may grow as it likes. Where the driver names no
// processes, growth of somebody else's looks like a trace, and costs the device one
// quarantine: from then on it counts as theirs.
type traces struct {
	ended []ended
	idle  bool            // the next two are known
	base  functions.Bytes // used while no task of ours held the device, beyond the processes named
	ours  map[int]bool    // processes first seen while tasks held the device
	known map[int]bool    // processes seen before that
	stuck bool            // the device is in quarantine for them
}

// ended is a lease that no reading has confirmed the end of.
type ended struct {
	promise functions.Bytes
	at      time.Time
}

func (t *traces) end(l *lease, now time.Time) {
	t.ended = append(t.ended, ended{l.promise, now})
}

// settle judges by a reading what has ended before it.
func (d *device) settle(seen probe.Device, at, now time.Time) {
	t := &d.traces
	if d.info.ReadAt.IsZero() {
		*t = traces{}
		return
	}
	left := d.info.Used - t.base - t.others(seen.Processes)
	if t.stuck {
		switch {
		case len(d.leases) > 0 || !d.health.open(now):
			t.stuck = false
		case left <= returnSlack:
			t.stuck, d.health.until = false, now
		}
	}
	t.attribute(seen.Processes, len(d.leases) > 0)
	first := slices.IndexFunc(t.ended, func(e ended) bool { return e.at.Before(at) })
	if first >= 0 {
		oldest := t.ended[first].at
		if d.returned(left) {
			t.ended = slices.DeleteFunc(t.ended, func(e ended) bool { return e.at.Before(at) })
		} else if now.Sub(oldest) > returnWithin {
			// Beside other tasks nobody can tell whose it is: the reading alone counts.
			if t.ended = nil; len(d.leases) == 0 {
				d.health.record(functions.BlameFatal, fmt.Sprintf("%s are still in use after the task's end", left), now)
				t.stuck = true
			}
		}
	}
	if len(d.leases) == 0 && len(t.ended) == 0 && !t.stuck {
		t.rest(d.info.Used, seen.Processes)
	}
}

// returned reports whether what is left in use is no more than other tasks may
// use.
func (d *device) returned(left functions.Bytes) bool {
	for _, l := range d.leases {
		if l.promise == 0 {
			return true
		}
		left -= l.promise
	}
	return !d.traces.idle || left <= returnSlack
}

// attribute keeps which processes came while tasks held the device.
func (t *traces) attribute(processes []probe.Process, held bool) {
	ours := make(map[int]bool)
	for _, p := range processes {
		if t.ours[p.PID] || held && !t.known[p.PID] {
			ours[p.PID] = true
		}
	}
	t.ours = ours
}

// others is what processes that are not ours use.
func (t *traces) others(processes []probe.Process) (sum functions.Bytes) {
	for _, p := range processes {
		if !t.ours[p.PID] {
			sum += max(p.Memory, 0)
		}
	}
	return sum
}

// rest takes what is in use as somebody else's.
func (t *traces) rest(used functions.Bytes, processes []probe.Process) {
	t.ours, t.known = nil, make(map[int]bool)
	for _, p := range processes {
		t.known[p.PID] = true
	}
	t.base, t.idle = max(0, used-t.others(processes)), true
}
