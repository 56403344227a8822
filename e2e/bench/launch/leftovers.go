package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// unmountBelow detaches every mount whose place begins with prefix, the deepest
// first.
func unmountBelow(prefix string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	places := mountsBelow(string(text), prefix)
	var failed []error
	for _, place := range slices.Backward(places) {
		if err := syscall.Unmount(place, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			failed = append(failed, fmt.Errorf("unmount %s: %w", place, err))
		}
	}
	return errors.Join(failed...)
}

// mountsBelow are the mounts that begin with prefix, in the order of mounting.
func mountsBelow(mountinfo, prefix string) []string {
	var places []string
	for line := range strings.Lines(mountinfo) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], prefix) {
			places = append(places, f[4])
		}
	}
	return places
}

// removeCgroups removes the group of this name, which must be empty, from every
// hierarchy.
func removeCgroups(name string) error {
	found, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	if err != nil {
		return err
	}
	found = append(found, "/sys/fs/cgroup/"+name)
	var failed []error
	for _, dir := range found {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
