package gpu

import (
	"fmt"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// programXids are the Xid errors that a program can cause on a device that is
// well. Every other one ejects it. The list is that of NVIDIA's device plugin for
// Kubernetes.
var programXids = []uint64{13, 31, 43, 45, 68, 109}

// xidNames has the commonest of the others, from NVIDIA's Xid catalogue.
var xidNames = map[uint64]string{
	48: "uncorrectable memory error", 62: "microcontroller halt", 64: "a bad memory row could not be remapped",
	74: "NVLink error", 79: "the GPU has fallen off the bus", 95: "uncontained memory error",
	119: "the GPU's system processor does not answer", 120: "error of the GPU's system processor", 140: "unrecovered memory error",
}

// recoveries are the values of NVML's recovery action.
var recoveries = map[int]string{
	1: "a reset of the GPU", 2: "a reboot of the machine", 3: "that peer-to-peer work is drained",
	4: "that the GPU is drained and reset", 5: "a restart of the IMEX domain", 6: "a reset of the bus", 7: "a reset of the system",
}

// signs are what a reading says of a device's health.
type signs struct {
	ecc      int64 // uncorrected errors; -1 = not known
	remap    bool
	recovery int
	lost     bool
}

// read returns the signs of a device. What the driver does not say now is as
// before.
func read(d probe.Device, before signs) signs {
	s := signs{ecc: d.ECC, remap: d.Remap, recovery: d.Recovery, lost: d.Lost}
	if s.ecc < 0 {
		s.ecc = before.ecc
	}
	if s.recovery < 0 {
		s.recovery = before.recovery
	}
	return s
}

func (s signs) clean() bool { return !s.remap && s.recovery == 0 && !s.lost }

// worse says what is wrong in s that was not in before; empty when nothing is.
func (s signs) worse(before signs) string {
	switch {
	case s.lost && !before.lost:
		return "the GPU has fallen off the bus or needs a reset: reset it, or reboot the machine"
	case s.recovery != 0 && s.recovery != before.recovery:
		if what, ok := recoveries[s.recovery]; ok {
			return "the driver asks for " + what
		}
		return fmt.Sprintf("the driver asks for recovery action %d", s.recovery)
	case s.remap && !before.remap:
		return "a bad row of the GPU's memory could not be remapped: the GPU needs service"
	case before.ecc >= 0 && s.ecc > before.ecc:
		return fmt.Sprintf("uncorrected memory errors rose from %d to %d: reset the GPU", before.ecc, s.ecc)
	}
	return ""
}

// reset reports whether s shows that the device was reset, or its driver loaded
// anew, since before: the error count began again, or what only a reset mends is
// mended.
func (s signs) reset(before signs) bool {
	return s.ecc >= 0 && s.ecc < before.ecc || before.lost && !s.lost || before.recovery != 0 && s.recovery == 0 || before.remap && !s.remap
}

// eject takes a device out, for what was seen at a time, until it was reset or an
// operator readmits it. Who holds it keeps it.
func (d *device) eject(why string, at, now time.Time) {
	d.ejected, d.ejectedAt = why, at
	d.health.record(functions.BlameFatal, why, now)
}

// heal ends an ejection. The device is on probation then: what is left of its
// quarantine passes, and a trial decides.
func (d *device) heal(now time.Time) {
	d.ejected = ""
	if !d.health.open(now) {
		d.health.until = now
	}
}

// change is what happened between two readings that listed the devices, or between
// one that found no driver and the list after it.
type change struct {
	from, to time.Time // when they were taken
	reloaded bool      // the driver was loaded anew, or the device away
	another  bool      // the second is of another source: what they say does not compare
}

// examine ejects a device that a reading shows sick, and heals one that it shows
// clean after a reset. What made a device sick between two readings may have come
// after a reset between the same: only the next ones can tell.
func (d *device) examine(s signs, c change, now time.Time) {
	before := d.signs
	d.signs = s
	if c.reloaded || c.another {
		before.ecc = -1
	}
	if why := s.worse(before); why != "" {
		d.eject(why, c.to, now)
	} else if d.ejected != "" && !d.ejectedAt.After(c.from) && s.clean() && (c.reloaded || !c.another && s.reset(before)) {
		d.heal(now)
	}
}

// Xid ejects the device of an Xid error, unless a program can cause that by
// itself: every device when the driver does not say which, every instance when it
// is the GPU of MIG instances.
func (p *Pool) Xid(e probe.Event) {
	if slices.Contains(programXids, e.Xid) {
		return
	}
	why := fmt.Sprintf("Xid %d", e.Xid)
	if name := xidNames[e.Xid]; name != "" {
		why += ": " + name
	}
	why += ". Reset the GPU, or readmit it"
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, d := range p.devices {
		if e.UUID == "" || d.info.UUID == e.UUID || d.info.Parent == e.UUID {
			d.eject(why, now, now)
		}
	}
}

// Readmit ends the quarantine or the ejection of a device at once, without a
// trial, and with an empty uuid that of the host and of all its devices. What the
// driver goes on to report as before counts as known. It fails with ErrNotFound
// for a device that the node has not.
func (p *Pool) Readmit(uuid string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if uuid == "" {
		p.host, p.trial = breaker{limit: hostFaults}, nil
		for _, d := range p.devices {
			d.readmit()
		}
		return nil
	}
	d := p.find(uuid)
	if d == nil || d.gone {
		return functions.NotFound("no_such_gpu", "GPU %s is not on this node", uuid)
	}
	d.readmit()
	return nil
}

func (d *device) readmit() {
	if d.gone {
		return
	}
	d.ejected, d.health, d.trial = "", breaker{limit: deviceFaults}, nil
	d.traces.ended, d.traces.stuck = nil, false
}
