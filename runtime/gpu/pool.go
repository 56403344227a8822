package gpu

import (
	"cmp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

// Config makes a Pool.
type Config struct {
	Devices   []functions.GPUInfo // known before any reading; of them, what identifies and describes counts
	Now       func() time.Time    // nil means time.Now
	MaxLeases int                 // tasks that may share a GPU; 0 means 4
	// Settle is how long a new task may take to allocate what it was promised: until
	// then the promise counts beside the reading. 0 means 15s.
	Settle time.Duration
	// Stale is the age at which a reading counts for nothing any more, beside the time
	// that it takes and that the next one will: nvidia-smi may take seconds. 0 means 3s.
	Stale time.Duration
	// Canary says that the caller runs a canary container on what Trial hands out:
	// before the first task of the host, and after each quarantine. Tasks are kept off
	// meanwhile, for a minute at most. Without it the next task is the trial.
	Canary bool
}

// Pool leases devices. Its methods may be called from many goroutines.
type Pool struct {
	now           func() time.Time
	maxLeases     int
	settle, stale time.Duration
	canary        bool

	mu       sync.Mutex // guards the fields below
	devices  []*device  // by index, then UUID
	past     []*device  // that went away in quarantine or ejected, last one last
	host     breaker
	trial    *lease // the one lease that a half-open host allows; nil = none
	driver   driver
	unsuited []unsuited // oldest first
}

// device is one GPU or MIG instance. What identifies it and what the last reading
// said of it is in info.
type device struct {
	info   functions.GPUInfo
	alias  string          // the UUID that was assumed of it before a reading named it
	live   functions.Bytes // free, says the last reading
	unread string          // why there are no figures of it, though there should be; empty = there are
	gone   bool            // the last list of devices did not have it
	leases []*lease
	shown  []functions.GPULease // leases for others to see; never changed in place

	health    breaker
	trial     *lease // the one lease that its half-open breaker allows; nil = none
	ejected   string // why it is ejected; empty = it is not
	ejectedAt time.Time
	signs     signs // of sickness, in the last reading

	traces traces
}

// New refuses devices without a UUID, and two with the same.
func New(cfg Config) (*Pool, error) {
	p := &Pool{
		now: cfg.Now, maxLeases: cmp.Or(cfg.MaxLeases, 4), settle: cmp.Or(cfg.Settle, 15*time.Second),
		stale: cmp.Or(cfg.Stale, 3*time.Second), canary: cfg.Canary,
		host: breaker{limit: hostFaults, trying: cfg.Canary},
	}
	if p.now == nil {
		p.now = time.Now
	}
	if cfg.Canary {
		p.host.until = p.now()
	}
	for _, info := range cfg.Devices {
		if info.UUID == "" || p.find(info.UUID) != nil {
			return nil, functions.Invalid("bad_gpu", "GPU %d: UUID %q is empty or given twice", info.Index, info.UUID)
		}
		p.devices = append(p.devices, newDevice(info))
	}
	p.driver.configured = len(p.devices) > 0
	p.sort()
	return p, nil
}

func newDevice(info functions.GPUInfo) *device {
	info.State, info.Reason, info.Until, info.Leases, info.Free = "", "", time.Time{}, nil, 0
	info.MaxLeases, info.ReadAt, info.Used, info.Utilisation = 1, time.Time{}, 0, 0
	return &device{info: info, health: breaker{limit: deviceFaults}, signs: signs{ecc: -1}}
}

// sort and the other methods with a small letter are called with the mutex held.
func (p *Pool) sort() {
	slices.SortFunc(p.devices, func(a, b *device) int {
		return cmp.Or(cmp.Compare(a.info.Index, b.info.Index), cmp.Compare(a.info.UUID, b.info.UUID))
	})
}

// find returns nil for a device that is not known.
func (p *Pool) find(uuid string) *device {
	for _, d := range p.devices {
		if d.info.UUID == uuid || (d.alias != "" && d.alias == uuid) {
			return d
		}
	}
	return nil
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
