package gpu

import (
	"time"

	"github.com/spillway/spillway/functions"
)

// Snapshot returns every device as Acquire would treat it now: a claim on one
// device is granted if, and only if, one of them Takes it.
func (p *Pool) Snapshot() []functions.GPUInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	return p.describe(p.devices, p.gate(now), now)
}

func (p *Pool) describe(devices []*device, host gate, now time.Time) []functions.GPUInfo {
	var out []functions.GPUInfo
	for _, d := range devices {
		out = append(out, p.tell(d, host, now))
	}
	return out
}

func (p *Pool) tell(d *device, host gate, now time.Time) functions.GPUInfo {
	g := d.info
	g.Leases = d.shown
	g.Free = p.room(d, now)
	s := p.state(d, host, now)
	g.State, g.Reason, g.Until = s.state, s.reason, s.until
	return g
}

// room is what is left for further tasks: of the promises and of the reading, the
// smaller. A new task's promise counts on both sides, for the reading does not
// show yet what it will allocate.
func (p *Pool) room(d *device, now time.Time) functions.Bytes {
	if d.info.ReadAt.IsZero() {
		return 0
	}
	ledger := d.info.Memory - functions.GPUOverhead
	live := d.live - functions.GPUOverhead
	for _, l := range d.leases {
		if l.promise == 0 {
			return 0
		}
		ledger -= l.promise
		if now.Sub(l.since) < p.settle || !l.since.Before(d.info.ReadAt) {
			live -= l.promise
		}
	}
	for _, t := range d.traces.ended {
		if t.promise == 0 {
			return 0
		}
		ledger -= t.promise
	}
	return max(0, min(ledger, live))
}

// gate is a state and why: of the host as a whole it is empty when each device has
// its own.
type gate struct {
	state  functions.GPUState
	reason string
	until  time.Time
}

func (p *Pool) state(d *device, host gate, now time.Time) gate {
	switch {
	case d.ejected != "":
		return gate{state: functions.GPUEjected, reason: d.ejected}
	case host.state != "":
		return host
	case d.unread != "":
		return gate{state: functions.GPUUnread, reason: d.unread}
	case d.health.open(now):
		return gate{functions.GPUQuarantined, d.health.reason, d.health.until}
	case d.trial != nil:
		return gate{state: functions.GPUQuarantined, reason: "one task tries whether the GPU works again"}
	case p.awaits(&d.health, now) && len(d.leases) == 0:
		return gate{state: functions.GPUQuarantined, reason: "a canary container will try whether the GPU works again"}
	case len(d.leases) > 0:
		return gate{state: functions.GPULeased}
	case len(d.traces.ended) > 0:
		return gate{state: functions.GPUFree, reason: "the memory of the last task is not seen free yet"}
	}
	return gate{state: functions.GPUFree}
}
