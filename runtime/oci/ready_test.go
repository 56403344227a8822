package oci

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/spillway/spillway/runtime/cgroups"
)

// TestReadinessMovesNothing also holds that there is something to get ready with.
func TestReadinessMovesNothing(t *testing.T) {
	require(t, "crun")
	before, err := os.ReadFile(ownCgroups)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := cgroups.Find()
	if err != nil {
		t.Fatal(err)
	}
	r := newReadiness(groups)
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
	elsewhere := cgroups.Read(strings.NewReader("30 23 0:26 / " + t.TempDir() + " rw - cgroup2 cgroup2 rw\n"))
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
