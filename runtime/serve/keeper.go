package serve

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

const (
	// mostIdle is the most containers that wait for a task.
	mostIdle = 64
	// looks is the time between two looks at what has waited too long.
	looks = time.Second
)

// Key says which tasks an instance may serve: those of one version of one
// function, on the same devices.
type Key struct {
	Function functions.Name
	Version  int
	Made     int64 // when the version was; servers that begin anew, without their data, begin with version 1
	Device   functions.Device
	GPUs     string // the ids of its devices, with commas between
}

// kept is one instance and its tasks.
type kept struct {
	*Instance
	key    Key
	limits Limits
	atOnce int
	memory functions.Bytes

	busy   int
	served int
	idle   time.Time // since when nobody uses it
	doomed bool      // serves what it has, and nothing more
}

// start is an instance that is not ready yet.
type start struct {
	key  Key
	free int           // tasks that it can have beside those that wait for it
	over chan struct{} // closed when it is ready, or will not be
}

// Keeper holds the instances of one node between their tasks. Take and Add give a
// task its instance, and Done takes it back or ends it.
type Keeper struct {
	starter Starter
	log     *slog.Logger
	group   sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	all      map[*Instance]*kept
	starting map[string]*start // by the container's name
}

// NewKeeper makes a Keeper that holds nothing.
func NewKeeper(s Starter, log *slog.Logger) *Keeper {
	return &Keeper{starter: s, log: log, all: make(map[*Instance]*kept), starting: make(map[string]*start)}
}

// Run ends what has waited too long, until ctx ends; no task may be in an
// instance then. It ends everything, and returns when it is gone.
func (k *Keeper) Run(ctx context.Context) {
	ticker := time.NewTicker(looks)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			k.end(k.takeOut(func(c *kept) bool { return c.Ended() || c.stale(now) || !c.fresh(now) }))
		case <-ctx.Done():
			k.end(k.takeOut(func(*kept) bool { return true }))
			k.group.Wait()
			return
		}
	}
}

// Take gives an instance that may serve one more task to it, or returns nil. One
// that starts for another task and will have room for this one is waited for.
// Those of older versions of the function are ended on the way.
func (k *Keeper) Take(ctx context.Context, key Key) *Instance {
	k.end(k.takeOut(func(c *kept) bool {
		return c.key.Function == key.Function && (c.key.Version < key.Version || c.key.Made < key.Made)
	}))
	i, coming := k.take(key)
	if coming == nil {
		return i
	}
	select {
	case <-coming.over:
		i, _ = k.take(key)
		return i
	case <-ctx.Done():
		return nil
	}
}

// take returns an instance, or one that starts and now counts on the task.
func (k *Keeper) take(key Key) (*Instance, *start) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	var best *kept
	for _, c := range k.all {
		if c.key != key || c.doomed || c.busy >= c.atOnce || c.Ended() || !c.fresh(now) {
			continue
		}
		// The fullest, and of those the one that was used last: the others come to
		// wait long enough to be ended.
		if best == nil || cmp.Or(cmp.Compare(c.busy, best.busy), c.idle.Compare(best.idle)) > 0 {
			best = c
		}
	}
	if best != nil {
		best.busy++
		best.served++
		return best.Instance, nil
	}
	for _, s := range k.starting {
		if s.key == key && s.free > 0 {
			s.free--
			return nil, s
		}
	}
	return nil, nil
}

// fresh reports whether c may be given a task at all.
func (c *kept) fresh(now time.Time) bool { return MayReuse(c.limits, c.served, now.Sub(c.Born), nil) }

// stale reports whether c has waited too long.
func (c *kept) stale(now time.Time) bool { return c.limits.Idle > 0 && now.Sub(c.idle) > c.limits.Idle }

