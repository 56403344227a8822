package probe

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Config makes a Watcher.
type Config struct {
	Program string        // path of gpuprobe; empty = none
	SMI     string        // path of nvidia-smi, asked where gpuprobe is missing or cannot run; empty = none
	Every   time.Duration // between readings; 0 = 1s
	Stale   time.Duration // without a reading for longer, the GPUs count as unread; 0 = 3s
	Env     []string      // added to the environment of both programs
	Log     *slog.Logger  // nil = none
}

// ErrNotRunning is what Now returns when nothing reads the GPUs.
var ErrNotRunning = errors.New("the GPU probe does not run")

// Watcher keeps a probe of this machine's GPUs running. A probe that dies is
// started again, one that hangs is killed first, after pauses that grow from a
// second to a minute.
type Watcher struct {
	cfg    Config
	start  func() (*child, error)            // starts gpuprobe
	ask    func(ctx context.Context) Reading // asks nvidia-smi
	pokes  chan struct{}                     // holds one when a reading is wanted at once
	report func(Report)

	mu      sync.Mutex // guards the fields below
	running bool
	resting bool // nothing is read for a while: last says why
	last    Reading
	devices []Device // of the last reading of Status OK
	waiters []waiter
}

// waiter is a call of Now: it takes any reading that began after it.
type waiter struct {
	since  time.Time
	answer chan<- Reading
}

// New makes a Watcher; Run starts it.
func New(cfg Config) *Watcher {
	cfg.Every = cmp.Or(cfg.Every, time.Second)
	cfg.Stale = cmp.Or(cfg.Stale, 3*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	programs := &programs{env: cfg.Env, room: make(chan struct{}, maxStuck)}
	smi := &smi{path: cfg.SMI, run: programs.output}
	return &Watcher{
		cfg: cfg, ask: smi.read, pokes: make(chan struct{}, 1),
		start: func() (*child, error) { return programs.start(cfg.Program, "-watch", cfg.Every.String()) },
	}
}

// Run reads the GPUs until ctx ends and returns nil then; call it once. It calls
// report with each reading and event, one after the other: a reading of Status
// Silent when the probe died or has said nothing for Config.Stale, and what the
// driver answers otherwise. Without a program to ask it reports nothing. A process
// that the kernel does not let go is left behind.
func (w *Watcher) Run(ctx context.Context, report func(Report)) error {
	if w.cfg.Program == "" && w.cfg.SMI == "" {
		<-ctx.Done()
		return nil
	}
	w.report = report
	w.rest(false)
	defer w.end()
	for failed := 0; ; failed++ {
		began := time.Now()
		status := w.live(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) >= longPause {
			failed = 0
		}
		w.rest(status != OK)
		timer := time.NewTimer(pause(status, failed))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		w.rest(false)
	}
}

// Now returns a reading that began after the call, or, while a probe that failed
// waits to be started again, the one that says why. It may be of any Status, and
// was reported before: what Run calls must not wait for it.
func (w *Watcher) Now(ctx context.Context) (Reading, error) {
	answer := make(chan Reading, 1)
	w.mu.Lock()
	if !w.running || w.resting {
		defer w.mu.Unlock()
		if !w.running {
			return Reading{}, ErrNotRunning
		}
		return w.last, nil
	}
	w.waiters = append(w.waiters, waiter{time.Now(), answer})
	w.mu.Unlock()
	select {
	case w.pokes <- struct{}{}:
	default:
	}
	select {
	case r, ok := <-answer:
		if !ok {
			return Reading{}, ErrNotRunning
		}
		return r, nil
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		w.waiters = slices.DeleteFunc(w.waiters, func(a waiter) bool { return a.answer == answer })
		return Reading{}, ctx.Err()
	}
}

// say reports a reading, and then answers those who wait for one.
func (w *Watcher) say(r Reading) {
	w.mu.Lock()
	if r.Status != w.last.Status {
		w.cfg.Log.Info("GPU probe", "status", r.Status, "devices", len(r.Devices), "message", r.Message)
	}
	if r = keepLost(w.devices, r); r.Status == OK {
		w.devices = r.Devices
	}
	w.last = r
	w.mu.Unlock()
	w.report(Report{Reading: &r})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiters = slices.DeleteFunc(w.waiters, func(a waiter) bool {
		if r.At.Before(a.since) {
			return false
		}
		a.answer <- r
		return true
	})
}

// wanted reports whether anybody waits for a reading.
func (w *Watcher) wanted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiters) > 0
}

// rest says whether readings are to be had. Who waits when they end is given the last.
func (w *Watcher) rest(resting bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running, w.resting = true, resting
	if !resting {
		return
	}
	for _, a := range w.waiters {
		a.answer <- w.last
	}
	w.waiters = nil
}

func (w *Watcher) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
	for _, a := range w.waiters {
		close(a.answer)
	}
	w.waiters = nil
}
