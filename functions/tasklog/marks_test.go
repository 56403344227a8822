package tasklog

import (
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

func openMarks(t *testing.T, l *Log) *Marks {
	t.Helper()
	m, err := l.Marks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wantMark(t *testing.T, m *Marks, fn functions.Name, want functions.Mark) {
	t.Helper()
	got, err := m.Mark(t.Context(), fn)
	if err != nil || !got.From.Equal(want.From) || !got.Until.Equal(want.Until) {
		t.Errorf("mark of %s: %v, %v, want %v", fn, got, err, want)
	}
}

func TestMarksOnlyMoveForward(t *testing.T) {
	m := openMarks(t, openLog(t, startServer(t, t.TempDir())))
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	wantMark(t, m, "f", functions.Mark{})
	for _, c := range []struct{ move, want functions.Mark }{
		{functions.Mark{Until: at}, functions.Mark{Until: at}},
		{functions.Mark{Until: at.Add(-time.Hour)}, functions.Mark{Until: at}},
		{functions.Mark{From: at.Add(time.Hour)}, functions.Mark{From: at.Add(time.Hour), Until: at}},
		{functions.Mark{From: at, Until: at.Add(1)}, functions.Mark{From: at.Add(time.Hour), Until: at.Add(1)}},
		{functions.Mark{}, functions.Mark{From: at.Add(time.Hour), Until: at.Add(1)}},
	} {
		if err := m.Move(t.Context(), "f", c.move); err != nil {
			t.Fatal(err)
		}
		wantMark(t, m, "f", c.want)
	}
	wantMark(t, m, "g", functions.Mark{})
	if err := m.Move(t.Context(), "no name", functions.Mark{Until: at}); err == nil {
		t.Error("a mark was set for what is no function's name")
	}
}

func TestServersThatMoveMarksAtOnceKeepTheLatest(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var wg sync.WaitGroup
	for server := range 3 {
		m := openMarks(t, openLog(t, s))
		wg.Go(func() {
			for i := range 40 {
				if err := m.Move(t.Context(), "f", functions.Mark{Until: at.Add(time.Duration(3*i+server) * time.Second)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.Shutdown()
	wantMark(t, openMarks(t, openLog(t, startServer(t, dir))), "f", functions.Mark{Until: at.Add((3*39 + 2) * time.Second)})
}
