package gpu

import (
	"cmp"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// pastMost bounds how many devices that went away unwell are remembered.
const pastMost = 64

const goneReason = "it is not in the driver's list any more"

// Observe takes in what the probe has read: devices appear, change and vanish. A
// leased device that vanishes stays known, ejected, until nobody holds it.
//
// Devices that are assumed because the agent cannot list them stay as they are
// while it cannot: a missing library or a silent probe says nothing of them.
func (p *Pool) Observe(r probe.Reading) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	at := r.At
	if at.IsZero() || at.After(now) {
		at = now
	}
	if at.Before(p.driver.at) && !p.driver.at.After(now) {
		return // a newer one was faster; or else the clock was set back
	}
	if p.assumes() && (r.Status == probe.NoDriver || r.Status == probe.Silent) {
		p.driver.off = ""
		return
	}
	if !at.Equal(p.driver.at) { // else it is told of again
		p.driver.took = now.Sub(at)
	}
	p.driver.asked, p.driver.at, p.driver.source = true, at, r.Source
	p.driver.none, p.driver.off = false, ""
	switch r.Status {
	case probe.OK:
		p.list(r, at, now)
	case probe.NoDriver:
		p.driver.none, p.driver.unloaded, p.driver.version, p.driver.cuda = true, at, "", ""
		p.vanish(nil, at, now)
	default:
		p.driver.off = trouble(r)
		if r.Status == probe.NotLoaded {
			p.driver.unloaded = at
		}
	}
}

// list takes in a list of devices.
func (p *Pool) list(r probe.Reading, at, now time.Time) {
	c := change{from: p.driver.listed, to: at, another: r.Source != p.driver.lister}
	version := cmp.Or(r.Driver, p.driver.version) // unknown for once is no change
	c.reloaded = p.driver.version != "" && version != p.driver.version
	if !p.driver.unloaded.IsZero() {
		c.from, c.reloaded = p.driver.unloaded, true
	}
	p.driver.listed, p.driver.unloaded = at, time.Time{}
	p.driver.lister, p.driver.version, p.driver.cuda = r.Source, version, r.CUDA
	var there []*device
	for _, seen := range r.Devices {
		if seen.MIG {
			continue
		}
		d := p.meet(seen)
		if d == nil {
			continue
		}
		there = append(there, d)
		d.take(seen, at, p.maxLeases)
		own := c
		own.reloaded = c.reloaded || d.gone
		d.examine(read(seen, d.signs), own, now)
		d.gone = false
		d.settle(seen, at, now)
	}
	p.vanish(there, at, now)
	p.sort()
	if len(there) == 0 {
		p.driver.off = empty(r)
	}
}

// meet returns the device that a reading speaks of: a known one, one that was
// away, or a new one. nil means that the reading does not name it.
func (p *Pool) meet(seen probe.Device) *device {
	for _, d := range p.devices {
		switch {
		case d.info.UUID == seen.UUID && seen.UUID != "":
			return d
		case seen.UUID == "" && seen.BusID != "" && d.info.BusID == seen.BusID && d.info.Parent == "":
			return d
		}
	}
	if seen.UUID == "" {
		return nil
	}
	if i := slices.IndexFunc(p.past, func(d *device) bool { return d.info.UUID == seen.UUID }); i >= 0 {
		d := p.past[i]
		p.past = slices.Delete(p.past, i, i+1)
		p.devices = append(p.devices, d)
		return d
	}
	for _, d := range p.devices { // the assumption was right: who holds it holds this one
		if d.info.Assumed && d.info.Index == seen.Index && seen.Parent == "" {
			d.alias, d.info.UUID, d.info.Assumed = d.info.UUID, seen.UUID, false
			return d
		}
	}
	d := newDevice(functions.GPUInfo{UUID: seen.UUID})
	p.devices = append(p.devices, d)
	return d
}

// take keeps what a reading says. A device whose memory the driver never tells is
// leased whole, as one that was not read; one whose memory could not be read now
// is not offered.
func (d *device) take(seen probe.Device, at time.Time, maxLeases int) {
	g := &d.info
	g.Index, g.BusID, g.Model, g.Parent, g.Profile, g.Can = seen.Index, seen.BusID, seen.Model, seen.Parent, seen.Profile, seen.Can
	d.unread = ""
	if seen.Total <= 0 || seen.Free < 0 {
		d.unread = seen.Error
		g.ReadAt, g.Used, g.Utilisation, g.MaxLeases, d.live = time.Time{}, 0, 0, 1, 0
		return
	}
	g.ReadAt, g.Memory, d.live, g.Utilisation = at, seen.Total, seen.Free, seen.Utilisation
	if g.Used = seen.Used; g.Used < 0 {
		g.Used = seen.Total - seen.Free
	}
	if g.MaxLeases = maxLeases; g.Parent != "" {
		g.MaxLeases = 1
	}
}

// vanish is told which devices were there at a time.
func (p *Pool) vanish(there []*device, at, now time.Time) {
	for _, d := range p.devices {
		if slices.Contains(there, d) {
			continue
		}
		d.gone, d.unread, d.traces = true, "", traces{}
		if d.ejected == "" && len(d.leases) > 0 {
			d.eject(goneReason, at, now)
		}
	}
	p.forgetGone()
}

// forgetGone drops the devices that have vanished and that nobody holds. One that
// was unwell is kept aside, lest it comes back as a new one.
func (p *Pool) forgetGone() {
	p.devices = slices.DeleteFunc(p.devices, func(d *device) bool {
		if !d.gone || len(d.leases) > 0 {
			return false
		}
		if d.ejected != "" || d.health.trying {
			p.past = append(p.past, d)
		}
		return true
	})
	p.past = p.past[max(0, len(p.past)-pastMost):]
}
