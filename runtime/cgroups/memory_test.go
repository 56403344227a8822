package cgroups

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/runtime"
)

// Both versions are read alike; a machine counts by but one of them. The files
// are there until the container is removed, so they tell of one that has exited too.
func TestMemory(t *testing.T) {
	for name, c := range map[string]struct {
		layout string
		files  map[string]string
		want   runtime.Usage
		limit  int64
		oom    bool
	}{
		"v1": {layoutV1, map[string]string{
			"memory.usage_in_bytes": "5000\n", "memory.max_usage_in_bytes": "9000\n", "memory.limit_in_bytes": "10000\n",
			"memory.stat": "inactive_file 1\ntotal_inactive_file 1000\n", "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
		}, runtime.Usage{Memory: 4000, PeakMemory: 9000}, 10000, true},
		"v2": {layoutV2, map[string]string{
			"memory.current": "5000\n", "memory.peak": "9000\n", "memory.max": "10000\n",
			"memory.stat": "anon 1\ninactive_file 1000\n", "memory.events": "low 0\noom 1\noom_kill 1\n",
		}, runtime.Usage{Memory: 4000, PeakMemory: 9000}, 10000, true},
		"v2 of an older kernel, more cache than use": {layoutV2, map[string]string{
			"memory.current": "500\n", "memory.max": "10000\n", "memory.stat": "inactive_file 1000\n", "memory.events": "oom 1\noom_kill 0\n",
		}, runtime.Usage{}, 10000, false},
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
		groups := Groups{layout: c.layout, unified: root, v1: map[string]string{"memory": root}}
		if got, err := groups.Usage("/a"); err != nil || got != c.want {
			t.Errorf("%s: usage %+v, %v, want %+v", name, got, err, c.want)
		}
		if got, err := groups.MemoryLimit("/a"); err != nil || got != c.limit {
			t.Errorf("%s: limit %d, %v, want %d", name, got, err, c.limit)
		}
		if got := groups.OOMKilled("/a"); got != c.oom {
			t.Errorf("%s: killed %v, want %v", name, got, c.oom)
		}
		if _, err := groups.Usage("/gone"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: usage of a group that is gone: %v", name, err)
		}
		if groups.OOMKilled("/gone") {
			t.Errorf("%s: a group that is gone was killed", name)
		}
	}
}
