package oci

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestOwnCgroup(t *testing.T) {
	const (
		memory  = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:4 - cgroup cgroup rw,memory\n"
		cpu     = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
		unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	)
	for _, c := range []struct{ name, mounts, text, want string }{
		{"v1", cpu + memory, "9:memory:/a\n2:cpu,cpuacct:/system.slice/b:c\n", "/sys/fs/cgroup/cpu,cpuacct/system.slice/b:c"},
		{"v2", unified, "0::/system.slice/x\n", "/sys/fs/cgroup/unified/system.slice/x"},
		{"hybrid", memory + unified, "0::/x\n9:memory:/y\n", "/sys/fs/cgroup/memory/y"},
		{"another controller", memory, "2:cpu,cpuacct:/b\n", ""},
		{"not a line", memory, "memory\n", ""},
	} {
		if got := readCgroups(strings.NewReader(c.mounts)).own(c.text); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestReadinessMovesNothing also holds that there is something to get ready with.
func TestReadinessMovesNothing(t *testing.T) {
	require(t, "crun")
	before, err := os.ReadFile(ownCgroups)
	if err != nil {
		t.Fatal(err)
	}
	r := newReadiness(machine(t))
	defer r.close()
	if r.procs == nil {
		t.Fatalf("this process is not found in its own cgroup:\n%s", before)
	}
	if _, err := r.procs.WriteString("0"); err != nil {
		t.Errorf("move to where it is: %v", err)
	}
	r.get()
	after, err := os.ReadFile(ownCgroups)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Errorf("moved from\n%sto\n%s", before, after)
	}
}

func TestReadinessStaysAway(t *testing.T) {
	elsewhere := cgroups{layout: layoutV2, unified: t.TempDir()}
	if r := newReadiness(elsewhere); r.procs != nil {
		t.Error("it would move this process to a cgroup that it is not in")
	}
	empty, err := os.Create(t.TempDir() + "/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	(&readiness{where: []byte("0::/moved\n"), procs: empty}).get()
	if info, err := empty.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("it moves a process back that somebody has moved: %v, %v", info.Size(), err)
	}
}
