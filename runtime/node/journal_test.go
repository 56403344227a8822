package node

import (
	"os"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

func TestMemoryOutlivesTornLines(t *testing.T) {
	f := folder(t.TempDir())
	if m, err := f.memory(); err != nil || m != (entry{}) {
		t.Fatalf("without a file: %+v, %v", m, err)
	}
	tear := func() {
		file, err := os.OpenFile(f.journal(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = file.WriteString("\n{\"state\":{\"pha")
		}
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	note := func(e entry) {
		t.Helper()
		if err := f.note(e); err != nil {
			t.Fatal(err)
		}
	}
	tear()
	if m, err := f.memory(); err == nil {
		t.Errorf("a promise that was never finished is taken for one: %+v", m)
	}
	began := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	note(entry{Held: &record{Leased: []string{"GPU-1"}}})
	tear()
	note(entry{State: &state{StartedAt: began}})
	m, err := f.memory()
	if err != nil || m.Held.Leased[0] != "GPU-1" || !m.State.StartedAt.Equal(began) || m.Outcome != nil {
		t.Errorf("after a start: %+v, %v", m, err)
	}
	note(entry{State: &state{}})
	note(entry{Outcome: &functions.Outcome{ExitCode: 3}})
	tear()
	if err := f.sync(); err != nil {
		t.Error(err)
	}
	m, err = f.memory()
	if err != nil || !m.State.StartedAt.IsZero() || m.Outcome == nil || m.Outcome.ExitCode != 3 {
		t.Errorf("after the end: %+v, %v", m, err)
	}
}
