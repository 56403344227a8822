package oci

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// The layouts of control groups.
const (
	layoutV1     = "v1"
	layoutV2     = "v2"
	layoutHybrid = "v1 (hybrid)" // version 2 is mounted beside it, without a controller of use
)

// cgroups is how the kernel's control groups are mounted.
type cgroups struct {
	layout  string
	mounts  []string          // of every hierarchy that containers are put in
	v1      map[string]string // mount by controller; empty under v2
	unified string            // the mount of version 2; empty under v1
}

// readCgroups reads the layout from a mountinfo file. In a hybrid one, where
// version 2 has no controllers of use, runtimes see version 1 alone.
func readCgroups(mountinfo io.Reader) cgroups {
	c := cgroups{v1: map[string]string{}}
	for lines := bufio.NewScanner(mountinfo); lines.Scan(); {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		where, what := strings.Fields(left), strings.Fields(right)
		if !ok || len(where) < 5 || len(what) < 3 {
			continue
		}
		switch what[0] {
		case "cgroup":
			c.mounts = append(c.mounts, where[4])
			for _, option := range strings.Split(what[2], ",") {
				c.v1[option] = where[4]
			}
		case "cgroup2":
			if c.unified == "" {
				c.unified = where[4]
			}
		}
	}
	switch {
	case len(c.mounts) == 0:
		c.layout = layoutV2
		c.mounts = []string{c.unified}
	case c.unified == "":
		c.layout = layoutV1
	default:
		c.layout = layoutHybrid
	}
	return c
}

// memory is the folder of a group's memory controller.
func (c cgroups) memory(group string) string {
	if c.layout == layoutV2 {
		return filepath.Join(c.unified, group)
	}
	return filepath.Join(c.v1["memory"], group)
}

// hide are the mounts that a runtime must not see: crun refuses a hybrid layout.
func (c cgroups) hide() []string {
	if c.layout == layoutHybrid {
		return []string{c.unified}
	}
	return nil
}

// swapLimit says whether the kernel can limit swap.
func (c cgroups) swapLimit() bool {
	if c.layout == layoutV2 {
		return true
	}
	_, err := os.Stat(filepath.Join(c.v1["memory"], "memory.memsw.limit_in_bytes"))
	return err == nil
}

// kill ends every process of a group and returns when none is left.
func (c cgroups) kill(ctx context.Context, group string) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		left, err := c.signal(group)
		if err != nil || left == 0 {
			return err
		}
		if !sleep(ctx, pause) {
			return functions.Unavailable("cannot_kill", "%d processes of a container do not end", left).WithCause(context.Cause(ctx))
		}
	}
}

// signal sends SIGKILL to every process of a group and says how many it found.
func (c cgroups) signal(group string) (int, error) {
	if c.layout == layoutV2 {
		if f, err := os.OpenFile(filepath.Join(c.unified, group, "cgroup.kill"), os.O_WRONLY, 0); err == nil { // since Linux 5.14
			_, err = f.WriteString("1")
			if err = errors.Join(err, f.Close()); gone(err) != nil {
				return 0, err
			}
		}
	}
	found := 0
	for _, mount := range c.mounts {
		err := filepath.WalkDir(filepath.Join(mount, group), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return gone(err)
			}
			pids, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			for _, word := range strings.Fields(string(pids)) {
				pid, err := strconv.Atoi(word)
				if err != nil || pid == 0 { // 0: of another pid namespace
					continue
				}
				found++
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
			}
			return gone(err)
		})
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// remove deletes a group without processes from every hierarchy.
func (c cgroups) remove(group string) error {
	var all error
	for _, mount := range c.mounts {
		if err := syscall.Rmdir(filepath.Join(mount, group)); gone(err) == nil {
			continue
		}
		var dirs []string // the container may have made some below it
		all = errors.Join(all, filepath.WalkDir(filepath.Join(mount, group), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return gone(err)
		}))
		for _, dir := range slices.Backward(dirs) {
			all = errors.Join(all, gone(syscall.Rmdir(dir)))
		}
	}
	return all
}

// list names the groups below parent in any hierarchy.
func (c cgroups) list(parent string) ([]string, error) {
	found := map[string]bool{}
	for _, mount := range c.mounts {
		entries, err := os.ReadDir(filepath.Join(mount, parent))
		if gone(err) != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() {
				found[e.Name()] = true
			}
		}
	}
	var names []string
	for name := range found {
		names = append(names, name)
	}
	return names, nil
}

// gone passes over what is not there any more.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return err
}

// usage reads what a group uses. It leaves out the page cache that the kernel
// can take back at any time.
func (c cgroups) usage(group string) (runtime.Usage, error) {
	dir := c.memory(group)
	used, peak, cache := "memory.usage_in_bytes", "memory.max_usage_in_bytes", "total_inactive_file"
	if c.layout == layoutV2 {
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

// memoryLimit reads a group's limit.
func (c cgroups) memoryLimit(group string) (int64, error) {
	name := "memory.limit_in_bytes"
	if c.layout == layoutV2 {
		name = "memory.max"
	}
	return readNumber(filepath.Join(c.memory(group), name))
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

// sleep waits, or reports false when ctx ends first.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
