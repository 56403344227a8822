package gpu

import (
	"time"

	"github.com/spillway/spillway/functions"
)

const (
	// deviceFaults in a row put a device into quarantine. One fault may be the
	// program's: messages do not always tell.
	deviceFaults = 2
	// hostFaults in a row switch the node's GPUs off. The first may be a passing
	// fault of the engine; by the second, each further launch would only cost its
	// task a respawn. A launch that hung counts as both: it has cost its whole
	// deadline already.
	hostFaults = 2

	firstQuarantine = 30 * time.Second
	longQuarantine  = 30 * time.Minute
)

// breaker opens after limit faults in a row, for twice as long each time. The
// time over, it is half open: it lets a trial pass and still remembers.
type breaker struct {
	limit  int
	faults int // in a row
	opened int // times in a row; over 0 and not open = half open
	until  time.Time
	reason string
}

func (b *breaker) open(now time.Time) bool { return now.Before(b.until) }

func (b *breaker) record(v functions.Blame, reason string, now time.Time) {
	switch v {
	case functions.BlameNothing:
		return
	case functions.BlameCleared:
		*b = breaker{limit: b.limit}
		return
	case functions.BlameFault:
		b.faults++
	case functions.BlameFatal:
		b.faults = max(b.faults+1, b.limit)
	}
	// Attempts that began before it opened may fail after: they add nothing.
	if b.faults < b.limit || b.open(now) {
		return
	}
	b.until = now.Add(min(firstQuarantine<<min(b.opened, 10), longQuarantine))
	b.opened++
	b.reason = reason
}
