package containerd

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// What a container gets when its spec says nothing.
const (
	defaultUser           = "65534:65534" // nobody
	defaultMilliCPU       = 1000
	defaultMemory         = 512 * functions.MiB
	defaultPids     int64 = 256
	defaultTmpfs          = 64 * functions.MiB
	defaultLogSize        = 8 * functions.MiB
	smallestLogSize       = 64 * functions.KiB
	cpuPeriod             = 100_000 // microseconds
	quotaPerMilli         = cpuPeriod / 1000
	leastQuota            = 1000 // microseconds; the kernel takes no less
	longestHostname       = 63
	defaultPath           = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// inputTarget is where a container finds its standard input.
const inputTarget = "/run/spillway-stdin"

// plan is all that a container's OCI specification is made from.
type plan struct {
	spec        runtime.Spec
	image       runtime.Image
	id          runtime.ID
	group       string // its cgroup
	folder      folder
	program     string
	swap        bool // the kernel limits swap
	hostNetwork bool // what network egress means
}

// translate turns a plan into what runc takes, GPUs apart. It does no I/O.
func translate(p plan) (*specs.Spec, error) {
	argv, err := command(p.spec, p.image)
	if err != nil {
		return nil, err
	}
	user, err := parseUser(or(p.spec.User, defaultUser))
	if err != nil {
		return nil, err
	}
	namespaces := []specs.LinuxNamespace{
		{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
		{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace},
	}
	switch {
	case p.spec.Network != functions.NetworkEgress:
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	case !p.hostNetwork:
		return nil, functions.Invalid("no_egress", "network egress not found: the containerd driver has only the host's to give, and may not").
			WithHint("allow the host's network for the node's containerd driver, or run the function on a node with the docker driver")
	}
	hostname := string(p.id)[:min(len(p.id), longestHostname)]
	neutral := 0 // or it would have the shim's, which the kernel spares
	s := &specs.Spec{
		Version:  "1.0.2", // what runc of containerd 1.6 knows
		Hostname: hostname,
		Root:     &specs.Root{Path: "rootfs", Readonly: true},
		Process: &specs.Process{
			Args:            append([]string{wire.Program, wire.RoleInit, wire.FlagStdin, inputTarget, "--"}, argv...),
			Env:             runtime.MergeEnv([]string{defaultPath, "HOSTNAME=" + hostname}, runtime.MergeEnv(p.image.Env, runtime.Environment(p.spec))),
			Cwd:             or(p.image.WorkDir, "/"),
			User:            user,
			Capabilities:    &specs.LinuxCapabilities{}, // none
			NoNewPrivileges: true,
			OOMScoreAdj:     &neutral,
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}},
		},
		Mounts: append(slices.Clone(systemMounts), ownMounts(p)...),
		Linux: &specs.Linux{
			Namespaces:    namespaces,
			CgroupsPath:   p.group,
			Resources:     resources(p.spec, p.swap),
			MaskedPaths:   maskedPaths,
			ReadonlyPaths: readonlyPaths,
		},
	}
	if size := uint64(max(p.spec.FileSize, 0)); size > 0 {
		s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_FSIZE", Soft: size, Hard: size})
	}
	s.Linux.Seccomp, err = seccomp.GetDefaultProfile(s)
	if err != nil {
		return nil, fmt.Errorf("make the filter of system calls: %w", err)
	}
	return s, nil
}

// command is what the container runs. An image's command belongs to its own
// entrypoint.
func command(s runtime.Spec, image runtime.Image) ([]string, error) {
	entrypoint, args := s.Entrypoint, s.Command
	if entrypoint == nil {
		entrypoint = image.Entrypoint
		if args == nil {
			args = image.Command
		}
	}
	argv := slices.Concat(entrypoint, args)
	if len(argv) == 0 {
		return nil, functions.Invalid("no_command", "no command specified").
			WithHint("set entrypoint or command: image %s has none", s.Image)
	}
	return argv, nil
}

// parseUser reads uid:gid. Names would need the image's files, and a user
// without a group could be in root's.
func parseUser(text string) (specs.User, error) {
	u, g, _ := strings.Cut(text, ":")
	uid, errU := strconv.ParseUint(u, 10, 31)
	gid, errG := strconv.ParseUint(g, 10, 31)
	if errU != nil || errG != nil {
		return specs.User{}, functions.Invalid("bad_user", "user %q is not uid:gid", text).
			WithHint("write two numbers, such as %s", defaultUser)
	}
	return specs.User{UID: uint32(uid), GID: uint32(gid)}, nil
}

func resources(s runtime.Spec, swap bool) *specs.LinuxResources {
	memory := int64(or(s.Memory, defaultMemory))
	quota := max(or(s.MilliCPU, defaultMilliCPU)*quotaPerMilli, leastQuota)
	period := uint64(cpuPeriod)
	pids := or(s.Pids, defaultPids)
	r := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}, // denied; runc allows null and the like
		Memory:  &specs.LinuxMemory{Limit: &memory},
		CPU:     &specs.LinuxCPU{Quota: &quota, Period: &period},
		Pids:    &specs.LinuxPids{Limit: &pids},
	}
	if swap {
		r.Memory.Swap = &memory // memory and swap together: none is added
	}
	return r
}

// ownMounts are the spec's, an outer one before those inside of it, and then
// what every container gets unless the spec mounts something there itself.
func ownMounts(p plan) []specs.Mount {
	var mounts []specs.Mount
	for _, t := range p.spec.Tmpfs {
		mounts = append(mounts, specs.Mount{Destination: t.Target, Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "nodev", "mode=1777", fmt.Sprintf("size=%d", or(t.Size, defaultTmpfs))}})
	}
	for _, m := range p.spec.Mounts {
		mounts = append(mounts, bind(m.Source, m.Target, m.ReadOnly))
	}
	slices.SortStableFunc(mounts, func(a, b specs.Mount) int { return cmp.Compare(a.Destination, b.Destination) })
	files := []specs.Mount{
		bind(p.program, wire.Program, true),
		bind(p.folder.stdin(), inputTarget, true),
		bind(p.folder.hosts(), "/etc/hosts", true),
	}
	if p.spec.Network == functions.NetworkEgress {
		files[len(files)-1] = bind("/etc/hosts", "/etc/hosts", true)
		files = append(files, bind("/etc/resolv.conf", "/etc/resolv.conf", true))
	}
	for _, f := range files {
		if !slices.ContainsFunc(mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == f.Destination }) {
			mounts = append(mounts, f)
		}
	}
	return mounts
}

func bind(source, target string, readOnly bool) specs.Mount {
	options := []string{"rbind", "rprivate", "nosuid", "nodev"}
	if readOnly {
		options = append(options, "ro")
	}
	return specs.Mount{Destination: target, Type: "bind", Source: source, Options: options}
}

// systemMounts are what a Linux program expects to find.
var systemMounts = []specs.Mount{
	{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
	{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
	{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
	{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
	{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
}

// What of the kernel a container must not read, and what not write.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)
