package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/e2e/bench/results"
	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPlace(t *testing.T) {
	text, err := place("# Head\n"+tablesBegin+"old\n"+tablesEnd+"foot\n", "new\n")
	if want := "# Head\n" + tablesBegin + "new\n" + tablesEnd + "foot\n"; err != nil || text != want {
		t.Errorf("%q, %v; want %q", text, err, want)
	}
	if _, err := place("# Head\n", "new\n"); err == nil {
		t.Error("a README without the lines is no error")
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := place(string(readme), "new\n"); err != nil {
		t.Error(err)
	}
}

func TestReadmeNamesTheTools(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if s.table && !strings.Contains(string(readme), "| `"+s.name+"` |") {
			t.Errorf("the README does not say what the step %s asks", s.name)
		}
	}
}

func TestKeepGrowsAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	for _, name := range []string{"launch", "queue", "launch"} {
		if err := keep(file, results.Report{Steps: []results.Step{{Name: name, Title: name}}}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := results.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Steps) != 2 {
		t.Errorf("%d steps, want launch and queue", len(got.Steps))
	}
	if err := render(file); err != nil {
		t.Error(err)
	}
}

func TestKeepSparesAFileThatItCannotRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(file, []byte("not JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := keep(file, results.Report{}); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestNumbers(t *testing.T) {
	var n numbers
	if err := n.Set("1,4,16"); err != nil || !slices.Equal(n, numbers{1, 4, 16}) || n.String() != "1,4,16" {
		t.Errorf("%v, %v", n, err)
	}
	for _, bad := range []string{"", "0", "1,,2", "x", "-3"} {
		if err := n.Set(bad); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
}

func TestCheckNames(t *testing.T) {
	if err := checkNames("launch,trace"); err != nil {
		t.Error(err)
	}
	if err := checkNames("launch,lunch"); err == nil {
		t.Error("a step that does not exist is no error")
	}
}

func TestBegunAt(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	task := harness.Task{FinishedAt: at.Add(time.Hour), Attempts: []functions.Attempt{{StartedAt: at.Add(-time.Minute)}, {
		StartedAt: at, Phases: []functions.Span{
			{Phase: functions.PhaseStage, MS: 1.5}, {Phase: functions.PhasePull, MS: 2}, {Phase: functions.PhaseLaunch, MS: 3}, {Phase: functions.PhaseRun, MS: 1000},
		},
	}}}
	if got := begunAt(task).Sub(at); got != 6500*time.Microsecond {
		t.Errorf("%v after the assignment, want 6.5ms", got)
	}
	if got := begunAt(harness.Task{FinishedAt: at}); got != at {
		t.Errorf("without an attempt: %v", got)
	}
}
