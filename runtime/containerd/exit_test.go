package containerd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// Of several who see an exit the first is believed, also by those that come later.
func TestExitIsNotedOnce(t *testing.T) {
	f := folder(filepath.Join(t.TempDir(), "a"))
	if err := f.make(); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.ended(); ok {
		t.Error("an exit before the start")
	}
	if err := f.begin([]byte("in"), testTime); err != nil {
		t.Fatal(err)
	}
	if err := f.begin(nil, testTime); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("a second start: %v, want a conflict", err)
	}
	if text, err := os.ReadFile(f.stdin()); err != nil || string(text) != "in" {
		t.Errorf("standard input %q, %v", text, err)
	}
	first := runtime.Exit{Code: 3, OOMKilled: true, StartedAt: testTime, FinishedAt: testTime}
	for _, exit := range []runtime.Exit{first, {Code: 4, StartedAt: testTime}} {
		if got, err := f.end(exit); err != nil || got != first {
			t.Errorf("%+v, %v, want %+v", got, err, first)
		}
	}
	if files, err := os.ReadDir(string(f)); err != nil || len(files) != 4 { // stdin, hosts, started, exit
		t.Errorf("%v, %v", files, err)
	}
	gone := folder(filepath.Join(t.TempDir(), "gone"))
	if err := gone.begin(nil, testTime); !errors.Is(err, functions.ErrNotFound) {
		t.Errorf("the start of one that is gone: %v, want not found", err)
	}
}
