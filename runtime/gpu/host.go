package gpu

import (
	"fmt"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// driver is what readings have said of the host as a whole.
type driver struct {
	configured bool          // devices were given before any reading
	asked      bool          // there was a reading, whatever it said
	listed     time.Time     // of the last reading that listed the devices; zero = none has
	none       bool          // no driver is installed
	off        string        // why none of the devices can be used; empty = they can
	unloaded   time.Time     // of the last reading since that found it out of the kernel; zero = none has
	at         time.Time     // of the last reading
	took       time.Duration // until the last reading was told of
	source     string        // of the last reading
	lister     string        // source of the last reading that listed the devices
	version    string
	cuda       string
}

// assumes reports whether devices are known by assumption alone.
func (p *Pool) assumes() bool {
	return slices.ContainsFunc(p.devices, func(d *device) bool { return d.info.Assumed })
}

// gate is what holds for every device of the host.
func (p *Pool) gate(now time.Time) gate {
	switch {
	case p.driver.off != "":
		return gate{state: functions.GPUUnread, reason: p.driver.off}
	case !p.driver.listed.IsZero() && now.Sub(p.driver.at) > p.stale+2*p.driver.took:
		return gate{state: functions.GPUUnread, reason: fmt.Sprintf("the GPUs were last read %s ago", now.Sub(p.driver.at).Round(time.Second))}
	}
	return p.launches(now)
}

// launches is the part of gate that the outcome of launches decides.
func (p *Pool) launches(now time.Time) gate {
	switch {
	case p.host.open(now):
		return gate{functions.GPUQuarantined, p.host.reason, p.host.until}
	case p.trial != nil:
		return gate{state: functions.GPUQuarantined, reason: "one task tries whether the GPUs of this node work"}
	case p.awaits(&p.host, now) && p.unheld(now) != nil:
		return gate{state: functions.GPUQuarantined, reason: "a canary container will try whether the GPUs of this node work"}
	}
	return gate{}
}

// Host is what the node says of its GPUs as a whole; nil when it has none and
// never looked for any.
func (p *Pool) Host() *functions.GPUHostInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.driver.asked && !p.driver.configured {
		return nil
	}
	now := p.now()
	h := &functions.GPUHostInfo{State: functions.GPUHostReady, Source: p.driver.source, Driver: p.driver.version, CUDA: p.driver.cuda, Unsuited: p.images(now)}
	if h.Source == "" && p.assumes() {
		h.Source = "assumed"
	}
	launches := p.launches(now)
	switch {
	case p.driver.none:
		h.State, h.Reason = functions.GPUHostNone, "no NVIDIA driver is installed"
	case p.driver.off != "":
		h.State, h.Reason = functions.GPUHostOff, p.driver.off
	case launches.state != "":
		h.State, h.Reason, h.Until = functions.GPUHostOff, launches.reason, launches.until
	}
	return h
}

// trouble says why a reading that is not OK leaves no device to use, and what to
// do about it.
func trouble(r probe.Reading) string {
	var why string
	switch r.Status {
	case probe.NotLoaded:
		why = "the NVIDIA kernel module is not loaded: run modprobe nvidia on the machine, or reboot it"
	case probe.Mismatch:
		why = "the NVIDIA driver was upgraded while the old one is still loaded: reboot the machine"
	case probe.Silent:
		why = "the GPU probe gives no answer: if that lasts, look at nvidia-smi and dmesg on the machine, a GPU may hang"
	default:
		why = "the NVIDIA driver does not work: look at nvidia-smi and dmesg on the machine"
	}
	if r.Message != "" {
		why += " (" + r.Message + ")"
	}
	return why
}

// empty says why a driver that works lists no device.
func empty(r probe.Reading) string {
	for _, d := range r.Devices {
		if d.MIG {
			return fmt.Sprintf("GPU %s is in MIG mode and has no instances: create some, or switch the mode off", d.UUID)
		}
	}
	return "the NVIDIA driver works and lists no GPU: look at nvidia-smi -L and dmesg on the machine"
}