// Start starts an instance for a task, which it then has.
func (k *Keeper) Start(ctx context.Context, p Plan, key Key, first functions.TaskID, w Words) (*Instance, error) {
	k.mu.Lock()
	coming := &start{key: key, free: p.Spec.AtOnce() - 1, over: make(chan struct{})}
	k.starting[p.Container.Name] = coming
	k.mu.Unlock()
	defer close(coming.over)
	i, err := k.starter.Start(ctx, p, first, w)
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.starting, p.Container.Name)
	if err != nil {
		return nil, err
	}
	k.all[i] = &kept{
		Instance: i, key: key, limits: LimitsOf(p.Spec, p.GPU), atOnce: p.Spec.AtOnce(),
		memory: p.Spec.Limits.Memory, busy: 1, served: 1,
	}
	return i, nil
}

// Done takes an instance back from a task that ended with fail, nil for success.
// One that may not serve again is ended, in the background, when its last task
// is done.
func (k *Keeper) Done(i *Instance, fail *functions.Failure) {
	k.mu.Lock()
	c := k.all[i]
	now := time.Now()
	c.busy--
	c.idle = now
	if i.Ended() || !MayReuse(c.limits, c.served, now.Sub(i.Born), fail) {
		c.doomed = true
	}
	k.mu.Unlock()
	k.end(k.takeOut(func(c *kept) bool { return c.doomed }))
	k.Fit(-1)
}

// Fit ends idle instances, those that have waited longest first, until the rest
// takes no more memory than there is, and is not too many. A negative memory is
// no bound. wait returns when they are gone.
func (k *Keeper) Fit(memory functions.Bytes) (wait func()) {
	k.mu.Lock()
	idle := k.idle()
	var sum functions.Bytes
	keep := 0
	for _, c := range idle { // the last used first
		if sum += c.memory; keep == mostIdle || memory >= 0 && sum > memory {
			break
		}
		keep++
	}
	gone := idle[keep:]
	k.forget(gone)
	k.mu.Unlock()
	return k.end(gone)
}

// Free ends idle instances that hold one of the devices, but for those of key.
// wait returns when they are gone.
func (k *Keeper) Free(key Key, devices []string) (wait func()) {
	return k.end(k.takeOut(func(c *kept) bool {
		return c.key != key && slices.ContainsFunc(strings.Split(c.key.GPUs, ","), func(d string) bool { return slices.Contains(devices, d) })
	}))
}

// Waits names the devices of the idle instances that would serve key if it were on
// those, the last used first.
func (k *Keeper) Waits(key Key) (devices []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.idle() {
		if key.GPUs = c.key.GPUs; c.key == key && key.GPUs != "" {
			devices = append(devices, strings.Split(key.GPUs, ",")...)
		}
	}
	return devices
}

// Idle are the containers without a task that have devices.
func (k *Keeper) Idle() (ids []runtime.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.idle() {
		if c.key.GPUs != "" {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// Holds reports whether a container of that name is in use, or starts.
func (k *Keeper) Holds(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.all {
		if c.Name == name {
			return true
		}
	}
	return k.starting[name] != nil
}

// idle are those without a task, the last used first. Call it with the mutex
// held, and forget too.
func (k *Keeper) idle() []*kept {
	var idle []*kept
	for _, c := range k.all {
		if c.busy == 0 {
			idle = append(idle, c)
		}
	}
	slices.SortFunc(idle, func(a, b *kept) int { return b.idle.Compare(a.idle) })
	return idle
}

func (k *Keeper) forget(gone []*kept) {
	for _, c := range gone {
		delete(k.all, c.Instance)
	}
}

// takeOut removes the idle ones that match.
func (k *Keeper) takeOut(match func(*kept) bool) (gone []*kept) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.all {
		if c.busy == 0 && match(c) {
			gone = append(gone, c)
		}
	}
	k.forget(gone)
	return gone
}

// end kills instances in the background.
func (k *Keeper) end(gone []*kept) (wait func()) {
	var group sync.WaitGroup
	for _, c := range gone {
		group.Add(1)
		k.group.Go(func() {
			defer group.Done()
			ctx, cancel := context.WithTimeout(context.Background(), undoTime)
			defer cancel()
			if err := c.Kill(ctx); err != nil {
				k.log.Warn("container not removed yet", "container", c.ID, "err", err)
			}
		})
	}
	return group.Wait
}
