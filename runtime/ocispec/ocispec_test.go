package ocispec

import (
	"errors"
	"flag"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	testPlace = Place{
		Hostname: "c1", Root: "/d/rootfs", Cgroup: "/spillway/x/c1", Init: []string{"/run/entry", "init", "--"}, SwapLimit: true,
		Mounts: []runtime.Mount{{Source: "/d/hosts", Target: "/etc/hosts", ReadOnly: true}, {Source: "/d/entry", Target: "/run/entry", ReadOnly: true}},
	}
	testImage = runtime.Image{Entrypoint: []string{"/box"}, Command: []string{"echo"}, Env: []string{"PATH=/", "BOX=image", "NVIDIA_VISIBLE_DEVICES=all"}, WorkDir: "/srv"}
)

func TestNew(t *testing.T) {
	full := runtime.Spec{
		Name: "spw-1", Image: "ffmpeg:1", Entrypoint: []string{"/bin/run"}, Command: []string{"-i", "a b"},
		Env: []string{"TASK_ID=1", "BOX=spec", "CUDA_VISIBLE_DEVICES=0"}, User: "1000:1001",
		Mounts:   []runtime.Mount{{Source: "/srv/in", Target: "/task/in", ReadOnly: true}, {Source: "/srv/out", Target: "/task/out"}, {Source: "/srv/entry", Target: "/run/entry/"}},
		Tmpfs:    []runtime.Tmpfs{{Target: "/task", Size: 100 * functions.MiB}, {Target: "/tmp"}},
		MilliCPU: 1500, Memory: functions.GiB, Pids: 99, FileSize: 2 * functions.GiB,
		Network: functions.NetworkEgress, Labels: map[string]string{runtime.LabelTask: "1"},
	}
	host := testPlace
	host.HostNetwork, host.SwapLimit, host.Hostname = true, false, strings.Repeat("c", 70)
	for name, c := range map[string]struct {
		spec runtime.Spec
		at   Place
	}{"least": {runtime.Spec{Image: "a"}, testPlace}, "full": {full, host}} {
		spec, err := New(c.spec, testImage, c.at)
		if err != nil {
			t.Fatal(err)
		}
		runtimetest.Golden(t, filepath.Join("testdata", name+".json"), spec, *update)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		spec runtime.Spec
		img  runtime.Image
		say  string
	}{
		"no command":                {runtime.Spec{Image: "a"}, runtime.Image{}, "no command specified"},
		"a user by name":            {runtime.Spec{User: "root"}, testImage, "root"},
		"a user without gid":        {runtime.Spec{User: "1000"}, testImage, "1000"},
		"a user with an empty gid":  {runtime.Spec{User: "1000:"}, testImage, "1000:"},
		"a group alone":             {runtime.Spec{User: ":1000"}, testImage, ":1000"},
		"a group by name":           {runtime.Spec{User: "1:users"}, testImage, "users"},
		"a number below zero":       {runtime.Spec{User: "-1:1"}, testImage, "-1:1"},
		"a number that is too high": {runtime.Spec{User: "99999999999:1"}, testImage, "99999999999"},
		"a network there is not":    {runtime.Spec{Network: functions.NetworkEgress}, testImage, "--host-network"},
	} {
		_, err := New(c.spec, c.img, testPlace)
		var e *functions.Error
		if !errors.Is(err, functions.ErrInvalid) || !errors.As(err, &e) || !strings.Contains(e.Message+e.Hint, c.say) {
			t.Errorf("%s: %v, want invalid that says %q", name, err, c.say)
		}
	}
}

// What is the function's fault is not tried again elsewhere; what is the node's is.
func TestRefusalsAreClassified(t *testing.T) {
	_, noCommand := New(runtime.Spec{}, runtime.Image{}, testPlace)
	_, noEgress := New(runtime.Spec{Network: functions.NetworkEgress}, testImage, testPlace)
	for _, gpu := range []bool{false, true} {
		for err, want := range map[error]functions.Class{noCommand: functions.BadEntry, noEgress: functions.Infra} {
			if got := runtime.ClassifyLaunch(err.Error(), false, gpu); got != want {
				t.Errorf("%q with gpu=%v is %s, want %s", err, gpu, got, want)
			}
		}
	}
}

