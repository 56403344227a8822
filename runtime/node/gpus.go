package node

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// Readings is what a node needs of whatever reads its GPUs.
type Readings interface {
	// Run calls back with each report until ctx ends.
	Run(ctx context.Context, each func(probe.Report)) error
	// Now returns a reading that begins now.
	Now(ctx context.Context) (probe.Reading, error)
}

// freshReading is the age up to which a reading is as good as a new one when a
// task is about to get its device.
const freshReading = 300 * time.Millisecond

// firstLook is how long a node that has just started takes no tasks because its
// GPUs are not read, or not tried, yet: what prefers one would go to the CPU at
// once. A probe or a canary that takes longer keeps no task waiting.
const firstLook = 3 * time.Second

// look is what the last reading said. It is empty on a node without readings.
type look struct {
	mu sync.Mutex // guards the fields below
	// group returns the cgroups of a process, as /proc shows them; empty = not known.
	// nil: what readings name cannot be found from here, for process IDs are others.
	group   func(pid int) string
	last    probe.Reading
	changed time.Time // when a lease ended last: a reading from before says too little
	until   time.Time // the end of firstLook; zero = nothing reads the GPUs
}

func newLook() *look {
	const initialPIDNamespace = "pid:[4026531836]" // the kernel's PROC_PID_INIT_INO
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || space != initialPIDNamespace {
		return &look{}
	}
	return &look{group: groupsOf}
}

// finder is group.
func (l *look) finder() func(pid int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.group
}

func groupsOf(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return "" // it has ended
	}
	return string(text)
}

// keep remembers a reading, unless a newer one was faster. One that is newer than
// now is of before the clock was set back.
func (l *look) keep(r probe.Reading, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !r.At.Before(l.last.At) || l.last.At.After(now) {
		l.last = r
	}
}

func (l *look) reading() probe.Reading {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// fresh returns the last reading, and whether it is no older than age.
func (l *look) fresh(age time.Duration, now time.Time) (probe.Reading, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := now.Sub(l.last.At)
	return l.last, since >= 0 && since <= age && l.last.At.After(l.changed)
}

// begin tells that readings are to come.
func (l *look) begin(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = now.Add(firstLook)
}

// first reports whether it is early enough to wait for the first reading, and
// whether there is one.
func (l *look) first(now time.Time) (early, read bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.until), !l.last.At.IsZero()
}

func (l *look) leaseEnded(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = now
}

// readGPUs takes in what the probe reports until ctx ends.
func (n *Node) readGPUs(ctx context.Context) {
	if n.cfg.Readings == nil {
		return
	}
	err := n.cfg.Readings.Run(ctx, func(r probe.Report) {
		if r.Reading != nil {
			n.observe(*r.Reading)
		}
		if r.Event != nil {
			n.cfg.Log.Warn("GPU error", "xid", r.Event.Xid, "gpu", r.Event.UUID)
			n.cfg.GPUs.Xid(*r.Event)
			n.changed()
		}
	})
	if err != nil && ctx.Err() == nil {
		n.cfg.Log.Error("GPUs are not read any more", "err", err)
	}
}

// unknownGPUs says why it is not known yet which GPUs the node offers; empty when it
// is, or when that is not worth waiting for any more.
func (n *Node) unknownGPUs(now time.Time) string {
	early, read := n.look.first(now)
	switch {
	case !early:
		return ""
	case !read:
		return "the node's GPUs are being read for the first time"
	case n.cfg.GPUs.Untried():
		return "the node's GPUs are being tried for the first time"
	}
	return ""
}

// observe takes in one reading. What turns because of it is told at once.
func (n *Node) observe(r probe.Reading) {
	n.look.keep(r, n.cfg.Now())
	before := n.offers()
	n.cfg.GPUs.Observe(n.withoutIdle(r))
	if after := n.offers(); after != before {
		n.cfg.Log.Info("GPUs changed", "before", before, "after", after)
		n.changed()
	}
	n.checkPlacement(r)
}

// offers is in short which devices the node offers.
func (n *Node) offers() string {
	var b strings.Builder
	if h := n.cfg.GPUs.Host(); h != nil {
		b.WriteString(string(h.State))
	}
	for _, g := range n.cfg.GPUs.Snapshot() {
		state := g.State
		if state.Healthy() {
			state = functions.GPUFree
		}
		b.WriteString(" " + g.UUID + "=" + string(state))
	}
	return b.String()
}

// read takes a reading now, unless the last one is no older than age. It reports
// false when there is none: the probe does not answer, or there is no probe.
func (n *Node) read(ctx context.Context, age time.Duration) (probe.Reading, bool) {
	if n.cfg.Readings == nil {
		return probe.Reading{}, false
	}
	if last, fresh := n.look.fresh(age, n.cfg.Now()); fresh && age > 0 {
		return last, true
	}
	ctx, cancel := context.WithTimeout(ctx, n.time.Reading)
	defer cancel()
	r, err := n.cfg.Readings.Now(ctx)
	if err != nil {
		n.cfg.Log.Debug("GPUs not read", "err", err)
		return probe.Reading{}, false
	}
	n.observe(r)
	return r, true
}

// Readmit ends the quarantine or ejection of a GPU; "all" or nothing means the
// host and every GPU of it. It fails with ErrNotFound for one that is not here.
func (n *Node) Readmit(_ context.Context, uuid string) error {
	if n.cfg.GPUs == nil {
		return functions.NotFound("no_gpu", "node %s has no GPU", n.cfg.ID)
	}
	if uuid == "all" {
		uuid = ""
	}
	if err := n.cfg.GPUs.Readmit(uuid); err != nil {
		return err
	}
	n.cfg.Log.Info("GPU readmitted", "gpu", uuid)
	n.changed()
	return nil
}

// knownGPUs says what the last reading knows of devices, for drivers that look
// them up in CDI specifications. Those name GPUs by UUID, by index or by type and
// index, and an instance by its GPU's index and its place among that GPU's.
func knownGPUs(r probe.Reading, devices []functions.GPUInfo) map[string]runtime.KnownGPU {
	var known map[string]runtime.KnownGPU
	for _, d := range devices {
		i := indexOf(r, d.UUID)
		if i < 0 || d.Assumed {
			continue
		}
		seen := r.Devices[i]
		var k runtime.KnownGPU
		if seen.Minor >= 0 {
			k.Node = "/dev/nvidia" + strconv.Itoa(seen.Minor)
		}
		index := strconv.Itoa(seen.Index)
		if seen.Parent == "" {
			k.Names = []string{index, "gpu" + index}
		} else if whole := indexOf(r, seen.Parent); whole >= 0 {
			place := 0
			for _, other := range r.Devices[:i] {
				if other.Parent == seen.Parent {
					place++
				}
			}
			index = strconv.Itoa(r.Devices[whole].Index) + ":" + strconv.Itoa(place)
			k.Names = []string{index, "mig" + index}
		}
		if known == nil {
			known = map[string]runtime.KnownGPU{}
		}
		known[d.UUID] = k
	}
	return known
}

// indexOf is where a reading has a device; -1 means that it has not.
func indexOf(r probe.Reading, uuid string) int {
	return slices.IndexFunc(r.Devices, func(d probe.Device) bool { return d.UUID == uuid })
}
