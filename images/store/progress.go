package store

import (
	"sync"

	"github.com/spillway/spillway/functions"
)

// sum adds up how far the layers of one pull have come.
type sum struct {
	Progress
	mu     sync.Mutex // guards Progress and of
	of     map[*fetching]functions.Bytes
	report func(Progress)
}

// at notes that so many bytes of a layer have come. A layer that is tried again
// begins at nothing.
func (p *sum) at(l *fetching, done functions.Bytes) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Done += done - p.of[l]
	p.of[l] = done
	p.report(p.Progress)
}

func (p *sum) complete(l *fetching) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Layers++
	p.Done += l.size - p.of[l]
	p.of[l] = l.size
	p.report(p.Progress)
}
