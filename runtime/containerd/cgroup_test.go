package containerd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// Both versions are read alike; a machine has but one of them.
func TestCgroupFiles(t *testing.T) {
	for name, c := range map[string]struct {
		version int
		files   map[string]string
		want    runtime.Usage
		oom     bool
	}{
		"v1": {1, map[string]string{
			"memory.usage_in_bytes": "5000\n", "memory.max_usage_in_bytes": "9000\n",
			"memory.stat": "cache 1\ntotal_inactive_file 1000\n", "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
		}, runtime.Usage{Memory: 4000, PeakMemory: 9000}, true},
		"v2": {2, map[string]string{
			"memory.current": "5000\n", "memory.peak": "9000\n",
			"memory.stat": "anon 1\ninactive_file 1000\n", "memory.events": "low 0\noom 1\noom_kill 1\n",
		}, runtime.Usage{Memory: 4000, PeakMemory: 9000}, true},
		"v2 of an older kernel": {2, map[string]string{
			"memory.current": "500\n", "memory.stat": "inactive_file 1000\n", "memory.events": "oom 1\noom_kill 0\n",
		}, runtime.Usage{}, false},
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "a"), 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range c.files {
			if err := os.WriteFile(filepath.Join(root, "a", file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		groups := cgroups{version: c.version, memory: root}
		if got, err := groups.usage("/a"); err != nil || got != c.want {
			t.Errorf("%s: usage %+v, %v, want %+v", name, got, err, c.want)
		}
		if got := groups.oomKilled("/a"); got != c.oom {
			t.Errorf("%s: killed %v, want %v", name, got, c.oom)
		}
		if _, err := groups.usage("/gone"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: usage of a group that is gone: %v", name, err)
		}
		if groups.oomKilled("/gone") {
			t.Errorf("%s: a group that is gone was killed", name)
		}
	}
}

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
