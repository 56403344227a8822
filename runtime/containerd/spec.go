package containerd

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
	"github.com/spillway/spillway/runtime/ocispec"
)

// inputTarget is where a container finds its standard input.
const inputTarget = "/run/spillway-stdin"

// translate turns a spec into what runc takes, GPUs apart. Egress brings the
// host's names with its network.
func (d *Driver) translate(id runtime.ID, s runtime.Spec, img runtime.Image) (*specs.Spec, error) {
	f := d.folder(id)
	own := []runtime.Mount{
		{Source: d.cfg.Program, Target: wire.Program, ReadOnly: true},
		{Source: f.stdin(), Target: inputTarget, ReadOnly: true},
	}
	const hosts, resolv = "/etc/hosts", "/etc/resolv.conf"
	if s.Network == functions.NetworkEgress {
		own = append(own, runtime.Mount{Source: hosts, Target: hosts, ReadOnly: true}, runtime.Mount{Source: resolv, Target: resolv, ReadOnly: true})
	} else {
		own = append(own, runtime.Mount{Source: f.hosts(), Target: hosts, ReadOnly: true})
	}
	return ocispec.New(s, img, ocispec.Place{
		Hostname: string(id), Root: "rootfs", Cgroup: d.group(id), Init: []string{wire.Program, wire.RoleInit, wire.FlagStdin, inputTarget, "--"},
		Mounts: own, Seccomp: d.seccomp, HostNetwork: d.cfg.HostNetwork, SwapLimit: d.cgroups.SwapLimit(),
	})
}
