package scheduler

import (
	"slices"

	"github.com/spillway/spillway/functions"
)

// device is a GPU as the placement sees it: the node's last report, with what
// the log says of leases since.
type device struct {
	functions.GPUInfo
	said functions.GPUInfo // the report, less the leases whose attempts have ended
}

func (d *device) healthy() bool { return d.State.Healthy() }

// known is every device, sick ones too.
func (d *device) known() bool { return true }

// idle reports whether the device could be had alone.
func (d *device) idle() bool { return d.healthy() && len(d.Leases) == 0 }

// left is what the device has left beside a claim: of two, the one with less is
// the better fit. An attempt alone takes the smallest.
func (d *device) left(c functions.GPUClaim) functions.Bytes {
	if c.Alone() || d.ReadAt.IsZero() {
		return d.Memory
	}
	return d.Free - c.Promise()
}

// describe lays attempts of the leader's over the report: those that it does not
// list yet take their promise from what it says is free. The device is never
// taken for freer than the node says.
func (d *device) describe(held []*attempt) {
	d.GPUInfo = d.said
	own := false
	for _, a := range held {
		id := a.key.id()
		if slices.ContainsFunc(d.said.Leases, func(l functions.GPULease) bool { return l.Task == id }) {
			continue
		}
		if !own { // the report's own stays as it is
			d.Leases, own = slices.Clone(d.said.Leases), true
		}
		promise := a.claim().Promise()
		d.Leases = append(d.Leases, functions.GPULease{Task: id, Memory: promise})
		if d.Free -= promise; promise == 0 {
			d.Free = 0
		}
	}
}

// ended strikes an attempt from the report. What it held is free again when the
// node says so.
func (d *device) ended(id functions.TaskID) {
	d.said.Leases = slices.DeleteFunc(slices.Clone(d.said.Leases), func(l functions.GPULease) bool { return l.Task == id })
}

// reported is a device as its node reports it. One that is leased to nobody we
// are told of is taken for leased alone; one of a host whose GPUs are off waits
// for the host.
func reported(g functions.GPUInfo, host *functions.GPUHostInfo) device {
	if g.State == functions.GPULeased && len(g.Leases) == 0 {
		g.Leases = []functions.GPULease{{}}
	}
	if host != nil && (host.State == functions.GPUHostOff || host.State == functions.GPUHostNone) && g.State.Healthy() {
		g.State, g.Reason, g.Until = functions.GPUQuarantined, host.Reason, host.Until
	}
	return device{GPUInfo: g, said: g}
}
