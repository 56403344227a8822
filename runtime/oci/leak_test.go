package oci

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway/spillway/runtime/cgroups"
)

// traces are what containers of a configuration leave on the machine: mounts,
// cgroups, processes and folders.
func traces(t testing.TB, c Config) []string {
	t.Helper()
	var all []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, c.Dir) {
			all = append(all, "mount "+line)
		}
	}
	here, err := cgroups.Find()
	if err != nil {
		t.Fatal(err)
	}
	groups, err := here.List(groupOf(c.Cgroup, c.Dir))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(groups)
	for _, g := range groups {
		all = append(all, "cgroup "+g)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if text, err := os.ReadFile(p); err == nil && strings.Contains(string(text), c.Dir) {
			all = append(all, "process "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	for _, sub := range []string{dirContainers, dirDead, dirLogs} {
		folders, err := filepath.Glob(filepath.Join(c.Dir, sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, folders...)
	}
	return all
}

func compare(t testing.TB, before, after []string) {
	t.Helper()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}
