package gpu

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"pgregory.net/rapid"
)

// world is a machine with GPUs, tasks of ours, processes of others, and faults. It
// keeps its own account of what the pool has promised.
type world struct {
	t      *rapid.T
	cfg    Config
	pool   *Pool
	now    time.Time
	cards  []*card
	driver int // its version
	held   []*holding
	fresh  time.Time // of the last reading that listed the devices; zero = the last one did not
	tasks  int
}

type card struct {
	probe.Device
	there   bool
	foreign functions.Bytes
	left    functions.Bytes // by tasks that have ended
	sick    bool            // ejected, and neither reset nor readmitted since
	unseen  bool            // no reading since
	mended  bool            // reset after a reading since: the next one heals it
	read    bool            // in the last list
	shown   functions.Bytes // free, in the last reading
}

type holding struct {
	task    functions.TaskID
	claim   functions.GPUClaim
	ids     []string
	uses    functions.Bytes // really
	release func()
	canary  bool
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: time.Unix(1e9, 0)}
	w.cfg = Config{
		Now:       func() time.Time { return w.now },
		MaxLeases: rapid.IntRange(1, 5).Draw(t, "most leases"),
		Canary:    rapid.Bool().Draw(t, "canary"),
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "devices") {
		c := &card{there: true, Device: probe.Device{
			UUID: fmt.Sprint("GPU-", i), Index: i, BusID: fmt.Sprint("bus-", i),
			Total: functions.Bytes(rapid.IntRange(4, 48).Draw(t, "total")) * functions.GiB,
		}}
		if rapid.IntRange(0, 4).Draw(t, "divided") == 0 {
			c.Parent, c.UUID = fmt.Sprint("whole-", i), fmt.Sprint("MIG-", i)
		}
		w.cards = append(w.cards, c)
	}
	w.start()
	return w
}

func (w *world) start() {
	var err error
	if w.pool, err = New(w.cfg); err != nil {
		w.t.Fatal(err)
	}
	w.fresh = time.Time{}
}

func (w *world) card(id string) *card {
	i := slices.IndexFunc(w.cards, func(c *card) bool { return c.UUID == id })
	if i < 0 {
		w.t.Fatalf("%q is no device of the machine", id)
	}
	return w.cards[i]
}

func (w *world) pick() *card { return rapid.SampledFrom(w.cards).Draw(w.t, "device") }

// observe lets the pool read the machine.
func (w *world) observe() {
	r := probe.Reading{At: w.now, Source: "simulated", Status: probe.OK, Driver: fmt.Sprint(w.driver)}
	for _, c := range w.cards {
		c.unseen = false
		if c.Parent != "" {
			r.Devices = append(r.Devices, probe.Device{UUID: c.Parent, MIG: true})
		}
		if !c.there {
			c.read = false
			continue
		}
		used := c.foreign + c.left + 300*functions.MiB
		for _, h := range w.held {
			if slices.Contains(h.ids, c.UUID) {
				used += h.uses
			}
		}
		d := c.Device
		d.Used = min(used, d.Total)
		d.Free = d.Total - d.Used
		if !c.read && c.Lost {
			c.sick = true
		}
		c.read, c.shown = true, d.Free
		r.Devices = append(r.Devices, d)
		if c.mended {
			c.sick, c.mended = false, false
		}
	}
	w.pool.Observe(r)
	w.fresh = w.now
}

func (w *world) broken() {
	status := rapid.SampledFrom([]probe.Status{probe.NotLoaded, probe.Mismatch, probe.Broken, probe.Silent, probe.NoDriver}).Draw(w.t, "status")
	w.pool.Observe(probe.Reading{At: w.now, Source: "simulated", Status: status})
	w.fresh = time.Time{}
	if status == probe.NotLoaded || status == probe.NoDriver { // the driver is loaded anew before it lists devices again
		for _, c := range w.cards {
			c.unseen = false
		}
		w.reload()
	}
}

// reload is a reboot or a new driver.
func (w *world) reload() {
	w.driver++
	for _, c := range w.cards {
		c.reset()
	}
}

func (c *card) reset() {
	c.ECC, c.Lost, c.Remap, c.Recovery, c.mended = 0, false, false, 0, c.sick && !c.unseen
}

