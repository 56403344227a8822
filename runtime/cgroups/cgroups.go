// Package cgroups reads and empties the control groups of containers, whichever
// versions of them the kernel has mounted.
package cgroups

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
)

// The layouts of control groups.
const (
	layoutV1     = "v1"
	layoutV2     = "v2"
	layoutHybrid = "v1 (hybrid)" // version 2 is mounted beside it, without a controller of use
)

// Groups is how the kernel's control groups are mounted. Names of groups are paths
// below the root of every hierarchy.
type Groups struct {
	layout  string
	mounts  []string          // of every hierarchy that containers are put in
	v1      map[string]string // mount by controller; empty under v2
	unified string            // the mount of version 2; empty under v1
}

// Read reads the layout from a mountinfo file. In a hybrid one, where
// version 2 has no controllers of use, runtimes see version 1 alone.
func Read(mountinfo io.Reader) Groups {
	g := Groups{v1: map[string]string{}}
	for lines := bufio.NewScanner(mountinfo); lines.Scan(); {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		where, what := strings.Fields(left), strings.Fields(right)
		if !ok || len(where) < 5 || len(what) < 3 {
			continue
		}
		switch what[0] {
		case "cgroup":
			g.mounts = append(g.mounts, where[4])
			for _, option := range strings.Split(what[2], ",") {
				g.v1[option] = where[4]
			}
		case "cgroup2":
			if g.unified == "" {
				g.unified = where[4]
			}
		}
	}
	switch {
	case len(g.mounts) == 0:
		g.layout = layoutV2
		g.mounts = []string{g.unified}
	case g.unified == "":
		g.layout = layoutV1
	default:
		g.layout = layoutHybrid
		g.mounts = append(g.mounts, g.unified) // runc makes groups there too
	}
	return g
}

// Find reads the layout of this machine.
func Find() (Groups, error) {
	info, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Groups{}, fmt.Errorf("read the mounts: %w", err)
	}
	defer info.Close()
	return Read(info), nil
}

// String names the layout: v1, v2 or v1 (hybrid).
func (g Groups) String() string { return g.layout }

// Memory is the folder of a group's memory controller.
func (g Groups) Memory(group string) string {
	if g.layout == layoutV2 {
		return filepath.Join(g.unified, group)
	}
	return filepath.Join(g.v1["memory"], group)
}

// Hide are the mounts that a runtime must not see: crun refuses a hybrid layout.
func (g Groups) Hide() []string {
	if g.layout == layoutHybrid {
		return []string{g.unified}
	}
	return nil
}

// SwapLimit says whether the kernel can limit swap.
func (g Groups) SwapLimit() bool {
	if g.layout == layoutV2 {
		return true
	}
	_, err := os.Stat(filepath.Join(g.v1["memory"], "memory.memsw.limit_in_bytes"))
	return err == nil
}

// longestPause is between two looks at a group whose processes are to end.
const longestPause = 50 * time.Millisecond

// Kill ends every process of a group and returns when none is left.
func (g Groups) Kill(ctx context.Context, group string) error {
	for pause := time.Millisecond; ; pause = min(2*pause, longestPause) {
		left, err := g.signal(group)
		if err != nil || left == 0 {
			return err
		}
		if !functions.Sleep(ctx, pause) {
			return functions.Unavailable("cannot_kill", "%d processes of a container do not end", left).WithCause(context.Cause(ctx))
		}
	}
}

// signal sends SIGKILL to every process of a group and says how many it found.
func (g Groups) signal(group string) (int, error) {
	if g.layout == layoutV2 {
		if f, err := os.OpenFile(filepath.Join(g.unified, group, "cgroup.kill"), os.O_WRONLY, 0); err == nil { // since Linux 5.14
			_, err = f.WriteString("1")
			if err = errors.Join(err, f.Close()); gone(err) != nil {
				return 0, err
			}
		}
	}
	found := 0
	for _, mount := range g.mounts {
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

// Remove deletes a group without processes from every hierarchy.
func (g Groups) Remove(group string) error {
	var all error
	for _, mount := range g.mounts {
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

// Erase kills what runs in a group and deletes it: one is busy for a moment after
// its last process.
func (g Groups) Erase(ctx context.Context, group string) error {
	for pause := time.Millisecond; ; pause = min(2*pause, longestPause) {
		err := g.Remove(group)
		if err == nil {
			return nil
		}
		if err := g.Kill(ctx, group); err != nil {
			return err
		}
		if !functions.Sleep(ctx, pause) {
			return err
		}
	}
}

// List names the groups below parent in any hierarchy.
func (g Groups) List(parent string) ([]string, error) {
	found := map[string]bool{}
	for _, mount := range g.mounts {
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
