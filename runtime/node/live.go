package node

import (
	"time"

	"github.com/spillway/spillway/functions"
)

// live sends log lines to whoever follows, in batches. It is part of a capture,
// under its mutex.
type live struct {
	send     func([]functions.LogLine)
	progress func(line string)
	skip     int64 // lines up to this one were sent before
	pending  []functions.LogLine
	size     int // of the pending texts
	timer    *time.Timer
	last     time.Time // of the last batch
}

// offer takes a line. full: the head of the log is; then a program floods, and
// followers get one batch each batchTime, whatever it writes. They see the gap
// in the line numbers.
func (l *live) offer(c *capture, entry functions.LogLine, full bool) {
	if l.send == nil || entry.N <= l.skip {
		return
	}
	if entry.Stream != "system" {
		l.progress(entry.Text)
	}
	switch {
	case len(l.pending) >= batchLines && full && time.Since(l.last) < batchTime:
		return
	case len(l.pending) >= batchLines, l.size > 0 && l.size+len(entry.Text) > int(longestLine):
		l.flush()
	}
	l.pending = append(l.pending, entry)
	l.size += len(entry.Text)
	if l.timer == nil {
		l.timer = time.AfterFunc(batchTime, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			l.flush()
		})
	}
}

func (l *live) flush() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if len(l.pending) > 0 {
		l.send(l.pending)
		l.pending, l.size, l.last = nil, 0, time.Now()
	}
}
