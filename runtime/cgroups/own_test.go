package cgroups

import (
	"strings"
	"testing"
)

func TestOwn(t *testing.T) {
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
		if got := Read(strings.NewReader(c.mounts)).Own(c.text); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
