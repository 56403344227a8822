package gpusim

import (
	"errors"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
)

// Faults decides which launch meets which fault. The same launches in the same
// order meet the same faults, whatever else is in force: each fault has dice of
// its own.
type Faults struct {
	fixed   []Fault
	file    string // more faults, read again at each question; empty = none
	devices int
	seed    uint64
	log     *slog.Logger

	mu    sync.Mutex // guards the fields below
	text  string     // of the file, when it was last read
	rules []*rule    // those of fixed first
}

// rule is a fault in force.
type rule struct {
	Fault
	dice  *rand.Rand
	asked int // launches that it could have struck
}

// NewFaults puts faults in force. Those of the file named, one a line, count for
// as long as they stand in it; the file may come and go.
func NewFaults(fixed []Fault, file string, devices int, seed uint64, log *slog.Logger) *Faults {
	f := &Faults{fixed: fixed, file: file, devices: devices, seed: seed, log: log}
	f.enforce(nil)
	return f
}

// enforce replaces the faults of the file. A fault that stays keeps its count.
// It is called with the mutex held, or before anybody else has the Faults.
func (f *Faults) enforce(more []Fault) {
	old := f.rules
	f.rules = nil
	for _, fault := range slices.Concat(f.fixed, more) {
		if slices.ContainsFunc(f.rules, func(r *rule) bool { return r.Fault == fault }) {
			continue // the file repeats what is fixed
		}
		if i := slices.IndexFunc(old, func(r *rule) bool { return r.Fault == fault }); i >= 0 {
			f.rules = append(f.rules, old[i])
			continue
		}
		h := fnv.New64a()
		h.Write([]byte(fault.String()))
		f.rules = append(f.rules, &rule{Fault: fault, dice: rand.New(rand.NewPCG(f.seed, h.Sum64()))})
	}
}

// refresh reads the file. One with a mistake in it changes nothing. It is called
// with the mutex held.
func (f *Faults) refresh() {
	if f.file == "" {
		return
	}
	b, err := os.ReadFile(f.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Warn("faults not read; those in force stay", "file", f.file, "err", err)
		return
	}
	if string(b) == f.text {
		return
	}
	f.text = string(b)
	more, err := ParseFile(f.text, f.devices)
	if err != nil {
		f.log.Warn("faults not understood; those in force stay", "file", f.file, "err", err)
		return
	}
	f.enforce(more)
	f.log.Info("faults changed", "file", f.file, "faults", more)
}

// strike returns what a launch on some devices meets: a fault that ends it, if
// any does, and those that only slow it down.
func (f *Faults) strike(indices []int) (end *Fault, slow []Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh()
	for _, r := range f.rules {
		if kinds[r.Kind].stage == onReading || !r.concerns(indices) {
			continue
		}
		// The dice are thrown for each launch, also where an earlier fault ends it.
		switch hit := r.hits(); {
		case hit && r.Kind == Slow:
			slow = append(slow, r.Fault)
		case hit && end == nil:
			found := r.Fault
			end = &found
		}
	}
	return end, slow
}

func (r *rule) concerns(indices []int) bool {
	return r.Index == Everywhere || slices.Contains(indices, r.Index)
}

func (r *rule) hits() bool {
	r.asked++
	if r.First > 0 {
		return r.asked <= r.First
	}
	return r.dice.Float64() < r.Rate
}

// inForce returns the faults of a kind that concern a device.
func (f *Faults) inForce(k Kind, index int) (found []Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh()
	for _, r := range f.rules {
		if r.Kind == k && r.concerns([]int{index}) {
			found = append(found, r.Fault)
		}
	}
	return found
}
