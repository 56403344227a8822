// Package ocispec turns a container's spec into the configuration that an OCI
// runtime takes. It decides what a container may do, for every driver that has no
// engine to decide it; where things are on the machine is the driver's.
package ocispec

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// Place is what a container gets from the driver that runs it.
type Place struct {
	Hostname string              // what is over 63 bytes of it is cut off
	Root     string              // where its root file system is, as the OCI runtime sees it
	Cgroup   string              // below the root of every hierarchy, beginning with a slash
	Init     []string            // the program that goes first; the container's command follows
	Mounts   []runtime.Mount     // beside the spec's, which win where both have a target
	Seccomp  *specs.LinuxSeccomp // see Seccomp

	HostNetwork bool // containers with egress share the host's network
	SwapLimit   bool // the kernel can limit swap
}

const (
	version         = "1.0.2" // known to every runtime that is still in use
	defaultPath     = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	longestHostname = 63
	cpuPeriod       = 100_000 // microseconds
	leastQuota      = 1000    // microseconds; the kernel takes no less
)

// New returns the configuration of a container, GPUs apart. It does no I/O. What
// the spec does not say opens nothing.
func New(s runtime.Spec, img runtime.Image, p Place) (*specs.Spec, error) {
	s = s.WithDefaults()
	argv := img.Argv(s.Entrypoint, s.Command)
	if len(argv) == 0 {
		return nil, functions.Invalid("no_command", "no command specified: neither the function nor image %s names one", s.Image).
			WithHint("set entrypoint or command")
	}
	user, err := parseUser(s.User)
	if err != nil {
		return nil, err
	}
	spaces, err := namespaces(s.Network, p.HostNetwork)
	if err != nil {
		return nil, err
	}
	hostname := p.Hostname[:min(len(p.Hostname), longestHostname)]
	neutral := 0 // or it would have the driver's, which the kernel may spare
	return &specs.Spec{
		Version:  version,
		Hostname: hostname,
		Root:     &specs.Root{Path: p.Root, Readonly: true},
		Process: &specs.Process{
			User:            user,
			Args:            slices.Concat(p.Init, argv),
			Env:             wire.MergeEnv([]string{defaultPath, "HOSTNAME=" + hostname}, wire.MergeEnv(img.Env, runtime.Environment(s))),
			Cwd:             cmp.Or(img.WorkDir, "/"),
			Capabilities:    &specs.LinuxCapabilities{}, // none
			Rlimits:         rlimits(s.FileSize),
			NoNewPrivileges: true,
			OOMScoreAdj:     &neutral,
		},
		Mounts: mounts(s, p.Mounts),
		Linux: &specs.Linux{
			CgroupsPath:   p.Cgroup,
			Namespaces:    spaces,
			Resources:     resources(s, p.SwapLimit),
			Seccomp:       p.Seccomp,
			MaskedPaths:   maskedPaths(),
			ReadonlyPaths: readonlyPaths(),
		},
	}, nil
}

// Seccomp is Docker's filter of system calls for a process without any
// capability, for this machine's kernel. It serves every container.
func Seccomp() (*specs.LinuxSeccomp, error) {
	return seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
}

// parseUser reads uid:gid. Names would mean what the image says they mean, and a
// user without a group could be in root's.
func parseUser(text string) (specs.User, error) {
	u, g, _ := strings.Cut(text, ":")
	uid, errU := strconv.ParseUint(u, 10, 31)
	gid, errG := strconv.ParseUint(g, 10, 31)
	if errU != nil || errG != nil {
		return specs.User{}, functions.Invalid("bad_user", "the user %q is not two numbers, uid:gid", text).
			WithHint("write two numbers, such as %s", runtime.DefaultUser)
	}
	return specs.User{UID: uint32(uid), GID: uint32(gid)}, nil
}

func namespaces(network functions.Network, hostNetwork bool) ([]specs.LinuxNamespace, error) {
	spaces := []specs.LinuxNamespace{
		{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
		{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace},
	}
	switch {
	case network != functions.NetworkEgress:
		spaces = append(spaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	case !hostNetwork:
		return nil, functions.Invalid("no_egress", "network egress not found: this node has only the host's network to give, and may not").
			WithHint("run the function on a node with the docker runtime, or allow the host's network on this one (--host-network)")
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
	memory, pids := int64(s.Memory), s.Pids
	quota, period := max(s.MilliCPU*cpuPeriod/1000, leastQuota), uint64(cpuPeriod)
	r := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}, // denied; OCI runtimes allow null and the like
		Memory:  &specs.LinuxMemory{Limit: &memory},
		CPU:     &specs.LinuxCPU{Quota: &quota, Period: &period},
		Pids:    &specs.LinuxPids{Limit: &pids},
	}
	if swapLimit {
		r.Memory.Swap = &memory // of memory and swap together: none is added
	}
	return r
}

// mounts are those that every container has, then the spec's and the driver's,
// an outer one before those inside of it.
func mounts(s runtime.Spec, own []runtime.Mount) []specs.Mount {
	var asked []specs.Mount
	for _, t := range s.Tmpfs {
		asked = append(asked, specs.Mount{
			Destination: t.Target, Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "nodev", "mode=1777", "size=" + strconv.FormatInt(int64(t.Size), 10)},
		})
	}
	for _, m := range s.Mounts {
		asked = append(asked, bind(m))
	}
	taken := len(asked)
	for _, m := range own {
		if !slices.ContainsFunc(asked[:taken], func(a specs.Mount) bool { return path.Clean(a.Destination) == m.Target }) {
			asked = append(asked, bind(m))
		}
	}
	depth := func(m specs.Mount) int { return strings.Count(path.Clean(m.Destination), "/") }
	slices.SortStableFunc(asked, func(a, b specs.Mount) int { return depth(a) - depth(b) })
	return append(systemMounts(), asked...)
}

func bind(m runtime.Mount) specs.Mount {
	access := "rw"
	if m.ReadOnly {
		access = "ro"
	}
	return specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: []string{"rbind", "rprivate", "nosuid", "nodev", access}}
}
