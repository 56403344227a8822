package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	const (
		tmpfs   = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
		memory  = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:4 - cgroup cgroup rw,memory\n"
		cpu     = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
		unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
		pure    = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
	)
	type answer struct {
		Layout, Memory string
		Mounts, Hide   []string
	}
	for _, c := range []struct {
		mountinfo string
		want      answer
	}{
		{tmpfs + memory + cpu, answer{"v1", "/sys/fs/cgroup/memory/g", []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"}, nil}},
		{tmpfs + memory + cpu + unified, answer{"v1 (hybrid)", "/sys/fs/cgroup/memory/g", []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified"}, []string{"/sys/fs/cgroup/unified"}}},
		{"1 1 0:1 / / rw - ext4 /dev/vda rw\n" + pure, answer{"v2", "/sys/fs/cgroup/g", []string{"/sys/fs/cgroup"}, nil}},
	} {
		got := Read(strings.NewReader(c.mountinfo))
		if diff := cmp.Diff(c.want, answer{got.layout, got.Memory("g"), got.mounts, got.Hide()}); diff != "" {
			t.Errorf("%s(-want +got):\n%s", c.mountinfo, diff)
		}
	}
}

// What is not there is no leftover, and kills nothing.
func TestGroupThatIsNotThere(t *testing.T) {
	groups := Groups{layout: layoutV1, mounts: []string{t.TempDir()}}
	if n, err := groups.signal("none"); n != 0 || err != nil {
		t.Errorf("signal: %d, %v", n, err)
	}
	if err := groups.Remove("none"); err != nil {
		t.Errorf("remove: %v", err)
	}
	if names, err := groups.List("none"); len(names) > 0 || err != nil {
		t.Errorf("list: %v, %v", names, err)
	}
}

// The kernel's own groups, of whichever versions are mounted here.
// inheritCPUs gives a group of the cpuset hierarchy of version 1 what is its
// parent's; without it no process may enter. Other groups need nothing.
func inheritCPUs(t *testing.T, group string) {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(filepath.Dir(group), file))
		if err != nil {
			return
		}
		if err := os.WriteFile(filepath.Join(group, file), have, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKillGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("SPILLWAY_REQUIRE_OCI") != "" {
			t.Fatal("SPILLWAY_REQUIRE_OCI is set, and this is not root")
		}
		t.Skip("SKIPPED: needs root")
	}
	here, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	parent := fmt.Sprintf("spillway-test-kill-%d", os.Getpid())
	both := map[string]Groups{here.layout: here}
	if here.layout == layoutHybrid {
		both[layoutV2] = Groups{layout: layoutV2, mounts: []string{here.unified}, unified: here.unified}
	}
	for layout, groups := range both {
		t.Run(layout, func(t *testing.T) {
			group := filepath.Join(parent, strings.ReplaceAll(layout, " ", ""))
			below := filepath.Join(group, "made by the container")
			if err := os.MkdirAll(filepath.Join(groups.mounts[0], below), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := groups.Remove(parent); err != nil {
					t.Error(err)
				}
			})
			for _, g := range []string{parent, group, below} {
				inheritCPUs(t, filepath.Join(groups.mounts[0], g))
			}
			var processes []*exec.Cmd
			for _, g := range []string{group, below} {
				cmd := exec.Command("sleep", "1000")
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				processes = append(processes, cmd)
				if err := os.WriteFile(filepath.Join(groups.mounts[0], g, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
					t.Error(err)
				}
			}
			if names, err := groups.List(group); err != nil || len(names) != 1 {
				t.Errorf("list: %q, %v", names, err)
			}
			if err := groups.Remove(group); err == nil {
				t.Error("a group with processes was removed")
			}
			if _, err := groups.signal(group); err != nil {
				t.Error(err)
			}
			for _, cmd := range processes {
				if err := cmd.Wait(); cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Errorf("ended with %v", err)
				}
			}
			if err := groups.Kill(t.Context(), group); err != nil {
				t.Errorf("kill: %v", err)
			}
			if err := groups.Erase(t.Context(), group); err != nil {
				t.Errorf("erase: %v", err)
			}
			if _, err := os.Stat(filepath.Join(groups.mounts[0], group)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the group is still there: %v", err)
			}
		})
	}
}
