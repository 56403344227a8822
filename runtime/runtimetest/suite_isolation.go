package runtimetest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// isolation is what Docker's default gives, and every driver must: a sentence,
// and the probe of the box (see testdata/box/probe.go) that looks for the
// contrary from inside.
var isolation = []struct{ sentence, probe string }{
	{"a filter stands before every system call, and no program gains rights", "filter"},
	{"all five sets of capabilities are empty", "capabilities"},
	{"the system calls that Docker refuses are refused", "calls"},
	{"no namespace can be made", "namespaces"},
	{"what the kernel tells of the host is masked", "masked"},
	{"what sets the kernel is read-only", "read-only"},
	{"control groups cannot be changed", "cgroups"},
	{"there are no processes but its own", "processes"},
	{"there are no groups but its own", "groups"},
	{"the root cannot be written", "root"},
	{"there is no device but the harmless ones, and none can be made", "devices"},
	{"nothing is mounted but what was asked for", "mounts"},
	{"no core is written", "core"},
	{"no descriptor is left open", "descriptors"},
	{"the only network is a loopback that works", "loopback"},
}

// testIsolation holds for the user that a container has by default, and for one
// that asks to be root.
func testIsolation(t *testing.T, b *bench) {
	for _, user := range []string{"", "0:0"} {
		spec := b.spec("probe")
		spec.User = user
		exit, stdout, stderr := b.run(t, spec)
		if exit.Code != 0 {
			t.Fatalf("user %q: %+v %q after %q", user, exit, stderr, stdout)
		}
		for _, i := range isolation {
			t.Run(i.sentence+", as "+whose(user), func(t *testing.T) {
				if !strings.Contains(stdout, "probed "+i.probe+"\n") {
					t.Fatalf("the probe did not end:\n%s", stdout)
				}
				for line := range strings.Lines(stdout) {
					if found, ok := strings.CutPrefix(line, i.probe+": "); ok && !(i.probe == "mounts" && b.owns(found)) {
						t.Error(strings.TrimSpace(found))
					}
				}
			})
		}
	}
}

// owns says whether a mount that was found is the driver's own.
func (b *bench) owns(found string) bool {
	target, _, _ := strings.Cut(found, " ")
	return slices.Contains(b.Own, target)
}

func whose(user string) string {
	if user == "" {
		return "the default user"
	}
	return "user " + user
}

// testApart compares what a container sees of itself with what this process does.
func testApart(t *testing.T, b *bench) {
	const secret = "SPILLWAY_TEST_OF_THE_AGENTS_ENVIRONMENT"
	t.Setenv(secret, "leaked")
	exit, stdout, stderr := b.run(t, b.spec("where"))
	if exit.Code != 0 {
		t.Fatalf("%+v %q", exit, stderr)
	}
	seen := map[string]string{}
	for line := range strings.Lines(stdout) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		seen[name] = value
	}
	for _, kind := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		if theirs := seen[kind]; theirs == ours || !strings.HasPrefix(theirs, kind+":[") {
			t.Errorf("the %s namespace is %q, and the host's %q", kind, theirs, ours)
		}
	}
	if host, err := os.Hostname(); err != nil || seen["hostname"] == host || seen["hostname"] == "" {
		t.Errorf("the host's name is %q, the container's %q (%v)", host, seen["hostname"], err)
	}
	if strings.Contains(stdout, secret) {
		t.Errorf("the environment of the agent is seen:\n%s", stdout)
	}
}

// testRaise gives the container a program that belongs to root and makes whoever
// runs it root.
func testRaise(t *testing.T, b *bench) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can make such a program")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "box")
	build(t, program, boxPackage)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(program, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	spec := b.spec("raise", "/raised/box")
	spec.Mounts = []runtime.Mount{{Source: dir, Target: "/raised", ReadOnly: true}}
	exit, stdout, stderr := b.run(t, spec)
	if exit.Code != 0 || !strings.HasPrefix(stdout, "effective user ") {
		t.Fatalf("%+v %q %q", exit, stdout, stderr)
	}
	if stdout == "effective user 0\n" {
		t.Error("a program made its caller root")
	}
}

// testAsked holds that mounts and room in memory that a spec asks for are all
// that is there besides.
func testAsked(t *testing.T, b *bench) {
	in := t.TempDir()
	spec := b.spec("probe")
	spec.Mounts = []runtime.Mount{{Source: in, Target: "/task/in", ReadOnly: true}}
	spec.Tmpfs = []runtime.Tmpfs{{Target: "/tmp", Size: functions.MiB}}
	_, stdout, _ := b.run(t, spec)
	var found []string
	for line := range strings.Lines(stdout) {
		if rest, ok := strings.CutPrefix(line, "mounts: "); ok && !b.owns(rest) {
			target, _, _ := strings.Cut(rest, " ")
			found = append(found, target)
		}
	}
	slices.Sort(found)
	if want := []string{"/task/in", "/tmp"}; !slices.Equal(found, want) {
		t.Errorf("mounted: %v, want %v", found, want)
	}
	if strings.Contains(stdout, "devices: a node") {
		t.Errorf("with room in memory, a device can be made:\n%s", stdout)
	}
}
