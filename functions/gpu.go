package functions

import (
	"slices"
	"time"
)

// GPUOverhead is what a task takes of a device beyond what it declares: its CUDA
// context. As much is kept free on each device for the driver.
const GPUOverhead = 512 * MiB

// The rules of GPUInfo.Takes that are numbers.
const (
	// idleSlack is how much of a device may be used before its first task when that
	// task wants it alone: the driver's own, a display.
	idleSlack = GiB
	// foreignBusy is the utilisation, in percent, of a device without tasks of ours
	// above which somebody else is taken to work on it.
	foreignBusy = 90
)

// GPUState is whether one device may be given a task.
type GPUState string

const (
	GPUFree        GPUState = "free"        // no task holds it
	GPULeased      GPUState = "leased"      // tasks hold it; it may have room for more
	GPUQuarantined GPUState = "quarantined" // not offered until Until
	GPUEjected     GPUState = "ejected"     // sick: not offered until it was reset and reads clean, or an operator readmits it
	GPUUnread      GPUState = "unread"      // the probe gives no fresh reading: not offered until it does
)

// Healthy reports whether a device in state s may take tasks at all.
func (s GPUState) Healthy() bool { return s == GPUFree || s == GPULeased }

// GPUInfo is one device of a node: a GPU, or a MIG instance of one.
type GPUInfo struct {
	UUID    string   `json:"uuid"`
	Index   int      `json:"index"`
	Model   string   `json:"model,omitempty"`
	BusID   string   `json:"bus_id,omitempty"`
	Parent  string   `json:"parent,omitempty"`  // of a MIG instance: UUID of its GPU
	Profile string   `json:"profile,omitempty"` // of a MIG instance: 1g.18gb and the like
	Memory  Bytes    `json:"memory,omitempty"`  // in all; 0 = not known
	Assumed bool     `json:"assumed,omitempty"` // claimed by configuration, seen by no probe
	Can     []string `json:"can,omitempty"`     // what it can beside CUDA: nvenc, nvdec

	State     GPUState   `json:"state"`
	Reason    string     `json:"reason,omitempty"` // why it is not offered
	Until     time.Time  `json:"until,omitzero"`   // when a quarantined device is tried again
	Leases    []GPULease `json:"leases,omitempty"`
	MaxLeases int        `json:"max_leases,omitempty"` // tasks that may share it; 0 means 1

	// What the last reading said, and what the leases leave of it. All zero when
	// nothing has read the device.
	ReadAt      time.Time `json:"read_at,omitzero"`
	Used        Bytes     `json:"used,omitempty"`        // by anybody, ours and foreign
	Free        Bytes     `json:"free,omitempty"`        // for further tasks: of the promises and of the reading, what leaves less
	Utilisation int       `json:"utilisation,omitempty"` // percent; -1 = not known
}

// GPULease is a task's hold on a device.
type GPULease struct {
	Task   TaskID `json:"task"`
	Memory Bytes  `json:"memory,omitempty"` // promised, GPUOverhead included; 0 = the whole device
}

// GPUHostState is whether a node's GPUs can be used at all.
type GPUHostState string

const (
	GPUHostReady GPUHostState = "ready" // and each device has its own state
	GPUHostOff   GPUHostState = "off"   // launches fail, or the driver does not work; Reason says why
	GPUHostNone  GPUHostState = "none"  // a CPU host: no NVIDIA driver is installed
)

// GPUHostInfo is what a node says of its GPUs as a whole.
type GPUHostInfo struct {
	State    GPUHostState    `json:"state"`
	Reason   string          `json:"reason,omitempty"`
	Until    time.Time       `json:"until,omitzero"`     // when launches are tried again
	Source   string          `json:"source,omitempty"`   // nvml, nvidia-smi, assumed, simulated
	Driver   string          `json:"driver,omitempty"`   // 580.65.06
	CUDA     string          `json:"cuda,omitempty"`     // the newest that the driver serves: 13.0
	Unsuited []UnsuitedImage `json:"unsuited,omitempty"` // images that need a newer driver, seen here lately
}

// UnsuitedImage is an image that does not run on the GPUs of a node.
type UnsuitedImage struct {
	Image  string    `json:"image"`
	Reason string    `json:"reason"`
	Until  time.Time `json:"until"`
}

// GPUClaim is what one attempt asks of GPUs. The zero claim asks for none.
type GPUClaim struct {
	Count     int      `json:"count,omitempty"`     // devices; with All, ignored
	All       bool     `json:"all,omitempty"`       // every GPU of the node, alone
	Memory    Bytes    `json:"memory,omitempty"`    // on each, as declared; 0 = alone on it
	Exclusive bool     `json:"exclusive,omitempty"` // alone on it, whatever Memory says
	Can       []string `json:"can,omitempty"`       // capabilities that each must have
}

// Alone reports whether the claim shares no device.
func (c GPUClaim) Alone() bool { return c.All || c.Exclusive || c.Memory == 0 }

// Promise is what a lease of the claim takes of a device's memory; 0 = all.
func (c GPUClaim) Promise() Bytes {
	if c.Alone() {
		return 0
	}
	return c.Memory + GPUOverhead
}

// Suits reports whether the device, were it idle and healthy, could serve the
// claim. A device whose memory nobody knows is given the chance.
func (g GPUInfo) Suits(c GPUClaim) bool {
	for _, what := range c.Can {
		if !g.Assumed && !slices.Contains(g.Can, what) {
			return false
		}
	}
	if c.All && g.Parent != "" {
		return false
	}
	return g.Memory == 0 || c.Memory == 0 || g.Memory-GPUOverhead >= c.Memory+GPUOverhead
}

// Takes reports whether the device can be leased for the claim as it stands:
// healthy, suited, with a lease and the memory to spare.
func (g GPUInfo) Takes(c GPUClaim) bool {
	if !g.State.Healthy() || !g.Suits(c) {
		return false
	}
	read := !g.ReadAt.IsZero()
	if len(g.Leases) == 0 {
		if read && g.Utilisation > foreignBusy {
			return false
		}
		if c.Alone() {
			return !read || g.Free > 0 && g.Free+GPUOverhead+idleSlack >= g.Memory
		}
		return !read || g.Free >= c.Promise()
	}
	if c.Alone() || !read || len(g.Leases) >= max(g.MaxLeases, 1) {
		return false
	}
	alone := slices.ContainsFunc(g.Leases, func(l GPULease) bool { return l.Memory == 0 })
	return !alone && g.Free >= c.Promise()
}
