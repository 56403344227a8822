package oci

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// What a container gets when its spec says nothing.
const (
	defaultUser     = 65534 // nobody
	defaultMilliCPU = 1000
	defaultMemory   = 512 * functions.MiB
	defaultPids     = 256
	defaultLogSize  = 8 * functions.MiB
	defaultTmpfs    = 64 * functions.MiB
	defaultPath     = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	cpuPeriod       = 100_000 // microseconds
)

// place is what a container gets from the node it is on.
type place struct {
	id      string
	root    string // where its root file system is mounted
	program string // the entry program, on the host
	hosts   string // its /etc/hosts; empty = the image's
	resolv  string // its /etc/resolv.conf; empty = the image's
	cgroup  string // below the root of every hierarchy
	seccomp *specs.LinuxSeccomp

	hostNetwork bool // containers with egress share the host's network
	swapLimit   bool // the kernel can limit swap
}

// ociSpec turns a spec into what an OCI runtime takes. It does no I/O.
func ociSpec(s runtime.Spec, img runtime.Image, p place) (*specs.Spec, error) {
	argv, err := command(s, img)
	if err != nil {
		return nil, err
	}
	user, err := parseUser(s.User)
	if err != nil {
		return nil, err
	}
	spaces, err := namespaces(s.Network, p.hostNetwork)
	if err != nil {
		return nil, err
	}
	adjust := 0
	return &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{
			User:            user,
			Args:            append([]string{wire.Program, wire.RoleInit, "--"}, argv...),
			Env:             runtime.MergeEnv([]string{defaultPath, "HOSTNAME=" + p.id}, runtime.MergeEnv(img.Env, runtime.Environment(s))),
			Cwd:             cmp.Or(img.WorkDir, "/"),
			Capabilities:    &specs.LinuxCapabilities{},
			Rlimits:         rlimits(s.FileSize),
			NoNewPrivileges: true,
			OOMScoreAdj:     &adjust,
		},
		Root:     &specs.Root{Path: p.root, Readonly: true},
		Hostname: p.id,
		Mounts:   mounts(s, p),
		Linux: &specs.Linux{
			CgroupsPath:   p.cgroup,
			Namespaces:    spaces,
			Resources:     resources(s, p.swapLimit),
			Seccomp:       p.seccomp,
			MaskedPaths:   maskedPaths(),
			ReadonlyPaths: readonlyPaths(),
		},
	}, nil
}

// command is what the container runs, by Docker's rule: an entrypoint of the
// spec's own takes nothing from the image.
func command(s runtime.Spec, img runtime.Image) ([]string, error) {
	entrypoint, args := s.Entrypoint, s.Command
	if entrypoint == nil {
		entrypoint = img.Entrypoint
		if args == nil {
			args = img.Command
		}
	}
	argv := slices.Concat(entrypoint, args)
	if len(argv) == 0 {
		return nil, functions.Invalid("no_command", "no command specified: neither the function nor image %s names one", s.Image).
			WithHint("set entrypoint or command")
	}
	return argv, nil
}

// parseUser reads uid:gid. Names would mean what the image says they mean.
func parseUser(text string) (specs.User, error) {
	if text == "" {
		return specs.User{UID: defaultUser, GID: defaultUser}, nil
	}
	left, right, both := strings.Cut(text, ":")
	uid, err := strconv.ParseUint(left, 10, 32)
	gid, err2 := strconv.ParseUint(right, 10, 32)
	if !both || err != nil || err2 != nil {
		return specs.User{}, functions.Invalid("bad_user", "the user %q is not two numbers, uid:gid", text).WithHint("write 1000:1000")
	}
	return specs.User{UID: uint32(uid), GID: uint32(gid)}, nil
}

func namespaces(network functions.Network, hostNetwork bool) ([]specs.LinuxNamespace, error) {
	kinds := []specs.LinuxNamespaceType{specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace, specs.CgroupNamespace}
	switch {
	case network != functions.NetworkEgress:
		kinds = append(kinds, specs.NetworkNamespace)
	case !hostNetwork:
		return nil, functions.Invalid("no_egress", "this node's containers have no network: the oci runtime makes none").
			WithHint("run functions with network egress on a node with the docker or containerd runtime, or allow the host's network in this node's oci settings")
	}
	spaces := make([]specs.LinuxNamespace, len(kinds))
	for i, k := range kinds {
		spaces[i].Type = k
	}
	return spaces, nil
}

func rlimits(fileSize functions.Bytes) []specs.POSIXRlimit {
	limits := []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}}
	if fileSize > 0 {
		limits = append(limits, specs.POSIXRlimit{Type: "RLIMIT_FSIZE", Soft: uint64(fileSize), Hard: uint64(fileSize)})
	}
	return limits
}

func resources(s runtime.Spec, swapLimit bool) *specs.LinuxResources {
	memory := int64(cmp.Or(s.Memory, defaultMemory))
	quota := max(cmp.Or(s.MilliCPU, defaultMilliCPU)*cpuPeriod/1000, 1000) // the kernel takes no less
	period := uint64(cpuPeriod)
	pids := cmp.Or(s.Pids, defaultPids)
	r := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}, // none but the runtime's default ones
		Memory:  &specs.LinuxMemory{Limit: &memory},
		CPU:     &specs.LinuxCPU{Quota: &quota, Period: &period},
		Pids:    &specs.LinuxPids{Limit: &pids},
	}
	if swapLimit {
		r.Memory.Swap = &memory // of memory and swap together
	}
	return r
}

// mounts are those that every container has, then the spec's, outer ones first.
func mounts(s runtime.Spec, p place) []specs.Mount {
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	}
	own := []runtime.Mount{}
	if p.hosts != "" {
		own = append(own, runtime.Mount{Source: p.hosts, Target: "/etc/hosts", ReadOnly: true})
	}
	if p.resolv != "" && s.Network == functions.NetworkEgress {
		own = append(own, runtime.Mount{Source: p.resolv, Target: "/etc/resolv.conf", ReadOnly: true})
	}
	own = append(own, runtime.Mount{Source: p.program, Target: wire.Program, ReadOnly: true})
	var asked []specs.Mount
	for _, t := range s.Tmpfs {
		asked = append(asked, specs.Mount{
			Destination: t.Target, Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "nodev", "mode=1777", "size=" + strconv.FormatInt(int64(cmp.Or(t.Size, defaultTmpfs)), 10)},
		})
	}
	for _, m := range s.Mounts {
		own = slices.DeleteFunc(own, func(o runtime.Mount) bool { return o.Target == path.Clean(m.Target) }) // the spec's wins
		asked = append(asked, bind(m))
	}
	for _, m := range own {
		asked = append(asked, bind(m))
	}
	slices.SortStableFunc(asked, func(a, b specs.Mount) int {
		return strings.Count(path.Clean(a.Destination), "/") - strings.Count(path.Clean(b.Destination), "/")
	})
	return append(all, asked...)
}

func bind(m runtime.Mount) specs.Mount {
	access := "rw"
	if m.ReadOnly {
		access = "ro"
	}
	return specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: []string{"bind", "rprivate", "nosuid", "nodev", access}}
}

// maskedPaths and readonlyPaths are Docker's.
func maskedPaths() []string {
	return []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
