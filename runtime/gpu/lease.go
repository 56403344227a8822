package gpu

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

type lease struct {
	task    functions.TaskID
	promise functions.Bytes // on each device; 0 = all of it
	since   time.Time
}

// Acquire leases the devices of a claim to a task, those of prefer first, or none
// at all: then the error is ErrThrottled. Among the rest it takes the tightest
// fit, so that large rooms stay for those that need them. The release may be
// called more than once.
func (p *Pool) Acquire(task functions.TaskID, claim functions.GPUClaim, prefer []string) ([]functions.GPUInfo, func(), error) {
	if !claim.All && claim.Count < 1 {
		return nil, nil, functions.Invalid("bad_gpu_count", "cannot lease %d GPUs", claim.Count)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	host := p.gate(now)
	wanted, fit := claim.Count, p.fit(claim, prefer, host, now)
	if claim.All {
		wanted = p.present()
	}
	switch {
	case wanted == 0:
		return nil, nil, noGPU("the node has no GPU")
	case len(fit) < wanted && host.state != "":
		return nil, nil, noGPU("the GPUs of the node are not offered now: %s", host.reason)
	case len(fit) < wanted:
		return nil, nil, noGPU("%d of the %d GPUs wanted have room", len(fit), wanted)
	}
	var chosen []*device
	for _, c := range fit[:wanted] {
		chosen = append(chosen, c.device)
	}
	l, release := p.lend(task, claim.Promise(), chosen, now)
	p.mark(l, chosen, now)
	return p.describe(chosen, p.gate(now), now), release, nil
}

// candidate is a device that takes a claim, and where it stands among others.
type candidate struct {
	*device
	rank int // in the order of preference
	room functions.Bytes
}

// fit returns the devices that take the claim, best first.
func (p *Pool) fit(claim functions.GPUClaim, prefer []string, host gate, now time.Time) []candidate {
	var fit []candidate
	for _, d := range p.devices {
		g := p.tell(d, host, now)
		if !g.Takes(claim) {
			continue
		}
		c := candidate{device: d, rank: slices.Index(prefer, g.UUID), room: g.Free}
		if c.rank < 0 {
			c.rank = len(prefer)
		}
		if g.ReadAt.IsZero() {
			c.room = g.Memory
		}
		if c.room == 0 { // nobody knows
			c.room = math.MaxInt64
		}
		fit = append(fit, c)
	}
	slices.SortStableFunc(fit, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(a.rank, b.rank),
			cmp.Compare(a.health.opened, b.health.opened), // healthy ones before trials
			cmp.Compare(a.room, b.room),
		)
	})
	return fit
}

// present counts the devices that the node has.
func (p *Pool) present() (n int) {
	for _, d := range p.devices {
		if !d.gone {
			n++
		}
	}
	return n
}

// Restore leases named devices to a task that holds them already: the agent has
// restarted and its container has not. Neither quarantine nor room matters then.
// It fails with ErrNotFound for a device that is gone, ErrConflict for one that
// is lent to two of which one is to be alone.
//
// Before a node that lists its devices has done so, each name is believed.
func (p *Pool) Restore(task functions.TaskID, claim functions.GPUClaim, uuids []string) ([]functions.GPUInfo, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var held, added []*device
	for _, id := range uuids {
		d := p.find(id)
		if d == nil && p.driver.listed.IsZero() && !p.driver.configured && id != "" {
			d = newDevice(functions.GPUInfo{UUID: id})
			d.gone, d.unread = true, "no reading has shown it yet"
			added = append(added, d)
		}
		if d == nil {
			return nil, nil, functions.NotFound("no_such_gpu", "GPU %s is not on this node", id)
		}
		if slices.Contains(held, d) || len(d.leases) > 0 && (claim.Alone() || d.leases[0].promise == 0) {
			return nil, nil, functions.Conflict("gpu_leased", "GPU %s is leased already", id)
		}
		held = append(held, d)
	}
	p.devices = append(p.devices, added...)
	p.sort()
	now := p.now()
	_, release := p.lend(task, claim.Promise(), held, now)
	return p.describe(held, p.gate(now), now), release, nil
}

func (p *Pool) lend(task functions.TaskID, promise functions.Bytes, devices []*device, now time.Time) (*lease, func()) {
	l := &lease{task: task, promise: promise, since: now}
	for _, d := range devices {
		d.leases = append(d.leases, l)
		d.show()
	}
	return l, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, d := range devices {
			d.drop(l, p.now())
		}
		if p.trial == l {
			p.trial = nil
		}
		p.forgetGone()
	})
}

func (d *device) drop(l *lease, now time.Time) {
	d.leases = slices.DeleteFunc(d.leases, func(other *lease) bool { return other == l })
	d.show()
	if d.trial == l {
		d.trial = nil
	}
	if !d.info.ReadAt.IsZero() {
		d.traces.end(l, now)
	}
}

func (d *device) show() {
	d.shown = nil
	for _, l := range d.leases {
		d.shown = append(d.shown, functions.GPULease{Task: l.task, Memory: l.promise})
	}
}

func noGPU(format string, args ...any) error {
	return functions.NewError(functions.ErrThrottled, "no_gpu", format, args...)
}
