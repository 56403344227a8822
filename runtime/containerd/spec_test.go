package containerd

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

func translated(t *testing.T, p plan) *specs.Spec {
	t.Helper()
	p.id, p.group, p.folder, p.program = "a", "/spillway/test/a", "/state/a", "/opt/entry"
	s, err := translate(p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var boxImage = runtime.Image{Entrypoint: []string{"/box"}, Command: []string{"echo"}, Env: []string{"A=image", "B=image"}, WorkDir: "/work"}

// What a spec does not say must not open anything.
func TestZeroSpecIsHardened(t *testing.T) {
	s := translated(t, plan{image: boxImage, swap: true})
	p, l := s.Process, s.Linux
	if p.User.UID != 65534 || p.User.GID != 65534 || len(p.User.AdditionalGids) != 0 {
		t.Errorf("user %+v", p.User)
	}
	c := p.Capabilities
	if n := len(c.Bounding) + len(c.Effective) + len(c.Inheritable) + len(c.Permitted) + len(c.Ambient); n != 0 {
		t.Errorf("%d capabilities", n)
	}
	if !p.NoNewPrivileges || !s.Root.Readonly || l.Seccomp == nil || len(l.MaskedPaths) == 0 || len(l.ReadonlyPaths) == 0 {
		t.Error("privileges, root, system calls or /proc are open")
	}
	var namespaces []specs.LinuxNamespaceType
	for _, n := range l.Namespaces {
		namespaces = append(namespaces, n.Type)
		if n.Path != "" {
			t.Errorf("joins %s", n.Path)
		}
	}
	for _, want := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace, specs.NetworkNamespace, specs.CgroupNamespace} {
		if !slices.Contains(namespaces, want) {
			t.Errorf("no %s namespace", want)
		}
	}
	r := l.Resources
	if *r.Memory.Limit != int64(defaultMemory) || *r.Memory.Swap != *r.Memory.Limit || *r.Pids.Limit != defaultPids || *r.CPU.Quota != 100_000 || *r.CPU.Period != 100_000 {
		t.Errorf("resources %+v %+v %+v", r.Memory, r.Pids, r.CPU)
	}
	if len(r.Devices) != 1 || r.Devices[0].Allow || r.Devices[0].Access != "rwm" {
		t.Errorf("devices %+v", r.Devices)
	}
	if !slices.Equal(p.Rlimits, []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}}) {
		t.Errorf("limits %+v", p.Rlimits)
	}
	for _, m := range s.Mounts {
		if m.Type == "bind" && !slices.Contains(m.Options, "ro") {
			t.Errorf("a writable %s", m.Destination)
		}
	}
	if *p.OOMScoreAdj != 0 {
		t.Errorf("the kernel would spare it: %d", *p.OOMScoreAdj)
	}
	if !slices.Contains(p.Env, "NVIDIA_VISIBLE_DEVICES=void") || !slices.Contains(p.Env, defaultPath) || p.Cwd != "/work" {
		t.Errorf("environment %q, in %s", p.Env, p.Cwd)
	}
}

func TestWhatASpecAsks(t *testing.T) {
	s := translated(t, plan{image: boxImage, hostNetwork: true, spec: runtime.Spec{
		User: "7:8", MilliCPU: 1, Memory: functions.GiB, Pids: 9, FileSize: functions.MiB, Network: functions.NetworkEgress,
		Env:    []string{"A=spec", "NVIDIA_VISIBLE_DEVICES=all"},
		Tmpfs:  []runtime.Tmpfs{{Target: "/task", Size: 5}},
		Mounts: []runtime.Mount{{Source: "/in", Target: "/task/in", ReadOnly: true}, {Source: "/own", Target: wire.Program}},
	}})
	if s.Process.User.UID != 7 || s.Process.User.GID != 8 {
		t.Errorf("user %+v", s.Process.User)
	}
	r := s.Linux.Resources
	if *r.Memory.Limit != 1<<30 || r.Memory.Swap != nil || *r.CPU.Quota != 1000 || *r.Pids.Limit != 9 {
		t.Errorf("resources %+v %+v %+v", r.Memory, r.Pids, r.CPU)
	}
	if want := (specs.POSIXRlimit{Type: "RLIMIT_FSIZE", Soft: 1 << 20, Hard: 1 << 20}); !slices.Contains(s.Process.Rlimits, want) {
		t.Errorf("limits %+v", s.Process.Rlimits)
	}
	if !slices.Contains(s.Process.Env, "A=spec") || !slices.Contains(s.Process.Env, "B=image") || slices.Contains(s.Process.Env, "A=image") || slices.Contains(s.Process.Env, "NVIDIA_VISIBLE_DEVICES=all") {
		t.Errorf("environment %q", s.Process.Env)
	}
	if slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace }) {
		t.Error("egress has a network of its own, which leads nowhere")
	}
	at := func(target string) (first int, found []specs.Mount) {
		for i, m := range s.Mounts {
			if m.Destination == target {
				if len(found) == 0 {
					first = i
				}
				found = append(found, m)
			}
		}
		return first, found
	}
	outer, _ := at("/task")
	inner, _ := at("/task/in")
	if outer == 0 || inner < outer {
		t.Errorf("/task is mount %d, /task/in %d: the outer one would hide the inner", outer, inner)
	}
	if _, found := at(wire.Program); len(found) != 1 || found[0].Source != "/own" {
		t.Errorf("the spec's own mount of the entry program: %+v", found)
	}
}

func TestCommand(t *testing.T) {
	for _, c := range []struct {
		entrypoint, command []string
		want                string
	}{
		{nil, nil, "/box echo"},
		{nil, []string{"exit", "3"}, "/box exit 3"},
		{[]string{"/other"}, nil, "/other"},
		{[]string{"/other"}, []string{"x"}, "/other x"},
		{[]string{}, []string{"/alone"}, "/alone"},
	} {
		argv, err := command(runtime.Spec{Entrypoint: c.entrypoint, Command: c.command}, boxImage)
		if got := strings.Join(argv, " "); err != nil || got != c.want {
			t.Errorf("%q %q: %q, %v, want %q", c.entrypoint, c.command, got, err, c.want)
		}
	}
	_, err := command(runtime.Spec{Image: "empty"}, runtime.Image{})
	if !errors.Is(err, functions.ErrInvalid) || runtime.ClassifyLaunch(err.Error(), false, true) != functions.BadEntry {
		t.Errorf("no command at all: %v, want one that is the user's fault", err)
	}
}

func TestParseUser(t *testing.T) {
	for _, bad := range []string{"root", "0", "1:", ":1", "-1:1", "1:users", "99999999999:1"} {
		if u, err := parseUser(bad); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("parseUser(%q) = %+v, %v, want invalid", bad, u, err)
		}
	}
}

func TestFilter(t *testing.T) {
	if got := filter(map[string]string{"spillway.task": `a"b`}); !slices.Equal(got, []string{`labels."spillway.task"=="a\"b"`}) {
		t.Errorf("filter: %q", got)
	}
	if got := filter(nil); got != nil {
		t.Errorf("filter of nothing: %q", got)
	}
}
