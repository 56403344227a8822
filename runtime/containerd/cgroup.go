package containerd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// cgroups reads what the kernel counts of containers. The files are there until
// the container is removed, so that they tell of one that has exited too.
type cgroups struct {
	version int
	memory  string // folder of the hierarchy that counts memory
	swap    bool   // the kernel limits swap
}

const cgroupRoot = "/sys/fs/cgroup"

func findCgroups() cgroups {
	if exists(cgroupRoot + "/cgroup.controllers") {
		return cgroups{version: 2, memory: cgroupRoot, swap: exists("/proc/swaps")}
	}
	memory := cgroupRoot + "/memory" // also where both versions are mounted
	return cgroups{version: 1, memory: memory, swap: exists(memory + "/memory.memsw.limit_in_bytes")}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// usage returns what the group uses, without the page cache that the kernel can
// take back at any time. The peak is known to cgroup v1, and to v2 of Linux 5.19.
func (c cgroups) usage(group string) (runtime.Usage, error) {
	used, peak, cache := "memory.usage_in_bytes", "memory.max_usage_in_bytes", "total_inactive_file"
	if c.version == 2 {
		used, peak, cache = "memory.current", "memory.peak", "inactive_file"
	}
	now, err := c.number(group, used)
	if err != nil {
		return runtime.Usage{}, err
	}
	idle, err := c.field(group, "memory.stat", cache)
	if err != nil {
		return runtime.Usage{}, err
	}
	most, err := c.number(group, peak)
	if err != nil {
		most = 0 // an older kernel
	}
	return runtime.Usage{Memory: functions.Bytes(now - min(idle, now)), PeakMemory: functions.Bytes(most)}, nil
}

// oomKilled reports whether the kernel killed a process of the group for its
// memory limit.
func (c cgroups) oomKilled(group string) bool {
	file := "memory.oom_control"
	if c.version == 2 {
		file = "memory.events"
	}
	n, err := c.field(group, file, "oom_kill")
	return err == nil && n > 0
}

// The tries of one removal of a group, for about two seconds: processes that are
// killed take a while to leave it.
const (
	groupTries = 40
	groupPause = 50 * time.Millisecond
)

// remove deletes a group from every hierarchy, with what may still run in it. A
// launch that was called off leaves one.
func (c cgroups) remove(ctx context.Context, group string) error {
	dirs := []string{cgroupRoot + group}
	if c.version == 1 {
		var err error
		if dirs, err = filepath.Glob(cgroupRoot + "/*" + group); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		for try := 1; ; try++ {
			err := os.Remove(dir)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				break
			}
			if procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err == nil {
				for pid := range strings.FieldsSeq(string(procs)) {
					if n, err := strconv.Atoi(pid); err == nil && n > 0 {
						syscall.Kill(n, syscall.SIGKILL)
					}
				}
			}
			if try == groupTries || !sleep(ctx, groupPause) {
				return err
			}
		}
	}
	return nil
}

func (c cgroups) number(group, file string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(c.memory, group, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// field finds one line of "name number"; a name that is not there is 0.
func (c cgroups) field(group, file, name string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(c.memory, group, file))
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), " "); ok && key == name {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, nil
}
