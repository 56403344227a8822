package gpu

import (
	"time"

	"github.com/spillway/spillway/functions"
)

const (
	// canaryTask is who holds what Trial has handed out.
	canaryTask functions.TaskID = "canary"
	// canaryPatience is how long tasks are kept off what a canary shall try first.
	canaryPatience = time.Minute
)

// Trial hands out a device that is due for a trial and that nobody holds, alone;
// when all of the host is due, any device will do. The caller runs a canary
// container on it, tells how that ended with Report, and releases. ok is false
// when no trial is due or possible.
func (p *Pool) Trial() (uuids []string, release func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if host := p.gate(now); host.state == functions.GPUUnread || p.host.open(now) || p.trial != nil {
		return nil, nil, false
	}
	d := p.unheld(now)
	if d == nil || !p.host.half(now) && !d.health.half(now) {
		return nil, nil, false
	}
	l, release := p.lend(canaryTask, 0, []*device{d}, now)
	p.mark(l, []*device{d}, now)
	return []string{d.info.UUID}, release, true
}

// Untried reports whether a canary shall still find out whether the host launches
// anything at all.
func (p *Pool) Untried() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.canary && p.host.trying && p.host.opened == 0 && p.driver.off == "" && p.present() > 0
}

// Waive ends the wait for the trial of the host: its next task is none. Devices that
// are sick or in doubt stay so.
func (p *Pool) Waive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge(functions.BlameCleared, "", p.now())
}

// unheld returns a device that a canary can have: when the host is due, rather one
// that is not in doubt itself. nil means that there is none.
func (p *Pool) unheld(now time.Time) (found *device) {
	host := p.host.half(now)
	for _, d := range p.devices {
		if d.ejected != "" || d.unread != "" || len(d.leases) > 0 || d.health.open(now) {
			continue
		}
		if doubt := d.health.half(now); doubt != host {
			return d
		} else if doubt {
			found = d
		}
	}
	return found
}

// awaits reports whether a canary shall try first what b has half closed.
func (p *Pool) awaits(b *breaker, now time.Time) bool {
	return p.canary && b.half(now) && now.Sub(b.until) < canaryPatience
}

// mark makes l the trial of whatever is half open.
func (p *Pool) mark(l *lease, devices []*device, now time.Time) {
	if p.host.half(now) {
		p.trial = l
	}
	for _, d := range devices {
		if d.health.half(now) {
			d.trial = l
		}
	}
}
