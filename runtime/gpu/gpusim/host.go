package gpusim

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// Source is what readings of simulated devices say that they come from.
const Source = "simulated"

// The driver that is simulated.
const (
	driverVersion = "580.65.06"
	cudaVersion   = "13.0"
)

// xidOffBus is the number with which a driver reports that a GPU fell off the bus.
const xidOffBus = 79

// foreignPID is over any that Linux gives: no process of ours ever has it.
const foreignPID = 1<<22 + 1

// Config makes a Host.
type Config struct {
	Devices []probe.Device // of ParseDevices
	Faults  *Faults
	Every   time.Duration // between readings; 0 = 1 s. What changes is read at once.
	Now     func() time.Time
}

// Host is the simulated devices of one machine. Its methods may be called from
// many goroutines.
type Host struct {
	cfg   Config
	nudge chan struct{} // asks Run for a reading now

	mu     sync.Mutex // guards the fields below
	uses   map[runtime.ID]use
	lost   map[int]bool  // by index
	events []probe.Event // that Run has not passed on
}

// use is what one container takes of its devices.
type use struct {
	devices []int           // indices
	memory  functions.Bytes // of each; 0 = all
}

// New returns a Host whose devices are idle.
func New(cfg Config) *Host {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Host{cfg: cfg, nudge: make(chan struct{}, 1), uses: map[runtime.ID]use{}, lost: map[int]bool{}}
}

// Run passes on a reading each second and whenever something changes, and the
// events between them, until ctx ends.
func (h *Host) Run(ctx context.Context, report func(probe.Report)) error {
	tick := time.NewTicker(h.cfg.Every)
	defer tick.Stop()
	for {
		for _, e := range h.happened() {
			report(probe.Report{Event: &e})
		}
		r := h.read()
		report(probe.Report{Reading: &r})
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-h.nudge:
		}
	}
}

// Now is a reading on request. While the probe is silent there is none.
func (h *Host) Now(ctx context.Context) (probe.Reading, error) {
	if err := context.Cause(ctx); err != nil {
		return probe.Reading{}, err
	}
	r := h.read()
	if r.Status != probe.OK {
		return r, functions.Unavailable("probe_silent", "%s", r.Message)
	}
	return r, nil
}

func (h *Host) happened() []probe.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	events := h.events
	h.events = nil
	return events
}

// read is the reading of this moment.
func (h *Host) read() probe.Reading {
	r := probe.Reading{At: h.cfg.Now(), Source: Source, Status: probe.OK, Driver: driverVersion, CUDA: cudaVersion}
	if len(h.cfg.Faults.inForce(Stale, Everywhere)) > 0 {
		r.Status, r.Message = probe.Silent, "the probe says nothing (simulated)"
		return r
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.cfg.Devices {
		r.Devices = append(r.Devices, h.readDevice(d))
	}
	return r
}

// readDevice is called with the mutex held.
func (h *Host) readDevice(d probe.Device) probe.Device {
	if h.inUse(d.Index) {
		d.Utilisation = 80
	}
	for _, u := range h.uses {
		switch {
		case !slices.Contains(u.devices, d.Index):
		case u.memory == 0:
			d.Used = d.Total
		default:
			d.Used += u.memory
		}
	}
	for _, f := range h.cfg.Faults.inForce(Foreign, d.Index) {
		d.Used += f.Size
		d.Processes = append(d.Processes, probe.Process{PID: foreignPID, Memory: f.Size})
	}
	d.Used = min(d.Used, d.Total)
	d.Free = d.Total - d.Used
	if h.lost[d.Index] {
		if len(h.cfg.Faults.inForce(Lost, d.Index)) == 0 {
			delete(h.lost, d.Index) // mended
		} else {
			d.Lost, d.ECC, d.Error = true, 1, "GPU is lost"
		}
	}
	return d
}

// lose takes a device off the bus.
func (h *Host) lose(index int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost[index] {
		return
	}
	h.lost[index] = true
	h.events = append(h.events, probe.Event{At: h.cfg.Now(), UUID: h.cfg.Devices[index].UUID, Xid: xidOffBus})
	h.changed()
}

// firstLost is the UUID of the first of some devices that is off the bus.
func (h *Host) firstLost(indices []int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, i := range indices {
		if d := h.readDevice(h.cfg.Devices[i]); d.Lost {
			return d.UUID
		}
	}
	return ""
}

// take lets a container have memory of its devices. It reports false when one of
// them has less left: as on a real one, who comes last is out of memory. A
// container that takes a whole device shares it with somebody else's processes
// at most.
func (h *Host) take(id runtime.ID, u use) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, i := range u.devices {
		d := h.readDevice(h.cfg.Devices[i])
		if u.whole(d) && h.inUse(i) || !u.whole(d) && d.Free < u.memory {
			return false
		}
	}
	h.uses[id] = u
	h.changed()
	return true
}

// whole reports whether the container takes all of a device.
func (u use) whole(d probe.Device) bool { return u.memory == 0 || u.memory == d.Total }

// inUse reports whether a container uses the device already. It is called with
// the mutex held.
func (h *Host) inUse(index int) bool {
	for _, u := range h.uses {
		if slices.Contains(u.devices, index) {
			return true
		}
	}
	return false
}

// giveBack ends what a container takes. Giving back what is gone does nothing.
func (h *Host) giveBack(id runtime.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.uses[id]; ok {
		delete(h.uses, id)
		h.changed()
	}
}

// changed asks for a reading soon.
func (h *Host) changed() {
	select {
	case h.nudge <- struct{}{}:
	default: // one is asked for already
	}
}

func (h *Host) uuid(index int) string { return h.cfg.Devices[index].UUID }

// find returns the indices of devices by their UUIDs, and the first that is not
// there.
func (h *Host) find(uuids []string) (indices []int, missing string) {
	for _, id := range uuids {
		i := slices.IndexFunc(h.cfg.Devices, func(d probe.Device) bool { return d.UUID == id })
		if i < 0 {
			return nil, id
		}
		indices = append(indices, i)
	}
	return indices, ""
}
