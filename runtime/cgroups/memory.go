package cgroups

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// Usage reads what a group uses. It leaves out the page cache that the kernel
// can take back at any time.
func (g Groups) Usage(group string) (runtime.Usage, error) {
	dir := g.Memory(group)
	used, peak, cache := "memory.usage_in_bytes", "memory.max_usage_in_bytes", "total_inactive_file"
	if g.layout == layoutV2 {
		used, peak, cache = "memory.current", "memory.peak", "inactive_file"
	}
	now, err := readNumber(filepath.Join(dir, used))
	if err != nil {
		return runtime.Usage{}, err
	}
	most, err := readNumber(filepath.Join(dir, peak))
	if gone(err) != nil { // memory.peak is newer than version 2
		return runtime.Usage{}, err
	}
	stat, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return runtime.Usage{}, err
	}
	return runtime.Usage{Memory: functions.Bytes(now - min(field(string(stat), cache), now)), PeakMemory: functions.Bytes(most)}, nil
}

// MemoryLimit reads a group's limit.
func (g Groups) MemoryLimit(group string) (int64, error) {
	name := "memory.limit_in_bytes"
	if g.layout == layoutV2 {
		name = "memory.max"
	}
	return readNumber(filepath.Join(g.Memory(group), name))
}

// OOMKilled reports whether the kernel killed a process of the group for its
// memory limit.
func (g Groups) OOMKilled(group string) bool {
	name := "memory.oom_control"
	if g.layout == layoutV2 {
		name = "memory.events"
	}
	text, err := os.ReadFile(filepath.Join(g.Memory(group), name))
	return err == nil && field(string(text), "oom_kill") > 0
}

func readNumber(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// field finds "name number" among the lines of text; 0 when it is not there.
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) == 2 && words[0] == name {
			n, _ := strconv.ParseInt(words[1], 10, 64) // the kernel writes numbers
			return n
		}
	}
	return 0
}
