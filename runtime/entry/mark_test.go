package entry

import (
	"testing"
)

// A container may send marks of its own; only one that is waited for counts.
func TestMarks(t *testing.T) {
	var m marks
	m.passed(nil)
	m.passed(make([]byte, 8))
	id, passed := m.add()
	other, late := m.add()
	frame := func(id byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, id} }
	m.passed(frame(99))
	select {
	case <-passed:
		t.Fatal("another's mark counted")
	default:
	}
	m.passed(frame(byte(id)))
	<-passed
	m.passed(frame(byte(id))) // twice
	m.forget(other)
	m.passed(frame(byte(other)))
	select {
	case <-late:
		t.Error("a mark that was given up counted")
	default:
	}
	if len(m.waits) != 0 {
		t.Errorf("%d marks are kept", len(m.waits))
	}
}
