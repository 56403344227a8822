package scheduler

import (
	"sync"

	"github.com/spillway/spillway/functions"
)

// inbox is how other goroutines reach a term's loop. Putting never waits; the
// loop takes everything at once.
type inbox struct {
	wake chan struct{} // holds one token while something is in the box

	mu  sync.Mutex // guards the box
	box parcel
}

// parcel is what came since the last take.
type parcel struct {
	changes []functions.Change
	beats   []functions.Heartbeat
	answers []answer
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func (b *inbox) putChanges(c []functions.Change) {
	b.put(func(p *parcel) { p.changes = append(p.changes, c...) })
}

func (b *inbox) putBeat(hb functions.Heartbeat) {
	b.put(func(p *parcel) { p.beats = append(p.beats, hb) })
}

func (b *inbox) putAnswer(a answer) {
	b.put(func(p *parcel) { p.answers = append(p.answers, a) })
}

func (b *inbox) put(f func(*parcel)) {
	b.mu.Lock()
	f(&b.box)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default: // the loop has been told and has not looked yet
	}
}

func (b *inbox) take() parcel {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.box
	b.box = parcel{}
	return p
}

// counter counts queued tasks per function.
type counter struct {
	mu sync.Mutex // guards n
	n  map[functions.Name]int
}

func newCounter() *counter { return &counter{n: map[functions.Name]int{}} }

func (c *counter) add(fn functions.Name, d int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[fn] += d; c.n[fn] <= 0 {
		delete(c.n, fn)
	}
}

func (c *counter) get(fn functions.Name) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[fn]
}

func (c *counter) changes(cs []functions.Change) {
	for i := range cs {
		was, is := cs[i].Before == functions.Queued, cs[i].Task.State == functions.Queued
		switch {
		case is && !was:
			c.add(cs[i].Task.Function, 1)
		case was && !is:
			c.add(cs[i].Task.Function, -1)
		}
	}
}