func (w *world) acquire() {
	claim := functions.GPUClaim{
		Count:     rapid.IntRange(1, 3).Draw(w.t, "count"),
		All:       rapid.IntRange(0, 9).Draw(w.t, "all") == 0,
		Memory:    functions.Bytes(rapid.IntRange(0, 12).Draw(w.t, "memory")) * functions.GiB,
		Exclusive: rapid.IntRange(0, 5).Draw(w.t, "exclusive") == 0,
	}
	before := w.pool.Snapshot()
	w.tasks++
	task := functions.TaskID(fmt.Sprint("t", w.tasks))
	got, release, err := w.pool.Acquire(task, claim, nil)
	takes := slices.ContainsFunc(before, func(g functions.GPUInfo) bool { return g.Takes(claim) })
	if single := !claim.All && claim.Count == 1; single && takes != (err == nil) {
		w.t.Fatalf("a device takes %+v: %v, and Acquire = %v\n%+v", claim, takes, err, before)
	}
	if err != nil {
		if !errors.Is(err, functions.ErrThrottled) || len(got) > 0 || release != nil {
			w.t.Fatalf("Acquire = %v, %v", got, err)
		}
		return
	}
	if !claim.All && len(got) != claim.Count {
		w.t.Fatalf("asked for %d, got %d", claim.Count, len(got))
	}
	if claim.All && len(got) != len(slices.DeleteFunc(slices.Clone(w.cards), func(c *card) bool { return !c.read })) {
		w.t.Fatalf("all are %d", len(got))
	}
	for _, g := range got {
		w.fit(g.UUID)
		if c := w.card(g.UUID); !claim.Alone() && c.shown < claim.Memory+2*functions.GPUOverhead || claim.Alone() && c.shown < c.Total-3*functions.GPUOverhead {
			w.t.Fatalf("%+v on %s with %s free", claim, c.UUID, c.shown)
		}
	}
	uses := functions.Bytes(0)
	if !claim.Alone() {
		uses = claim.Promise() * functions.Bytes(rapid.IntRange(0, 4).Draw(w.t, "quarters")) / 4
	}
	w.held = append(w.held, &holding{task: task, claim: claim, ids: uuids(got), uses: uses, release: release})
}

// fit refuses a device that nobody may be given.
func (w *world) fit(id string) {
	switch c := w.card(id); {
	case c.sick || !c.there && w.fresh.Equal(w.now):
		w.t.Fatalf("%s is sick or gone, and was lent", id)
	case w.fresh.IsZero() || w.now.Sub(w.fresh) > 3*time.Second:
		w.t.Fatalf("%s was lent, and its last reading is of %s, now is %s", id, w.fresh, w.now)
	}
}

func (w *world) canary() {
	ids, release, ok := w.pool.Trial()
	if !ok {
		return
	}
	for _, id := range ids {
		w.fit(id)
		if slices.ContainsFunc(w.held, func(h *holding) bool { return slices.Contains(h.ids, id) }) {
			w.t.Fatalf("%s is held, and a canary got it", id)
		}
	}
	w.held = append(w.held, &holding{task: canaryTask, claim: some(1), ids: ids, release: release, canary: true})
}

func (w *world) end() {
	if len(w.held) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.held)-1).Draw(w.t, "which")
	h := w.held[i]
	switch c := rapid.SampledFrom([]functions.Class{
		"", functions.GPUHost, functions.GPUHung, functions.GPUDevice, functions.GPULost, functions.GPUMemory, functions.ExitError, functions.Infra,
	}).Draw(w.t, "class"); c {
	case "":
		w.pool.Launched(h.ids)
		w.pool.Report(nil, h.ids)
	default:
		w.pool.Report(fail(c), h.ids)
	}
	w.drop(i, rapid.IntRange(0, 4).Draw(w.t, "leaves") == 0)
}

func (w *world) drop(i int, leaves bool) {
	h := w.held[i]
	h.release()
	h.release()
	w.held = slices.Delete(w.held, i, i+1)
	for _, id := range h.ids {
		if leaves {
			w.card(id).left += h.uses
		}
	}
}

// restart is a new agent on the same machine, whose containers go on.
func (w *world) restart() {
	w.start()
	for _, c := range w.cards {
		c.sick, c.unseen, c.mended, c.read = false, false, false, false
	}
	for _, h := range slices.Clone(w.held) {
		if h.canary {
			w.held = slices.DeleteFunc(w.held, func(o *holding) bool { return o == h })
			continue
		}
		got, release, err := w.pool.Restore(h.task, h.claim, h.ids)
		if err != nil || !slices.Equal(uuids(got), h.ids) {
			w.t.Fatalf("Restore = %v, %v, want %v", uuids(got), err, h.ids)
		}
		h.release = release
	}
}

