package ingest

import (
	"context"
	"sync"

	"github.com/spillway/spillway/functions"
)

const (
	// manyHints is how many hints may wait to be offered.
	manyHints = 10_000
	// offers is how many of them are offered at once: each waits for the store and
	// the log most of the time.
	offers = 24
)

// backlog holds the hints of reports that were answered at once. It is lost with
// the process: such hints only make things fast.
type backlog struct {
	hints chan Hint

	mu      sync.Mutex // guards the fields below
	waiting map[Hint]struct{}
	full    bool // a hint was dropped since it was empty
}

func newBacklog() *backlog {
	return &backlog{hints: make(chan Hint, manyHints), waiting: make(map[Hint]struct{})}
}

// add has the hint wait, unless the same does already: whoever offers that one
// sees what this one would. It reports whether the hint was dropped for want of
// room, and whether that is the first since the backlog was empty.
func (b *backlog) add(h Hint) (dropped, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.waiting[h]; ok {
		return false, false
	}
	select {
	case b.hints <- h:
		b.waiting[h] = struct{}{}
		return false, false
	default:
		first, b.full = !b.full, true
		return true, first
	}
}

// begin takes a hint that was received off the list: from now on the same hint
// may be about something newer.
func (b *backlog) begin(h Hint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.waiting, h)
	b.full = b.full && len(b.waiting) > 0
}

var errBacklogFull = functions.Unavailable("backlog_full", "too many reports of new objects wait already").
	WithHint("nothing is lost: listing finds the objects, later")

// Later takes down what a message reports and leaves it to Run to offer it, so
// that the sender need not wait: for senders that do not repeat themselves, to
// whom an answer means nothing. When too many hints wait it drops them, which is
// ErrUnavailable backlog_full; listing finds their objects.
func (in *Ingest) Later(from Source, body []byte) error {
	hints, err := decode(body)
	if err != nil {
		in.figures.failed(from, err)
		return err
	}
	var failed error
	for _, h := range hints {
		h.Source = from
		dropped, first := in.backlog.add(h)
		if !dropped {
			continue
		}
		in.figures.dropped(from)
		failed = errBacklogFull
		if first {
			in.Logger.Warn("reports of new objects are dropped until those that wait are worked off", "source", from, "waiting", manyHints)
		}
	}
	return failed
}

// work offers what Later took down, until ctx ends. What waits then is dropped.
func (in *Ingest) work(ctx context.Context) {
	for {
		select {
		case h := <-in.backlog.hints:
			in.backlog.begin(h)
			if err := in.Offer(ctx, h); err != nil && ctx.Err() == nil {
				in.Logger.Warn("object event not taken in", "source", h.Source, "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}
