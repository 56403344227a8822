package cgroups

import (
	"path/filepath"
	"strings"
)

// Own is the folder of the cgroup that a process with this /proc/PID/cgroup is in,
// in the first hierarchy; empty when it does not say.
func (g Groups) Own(text string) string {
	for line := range strings.Lines(text) { // hierarchy:controllers:path
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		if g.layout == layoutV2 {
			if fields[1] == "" {
				return filepath.Join(g.unified, fields[2])
			}
			continue
		}
		for _, controller := range strings.Split(fields[1], ",") {
			if mount := g.v1[controller]; mount != "" && mount == g.mounts[0] {
				return filepath.Join(mount, fields[2])
			}
		}
	}
	return ""
}