func (w *world) fault() {
	c := w.pick()
	switch rapid.IntRange(0, 6).Draw(w.t, "fault") {
	case 0:
		w.pool.Xid(probe.Event{At: w.now, UUID: c.UUID, Xid: rapid.SampledFrom([]uint64{13, 31, 43, 45, 68, 109}).Draw(w.t, "xid")})
	case 1:
		known := slices.ContainsFunc(w.pool.Snapshot(), func(g functions.GPUInfo) bool { return g.UUID == c.UUID })
		w.pool.Xid(probe.Event{At: w.now, UUID: c.UUID, Xid: rapid.SampledFrom([]uint64{48, 74, 79, 119, 999}).Draw(w.t, "xid")})
		if known {
			c.sick, c.unseen, c.mended = true, true, false
		}
	case 2:
		if c.there && !c.mended {
			w.observe()
			c.ECC++
			w.observe()
			c.sick = true
		}
	case 3:
		if c.there && !c.mended && !c.Lost {
			w.observe()
			c.Lost, c.Recovery = true, 1
			w.observe()
			c.sick = true
		}
	case 4:
		if c.there {
			w.observe()
			c.there = false
			w.observe()
			c.reset()
			c.mended = true // away and back is as good as a reset
		}
	case 5:
		c.there = true
	case 6:
		c.foreign = functions.Bytes(rapid.IntRange(0, 8).Draw(w.t, "foreign")) * functions.GiB
		c.left = 0
	}
}

func (w *world) readmit() {
	c := w.pick()
	if err := w.pool.Readmit(c.UUID); err == nil {
		c.sick, c.mended = false, false
	} else if !errors.Is(err, functions.ErrNotFound) {
		w.t.Fatal(err)
	}
}

// check compares the pool's account with the world's.
func (w *world) check() {
	for _, g := range w.pool.Snapshot() {
		c := w.card(g.UUID)
		var tasks []functions.TaskID
		var promised functions.Bytes
		alone := false
		for _, h := range w.held {
			if slices.Contains(h.ids, g.UUID) {
				tasks = append(tasks, h.task)
				promised += h.claim.Promise()
				alone = alone || h.claim.Alone()
			}
		}
		var shown []functions.TaskID
		for _, l := range g.Leases {
			shown = append(shown, l.Task)
		}
		slices.Sort(tasks)
		slices.Sort(shown)
		most := w.cfg.MaxLeases
		if c.Parent != "" {
			most = 1
		}
		switch {
		case !slices.Equal(tasks, shown):
			w.t.Fatalf("%s is held by %v, says the pool, and by %v", g.UUID, shown, tasks)
		case promised > 0 && promised+functions.GPUOverhead > c.Total:
			w.t.Fatalf("%s has %s, and %s are promised", g.UUID, c.Total, promised)
		case alone && len(tasks) > 1:
			w.t.Fatalf("%s is lent to one alone, and to %v", g.UUID, tasks)
		case len(tasks) > most:
			w.t.Fatalf("%s is lent to %v, of at most %d", g.UUID, tasks, most)
		case g.State.Healthy() && (c.sick || w.now.Before(g.Until)):
			w.t.Fatalf("%s is sick or quarantined, and %s", g.UUID, g.State)
		case !g.State.Healthy() && g.Reason == "":
			w.t.Fatalf("%s is %s and does not say why", g.UUID, g.State)
		case g.Free < 0 || g.Free > 0 && g.Free+promised+functions.GPUOverhead > c.Total:
			w.t.Fatalf("%s has %s left of %s, and %s are promised", g.UUID, g.Free, c.Total, promised)
		}
	}
}

func TestNoHistoryOversubscribesADeviceAndAnIdlePoolRecovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		steps := []func(){w.acquire, w.acquire, w.acquire, w.end, w.observe, w.observe, w.canary, w.fault, w.readmit, w.broken, w.restart, w.reload,
			func() { w.now = w.now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond) },
			func() { w.now = w.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second) },
		}
		w.observe()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			w.now = w.now.Add(time.Millisecond)
			steps[rapid.IntRange(0, len(steps)-1).Draw(t, "step")]()
			w.check()
		}
		w.recover()
	})
}

// recover ends every task, loads the driver anew and lets the time of all
// quarantines pass: then each device is there for a task.
func (w *world) recover() {
	for len(w.held) > 0 {
		w.drop(0, false)
	}
	for _, c := range w.cards {
		c.there, c.foreign, c.left = true, 0, 0
	}
	w.observe()
	w.reload()
	w.now = w.now.Add(time.Second)
	w.observe()
	for range 2 { // the memory of what was there before is not known to all: one quarantine more
		w.now = w.now.Add(longQuarantine)
		w.observe()
		w.now = w.now.Add(time.Second)
	}
	for range 1 + len(w.cards) {
		if ids, release, ok := w.pool.Trial(); ok {
			w.pool.Report(nil, ids)
			release()
			w.now = w.now.Add(time.Second)
			w.observe()
		}
	}
	got, _, err := w.pool.Acquire("last", some(len(w.cards)), nil)
	if err != nil {
		w.t.Fatalf("every device is well and idle, yet: %v\n%+v\n%+v", err, w.pool.Snapshot(), w.pool.Host())
	}
	if len(got) != len(w.cards) {
		w.t.Fatalf("%d of %d devices", len(got), len(w.cards))
	}
}
