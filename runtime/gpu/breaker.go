package gpu

import (
	"time"

	"github.com/spillway/spillway/functions"
)

const (
	// deviceFaults in a row put a device into quarantine. One fault may be the
	// program's: messages do not always tell.
	deviceFaults = 2
	// hostFaults in a row switch the node's GPUs off. The first may be a passing
	// fault of the engine; by the second, each further launch would only cost its
	// task a respawn. A launch that hung counts as both: it has cost its whole
	// deadline already.
	hostFaults = 2

	firstQuarantine = 30 * time.Second
	longQuarantine  = 30 * time.Minute
)

// breaker opens after limit faults in a row, for twice as long each time. The
// time over, it is half open: it lets a trial pass and still remembers.
type breaker struct {
	limit  int
	faults int  // in a row
	opened int  // times in a row
	trying bool // it has opened, or nothing was tried yet: a trial is due once it is not open
	until  time.Time
	reason string
}

func (b *breaker) open(now time.Time) bool { return now.Before(b.until) }

func (b *breaker) half(now time.Time) bool { return b.trying && !b.open(now) }

func (b *breaker) record(v functions.Blame, reason string, now time.Time) {
	// An attempt that ends while it is open began before: it says nothing of now.
	if b.open(now) {
		return
	}
	switch v {
	case functions.BlameNothing:
		return
	case functions.BlameCleared:
		*b = breaker{limit: b.limit}
		return
	case functions.BlameFault:
		b.faults++
	case functions.BlameFatal:
		b.faults = max(b.faults+1, b.limit)
	}
	if b.faults < b.limit && !b.trying {
		return
	}
	b.faults = b.limit
	b.until = now.Add(min(firstQuarantine<<min(b.opened, 10), longQuarantine))
	b.opened++
	b.trying = true
	b.reason = reason
}

// Launched tells that the container of an attempt that holds devices has started.
// It spares a host that is being tried the wait for the end of a long task: that
// launches work again is known now.
func (p *Pool) Launched(uuids []string) {
	if len(uuids) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge(functions.BlameCleared, "", p.now())
}

// judge takes in what an attempt says of the host.
func (p *Pool) judge(v functions.Blame, reason string, now time.Time) {
	if p.host.record(v, reason, now); !p.host.trying {
		p.trial = nil
	}
}

// judge takes in what an attempt says of a device that it held.
func (d *device) judge(v functions.Blame, reason string, now time.Time) {
	if d.ejected != "" {
		return
	}
	if d.health.record(v, reason, now); !d.health.trying {
		d.trial = nil
	}
}

// Report tells how an attempt that held devices ended; nil means it succeeded.
// Call it before the release.
func (p *Pool) Report(f *functions.Failure, uuids []string) {
	if len(uuids) == 0 {
		return
	}
	var class functions.Class
	var reason string
	if f != nil {
		class = f.Class
		reason = string(f.Class) + ": " + f.Message
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	r := functions.React(class)
	p.judge(r.Host, reason, now)
	for _, id := range uuids {
		if d := p.find(id); d != nil {
			d.judge(r.Device, reason, now)
		}
	}
}
