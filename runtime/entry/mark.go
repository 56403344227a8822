package entry

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// marks are the marks in the output that are on their way.
type marks struct {
	mu    sync.Mutex // guards the fields below
	last  uint64
	waits map[uint64]chan struct{}
}

func (m *marks) add() (uint64, chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waits == nil {
		m.waits = make(map[uint64]chan struct{})
	}
	m.last++
	passed := make(chan struct{})
	m.waits[m.last] = passed
	return m.last, passed
}

func (m *marks) forget(id uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.waits, id)
}

// passed takes a mark that has come back. One that nobody waits for is nothing.
func (m *marks) passed(payload []byte) {
	if len(payload) != 8 {
		return
	}
	id := binary.BigEndian.Uint64(payload)
	m.mu.Lock()
	defer m.mu.Unlock()
	if passed := m.waits[id]; passed != nil {
		close(passed)
		delete(m.waits, id)
	}
}

// Flush returns when all output that the command has written so far is copied:
// what a command says before it answers by another way belongs to that answer.
// ErrUnavailable is an entry program that has gone, whose output is all copied
// too.
func (s *Session) Flush(ctx context.Context) error {
	id, passed := s.marks.add()
	defer s.marks.forget(id)
	if err := s.send(wire.AppendFrame(nil, wire.KindMark, binary.BigEndian.AppendUint64(nil, id)), signalTime); err != nil {
		return err
	}
	select {
	case <-passed:
		return nil
	case <-s.settled:
		return gone(nil)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
