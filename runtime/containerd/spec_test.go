package containerd

import (
	"maps"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// What is the driver's own of a container: where it stands, and the files that it is given.
func TestTranslate(t *testing.T) {
	d, err := New(Config{StateDir: t.TempDir(), Program: "/opt/entry", Namespace: "n", HostNetwork: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	image := runtime.Image{Command: []string{"/box"}}
	for network, want := range map[functions.Network]map[string]string{
		functions.NetworkNone:   {wire.Program: "/opt/entry", inputTarget: d.folder("a").stdin(), "/etc/hosts": d.folder("a").hosts()},
		functions.NetworkEgress: {wire.Program: "/opt/entry", inputTarget: d.folder("a").stdin(), "/etc/hosts": "/etc/hosts", "/etc/resolv.conf": "/etc/resolv.conf"},
	} {
		s, err := d.translate("a", runtime.Spec{Network: network}, image)
		if err != nil {
			t.Fatal(err)
		}
		if args := []string{wire.Program, wire.RoleInit, wire.FlagStdin, inputTarget, "--", "/box"}; !slices.Equal(s.Process.Args, args) {
			t.Errorf("process 1 is %q, want %q", s.Process.Args, args)
		}
		if s.Root.Path != "rootfs" || s.Linux.CgroupsPath != "/spillway/n/a" || s.Hostname != "a" || s.Linux.Seccomp == nil {
			t.Errorf("root %+v, cgroup %s, host %s, system calls %v", s.Root, s.Linux.CgroupsPath, s.Hostname, s.Linux.Seccomp)
		}
		bound := map[string]string{}
		for _, m := range s.Mounts {
			if m.Type == "bind" {
				bound[m.Destination] = m.Source
				if !slices.Contains(m.Options, "ro") {
					t.Errorf("a writable %s", m.Destination)
				}
			}
		}
		if !maps.Equal(bound, want) {
			t.Errorf("network %s: files %v, want %v", network, bound, want)
		}
		alone := slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
		if alone == (network == functions.NetworkEgress) {
			t.Errorf("network %s: a network of its own: %v", network, alone)
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
