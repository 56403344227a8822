package oci

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

func TestReadCgroups(t *testing.T) {
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
		{tmpfs + memory + cpu + unified, answer{"v1 (hybrid)", "/sys/fs/cgroup/memory/g", []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"}, []string{"/sys/fs/cgroup/unified"}}},
		{"1 1 0:1 / / rw - ext4 /dev/vda rw\n" + pure, answer{"v2", "/sys/fs/cgroup/g", []string{"/sys/fs/cgroup"}, nil}},
	} {
		got := readCgroups(strings.NewReader(c.mountinfo))
		if diff := cmp.Diff(c.want, answer{got.layout, got.memory("g"), got.mounts, got.hide()}); diff != "" {
			t.Errorf("%s(-want +got):\n%s", c.mountinfo, diff)
		}
	}
}

func TestUsage(t *testing.T) {
	for name, c := range map[string]struct {
		layout string
		files  map[string]string
		want   runtime.Usage
	}{
		"v1": {layoutV1, map[string]string{"memory.usage_in_bytes": "100\n", "memory.max_usage_in_bytes": "150\n", "memory.stat": "inactive_file 1\ntotal_inactive_file 30\n"},
			runtime.Usage{Memory: 70, PeakMemory: 150}},
		"v2":                  {layoutV2, map[string]string{"memory.current": "100\n", "memory.peak": "150\n", "memory.stat": "anon 60\ninactive_file 40\n"}, runtime.Usage{Memory: 60, PeakMemory: 150}},
		"v2 without peak":     {layoutV2, map[string]string{"memory.current": "100\n", "memory.stat": "inactive_file 40\n"}, runtime.Usage{Memory: 60}},
		"more cache than use": {layoutV2, map[string]string{"memory.current": "10\n", "memory.stat": "inactive_file 40\n"}, runtime.Usage{}},
	} {
		root := t.TempDir()
		for file, text := range c.files {
			if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		groups := cgroups{layout: c.layout, unified: root, v1: map[string]string{"memory": root}}
		if got, err := groups.usage("."); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, c.want)
		}
	}
}

// What is not there is no leftover, and kills nothing.
func TestGroupThatIsNotThere(t *testing.T) {
	groups := cgroups{layout: layoutV1, mounts: []string{t.TempDir()}}
	if n, err := groups.signal("none"); n != 0 || err != nil {
		t.Errorf("signal: %d, %v", n, err)
	}
	if err := groups.remove("none"); err != nil {
		t.Errorf("remove: %v", err)
	}
	if names, err := groups.list("none"); len(names) > 0 || err != nil {
		t.Errorf("list: %v, %v", names, err)
	}
}

func TestMilliCPUHasAFloor(t *testing.T) {
	if quota := *resources(runtime.Spec{MilliCPU: 1, Memory: functions.MiB}, false).CPU.Quota; quota != 1000 {
		t.Errorf("quota %d, want the kernel's least, 1000", quota)
	}
}

// The kernel's own groups, of whichever versions are mounted here.
func TestKillGroup(t *testing.T) {
	require(t, "sh")
	here := machine(t)
	both := map[string]cgroups{here.layout: here}
	if here.layout == layoutHybrid {
		both[layoutV2] = cgroups{layout: layoutV2, mounts: []string{here.unified}, unified: here.unified}
	}
	for layout, groups := range both {
		t.Run(layout, func(t *testing.T) {
			group := groupOf("spillway-test-kill", t.TempDir())
			below := filepath.Join(group, "made by the container")
			if err := os.MkdirAll(filepath.Join(groups.mounts[0], below), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := groups.remove("spillway-test-kill"); err != nil {
					t.Error(err)
				}
			})
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
			if names, err := groups.list(group); err != nil || len(names) != 1 {
				t.Errorf("list: %q, %v", names, err)
			}
			if err := groups.remove(group); err == nil {
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
			if err := groups.kill(t.Context(), group); err != nil {
				t.Errorf("kill: %v", err)
			}
			if err := groups.remove(group); err != nil {
				t.Errorf("remove: %v", err)
			}
		})
	}
}
