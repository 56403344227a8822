package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/pool"
)

// warmKey names what warm containers are all alike for.
type warmKey struct {
	function functions.Name
	version  int
	made     int64 // when the version was; servers that begin anew, without their data, begin with version 1
}

func keyOf(fn functions.Function) warmKey {
	return warmKey{fn.Name, fn.Version, fn.CreatedAt.UnixNano()}
}

// older reports whether b has taken the place of a.
func older(a, b functions.Function) bool {
	return a.Version < b.Version || a.CreatedAt.Before(b.CreatedAt)
}

func (k warmKey) String() string { return fmt.Sprintf("%s@%d", k.function, k.version) }

// warmth is what the node keeps started for tasks to come: see doc.go.
type warmth struct {
	pool *pool.Pool[warmKey, *instance] // nil = none are kept
	file string                         // warm.json

	mu    sync.Mutex // guards the fields below
	known map[functions.Name]functions.Function
	saved bool // known's fixed numbers are in the file
}

// warmFile is warm.json: functions that keep a fixed number, which the next agent
// starts again. Other functions come with their tasks.
type warmFile struct {
	Functions []functions.Function `json:"functions"`
}

func (n *Node) newWarmth() *warmth {
	w := &warmth{file: filepath.Join(n.cfg.DataDir, "warm.json"), known: make(map[functions.Name]functions.Function), saved: true}
	if n.cfg.Entry != "" && n.cfg.WarmMemory > 0 {
		w.pool = pool.New(pool.Config[warmKey, *instance]{Start: n.startWarm, Memory: n.cfg.WarmMemory, Log: n.cfg.Log})
	}
	return w
}

// keepWarm is the life of the pool. Nothing is started before what an earlier
// agent kept is gone: its containers are of no use, for the way to them was its.
func (n *Node) keepWarm(ctx context.Context) {
	if err := n.clearWarm(ctx); err != nil || n.warm.pool == nil {
		return
	}
	n.warm.recall(n)
	var pool sync.WaitGroup
	pool.Go(func() { n.warm.pool.Run(ctx) })
	defer pool.Wait()
	for n.cfg.Deployed != nil && functions.Sleep(ctx, n.time.Probe) {
		n.warm.review(n.cfg.Deployed)
		if err := n.warm.save(); err != nil {
			n.cfg.Log.Warn("list of warm functions not kept on disk", "err", err)
		}
	}
}

// recall takes over the functions with a fixed number.
func (w *warmth) recall(n *Node) {
	var f warmFile
	if _, err := readJSON(w.file, &f); err != nil {
		n.cfg.Log.Warn("list of warm functions not read", "err", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, fn := range f.Functions {
		if _, newer := w.known[fn.Name]; !newer && fn.Warm > 0 {
			w.known[fn.Name] = fn
			w.pool.Keep(keyOf(fn), int(fn.Warm))
		}
	}
}

// learn takes note of the function of a task, and reports whether the task may
// run in one of its warm containers: those of the newest version seen. Those of
// an older one are given up.
func (w *warmth) learn(fn functions.Function) (warmKey, bool) {
	k := keyOf(fn)
	w.mu.Lock()
	defer w.mu.Unlock()
	old, known := w.known[fn.Name]
	switch {
	case known && older(fn, old):
		return k, false
	case known && older(old, fn):
		w.pool.Retire(keyOf(old))
		w.saved = w.saved && old.Warm <= 0
		delete(w.known, fn.Name)
		known = false
	}
	if fn.Warm == 0 {
		return k, false
	}
	if !known {
		w.known[fn.Name] = fn
		w.saved = w.saved && fn.Warm < 0
	}
	// Each time: the pool lets go of a key that was not called for a while.
	w.pool.Keep(k, int(fn.Warm))
	return k, true
}

// function is the one of a key, unless a newer version has taken its place.
func (w *warmth) function(k warmKey) (functions.Function, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn, ok := w.known[k.function]
	return fn, ok && keyOf(fn) == k
}

// save writes warm.json when it has changed.
func (w *warmth) save() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.saved {
		return nil
	}
	var f warmFile
	for _, name := range slices.Sorted(maps.Keys(w.known)) {
		if fn := w.known[name]; fn.Warm > 0 {
			f.Functions = append(f.Functions, fn)
		}
	}
	if err := writeJSON(w.file, f); err != nil {
		return err
	}
	w.saved = true
	return nil
}

// review gives up what is kept of versions that are not in force any more. A
// newer version begins with its first task.
func (w *warmth) review(deployed Deployed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, fn := range w.known {
		now, err := deployed.Latest(name)
		if errors.Is(err, functions.ErrNotFound) || err == nil && older(fn, now) {
			delete(w.known, name)
			w.pool.Retire(keyOf(fn))
			w.saved = w.saved && fn.Warm <= 0
		}
	}
}

// counts is what heartbeats tell.
func (w *warmth) counts() (all []functions.WarmInfo) {
	if w.pool == nil {
		return nil
	}
	for k, c := range w.pool.Counts() {
		if c.Wanted > 0 || c.Idle > 0 || c.Starting > 0 {
			all = append(all, functions.WarmInfo{Function: k.function, Version: k.version, Wanted: c.Wanted, Idle: c.Idle, Starting: c.Starting})
		}
	}
	slices.SortFunc(all, func(a, b functions.WarmInfo) int {
		return cmp.Or(cmp.Compare(a.Function, b.Function), cmp.Compare(a.Version, b.Version))
	})
	return all
}

// emptyWarm removes the folders of an earlier agent's warm containers. What those
// had that were handed out has moved to their attempts.
func emptyWarm(dataDir string) error {
	if err := os.RemoveAll(filepath.Join(dataDir, "warm")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove folders of warm containers: %w", err)
	}
	return nil
}

// Deployed tells what is deployed now.
type Deployed interface {
	// Latest returns the version in force; ErrNotFound when there is none.
	Latest(name functions.Name) (functions.Function, error)
}
