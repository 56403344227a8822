package tasklog

import (
	"context"
	"fmt"
	"runtime"

	"github.com/nats-io/nuid"

	"github.com/spillway/spillway/functions"
)

// batch is one message in the making.
type batch struct {
	subject string
	data    []byte
	events  int
	callers int           // who still wait
	left    chan struct{} // closed when the last caller gave up
	done    chan struct{} // closed when seq and err are set
	seq     uint64
	err     error
}

// Submit writes one event and returns the sequence of its message once it is
// durable. The log syncs each message to disk, one after the other; so whatever
// is submitted while the last message is on its way goes into the next one
// together. When ctx ends first the event may still reach the log.
func (l *Log) Submit(ctx context.Context, e functions.Event) (uint64, error) {
	line, err := encode(e)
	if err != nil {
		return 0, err
	}
	b, err := l.join(kindSubject(e.Kind, functionOf(e)), line)
	if err != nil {
		return 0, fmt.Errorf("append to the log: %w", err)
	}
	select {
	case <-b.done:
		return b.seq, b.err
	case <-ctx.Done():
		l.leave(b)
		return 0, fmt.Errorf("append to the log: %w", ctx.Err())
	}
}

// join adds a line to the last waiting batch, or to a new one. The first to
// wait starts the flusher, which ends when nothing waits.
func (l *Log) join(subject string, line []byte) (*batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed()
	}
	var b *batch
	if n := len(l.waiting); n > 0 {
		b = l.waiting[n-1]
	}
	if b == nil || b.callers == 0 || b.events == maxBatch || len(b.data)+1+len(line) > maxBatchBytes {
		b = &batch{subject: subject, data: line, events: 1, callers: 1, left: make(chan struct{}), done: make(chan struct{})}
		l.waiting = append(l.waiting, b)
	} else {
		b.data = append(append(b.data, '\n'), line...)
		b.events++
		b.callers++
		b.subject = commonSubject(b.subject, subject)
	}
	if !l.flushing {
		l.flushing = true
		l.flushers.Go(l.flush)
	}
	return b, nil
}

// leave takes a caller off b. A batch that nobody waits for is not retried.
func (l *Log) leave(b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.callers--; b.callers == 0 {
		close(b.left)
	}
}

// flush publishes batches, one at a time, until none waits. It owns no caller's
// context: a batch outlives each single caller.
func (l *Log) flush() {
	for {
		// Callers whose batch has just ended are about to run and submit again.
		// Without this the first of them would travel alone each second time.
		runtime.Gosched()
		b := l.next()
		if b == nil {
			return
		}
		b.seq, b.err = l.publish(context.Background(), b.left, b.subject, nuid.Next(), b.data)
		close(b.done)
	}
}

func (l *Log) next() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.flushing = false
		return nil
	}
	b := l.waiting[0]
	l.waiting[0] = nil
	l.waiting = l.waiting[1:]
	return b
}

// commonSubject is the subject of a message that holds events of both.
func commonSubject(a, b string) string {
	const sub = "tl." + string(functions.Submit)
	isSub := func(s string) bool { return len(s) >= len(sub) && s[:len(sub)] == sub }
	switch {
	case a == b:
		return a
	case isSub(a) && isSub(b):
		return sub
	}
	return mixedSubject
}