func TestMilliCPUHasAFloor(t *testing.T) {
	spec, err := New(runtime.Spec{MilliCPU: 1}, testImage, testPlace)
	if err != nil {
		t.Fatal(err)
	}
	if quota := *spec.Linux.Resources.CPU.Quota; quota != 1000 {
		t.Errorf("quota %d, want the kernel's least, 1000", quota)
	}
}

// No spec whatever lifts a wall of the sandbox.
func TestSpecIsAlwaysHardened(t *testing.T) {
	at := testPlace
	var err error
	if at.Seccomp, err = Seccomp(); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := runtime.Spec{
			Env:      rapid.SliceOf(rapid.StringMatching(`(NVIDIA_|CUDA_|A)[A-Z_]{0,16}=[a-z]{0,4}`)).Draw(t, "env"),
			User:     rapid.SampledFrom([]string{"", "1:1"}).Draw(t, "user"),
			Memory:   functions.Bytes(rapid.Int64Range(0, 1<<40).Draw(t, "memory")),
			MilliCPU: rapid.Int64Range(0, 64000).Draw(t, "cpu"),
			Pids:     rapid.Int64Range(0, 9999).Draw(t, "pids"),
			Mounts:   []runtime.Mount{{Source: "/a", Target: rapid.SampledFrom([]string{"/task/in", "/run/entry", "/etc/hosts"}).Draw(t, "target")}},
		}
		spec, err := New(s, testImage, at)
		if err != nil {
			t.Fatal(err)
		}
		p, l := spec.Process, spec.Linux
		has := func(k specs.LinuxNamespaceType) bool {
			return slices.ContainsFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == k && n.Path == "" })
		}
		switch {
		case !has(specs.PIDNamespace), !has(specs.NetworkNamespace), !has(specs.IPCNamespace), !has(specs.UTSNamespace), !has(specs.MountNamespace), !has(specs.CgroupNamespace):
			t.Fatalf("a namespace is missing: %+v", l.Namespaces)
		case !spec.Root.Readonly, !p.NoNewPrivileges, l.Seccomp == nil, len(l.MaskedPaths) == 0, len(l.ReadonlyPaths) == 0:
			t.Fatalf("a wall is missing: %+v", spec)
		case !cmp.Equal(*p.Capabilities, specs.LinuxCapabilities{}):
			t.Fatalf("capabilities: %+v", p.Capabilities)
		case p.User.UID == 0, p.User.GID == 0, len(p.User.AdditionalGids) > 0:
			t.Fatalf("user: %+v", p.User)
		case *l.Resources.Memory.Limit <= 0, *l.Resources.Memory.Swap != *l.Resources.Memory.Limit, *l.Resources.Pids.Limit <= 0, *l.Resources.CPU.Quota < 1000:
			t.Fatalf("a limit is missing: %+v", l.Resources)
		case len(l.Resources.Devices) != 1, l.Resources.Devices[0].Allow, l.Resources.Devices[0].Access != "rwm", len(l.Devices) > 0:
			t.Fatalf("devices: %+v", l.Resources.Devices)
		case *p.OOMScoreAdj != 0:
			t.Fatalf("the kernel would spare it: %d", *p.OOMScoreAdj)
		case !slices.Equal(p.Args[:len(at.Init)], at.Init):
			t.Fatalf("process 1 is %q", p.Args)
		}
		for _, kv := range p.Env {
			if strings.HasPrefix(kv, "NVIDIA_") && kv != "NVIDIA_VISIBLE_DEVICES=void" {
				t.Fatalf("a CPU container sees %q", p.Env)
			}
		}
		targets := map[string]bool{}
		for _, m := range spec.Mounts {
			if targets[m.Destination] {
				t.Fatalf("two mounts on %s", m.Destination)
			}
			targets[m.Destination] = true
		}
	})
}
