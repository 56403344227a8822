package gpu

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

// Config makes a Pool.
type Config struct {
	Devices []functions.GPUInfo // of them, what identifies and describes counts
	Now     func() time.Time    // nil means time.Now
}

// Pool leases whole devices. Its methods may be called from many goroutines.
type Pool struct {
	now func() time.Time

	mu      sync.Mutex // guards the fields below
	devices []*device  // by index, then UUID
	host    breaker
	trial   *lease // the one lease that a half-open host allows; nil = none
}

type device struct {
	info   functions.GPUInfo
	lease  *lease // nil = free
	health breaker
}

type lease struct{ task functions.TaskID }

// New refuses devices without a UUID, and two with the same.
func New(cfg Config) (*Pool, error) {
	p := &Pool{now: cfg.Now, host: breaker{limit: hostFaults}}
	if p.now == nil {
		p.now = time.Now
	}
	seen := make(map[string]bool)
	for _, info := range cfg.Devices {
		if info.UUID == "" || seen[info.UUID] {
			return nil, functions.Invalid("bad_gpu", "GPU %d: UUID %q is empty or given twice", info.Index, info.UUID)
		}
		seen[info.UUID] = true
		p.devices = append(p.devices, &device{info: info, health: breaker{limit: deviceFaults}})
	}
	slices.SortFunc(p.devices, func(a, b *device) int {
		return cmp.Or(cmp.Compare(a.info.Index, b.info.Index), cmp.Compare(a.info.UUID, b.info.UUID))
	})
	return p, nil
}

// Assumed returns n devices that nobody has seen: the operator says that they
// are there, for hosts whose devices cannot be listed.
func Assumed(n int) []functions.GPUInfo {
	var devices []functions.GPUInfo
	for i := range n {
		devices = append(devices, functions.GPUInfo{UUID: "assumed-" + strconv.Itoa(i), Index: i, Assumed: true, State: functions.GPUFree})
	}
	return devices
}

// EngineID is the name by which a container engine knows a device: its UUID, or
// its index when the UUID is an assumption.
func EngineID(d functions.GPUInfo) string {
	if d.Assumed {
		return strconv.Itoa(d.Index)
	}
	return d.UUID
}

// Acquire leases the devices of a claim to a task, those of prefer first, or none
// at all: then the error is ErrThrottled. The release may be called more than once.
func (p *Pool) Acquire(task functions.TaskID, claim functions.GPUClaim, prefer []string) ([]functions.GPUInfo, func(), error) {
	n := claim.Count
	if claim.All {
		n = len(p.devices)
	}
	if n < 1 {
		return nil, nil, functions.Invalid("bad_gpu_count", "cannot lease %d GPUs", n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.host.open(now) {
		return nil, nil, noGPU("GPUs of this node are off until %s: %s", p.host.until.Format(time.TimeOnly), p.host.reason)
	}
	if p.trial != nil {
		return nil, nil, noGPU("one task tries whether the GPUs of this node work again")
	}
	fit := slices.Collect(func(yield func(*device) bool) {
		for _, d := range p.devices {
			if d.lease == nil && d.info.Suits(claim) && !d.health.open(now) && !yield(d) {
				return
			}
		}
	})
	if len(fit) < n {
		return nil, nil, noGPU("%d of the %d GPUs wanted are free", len(fit), n)
	}
	slices.SortStableFunc(fit, func(a, b *device) int {
		return cmp.Or(
			cmp.Compare(rank(prefer, a.info.UUID), rank(prefer, b.info.UUID)),
			cmp.Compare(a.health.opened, b.health.opened), // healthy ones before trials
		)
	})
	l, release := p.lend(task, fit[:n])
	if p.host.opened > 0 {
		p.trial = l
	}
	return p.describe(fit[:n], now), release, nil
}

// Restore leases named devices to a task that holds them already: the agent has
// restarted and its container has not. Quarantine does not matter then. It fails
// with ErrNotFound for a device that is gone, ErrConflict for one lent twice.
func (p *Pool) Restore(task functions.TaskID, uuids []string) ([]functions.GPUInfo, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var held []*device
	for _, id := range uuids {
		i := slices.IndexFunc(p.devices, func(d *device) bool { return d.info.UUID == id })
		if i < 0 {
			return nil, nil, functions.NotFound("no_such_gpu", "GPU %s is not on this node", id)
		}
		if p.devices[i].lease != nil || slices.Contains(held, p.devices[i]) {
			return nil, nil, functions.Conflict("gpu_leased", "GPU %s is leased already", id)
		}
		held = append(held, p.devices[i])
	}
	_, release := p.lend(task, held)
	return p.describe(held, p.now()), release, nil
}

// lend is called with the mutex held.
func (p *Pool) lend(task functions.TaskID, devices []*device) (*lease, func()) {
	devices = slices.Clone(devices)
	l := &lease{task: task}
	for _, d := range devices {
		d.lease = l
	}
	return l, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, d := range devices {
			d.lease = nil
		}
		if p.trial == l {
			p.trial = nil
		}
	})
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
		reason = fmt.Sprintf("%s: %s", f.Class, f.Message)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	r := functions.React(class)
	p.host.record(r.Host, reason, now)
	for _, d := range p.devices {
		if slices.Contains(uuids, d.info.UUID) {
			d.health.record(r.Device, reason, now)
		}
	}
}

// Snapshot returns every device as Acquire would treat it now.
func (p *Pool) Snapshot() []functions.GPUInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.describe(p.devices, p.now())
}

// describe is called with the mutex held.
func (p *Pool) describe(devices []*device, now time.Time) []functions.GPUInfo {
	var out []functions.GPUInfo
	for _, d := range devices {
		g := d.info
		g.State, g.Reason, g.Until, g.Leases = functions.GPUFree, "", time.Time{}, nil
		switch {
		case d.lease != nil:
			g.State, g.Leases = functions.GPULeased, []functions.GPULease{{Task: d.lease.task}}
		case p.host.open(now):
			g.State, g.Reason, g.Until = functions.GPUQuarantined, p.host.reason, p.host.until
		case p.trial != nil:
			g.State, g.Reason = functions.GPUQuarantined, "one task tries whether the GPUs of this node work again"
		case d.health.open(now):
			g.State, g.Reason, g.Until = functions.GPUQuarantined, d.health.reason, d.health.until
		}
		out = append(out, g)
	}
	return out
}

// rank puts preferred devices first, in the order of preference.
func rank(prefer []string, uuid string) int {
	if i := slices.Index(prefer, uuid); i >= 0 {
		return i
	}
	return len(prefer)
}

func noGPU(format string, args ...any) error {
	return functions.NewError(functions.ErrThrottled, "no_gpu", format, args...)
}
