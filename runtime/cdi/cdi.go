// Package cdi puts GPUs into an OCI specification, as the node's CDI
// specifications (nvidia-ctk cdi generate writes one) describe them: device
// nodes, the driver's libraries, hooks. It all happens here, on the client's
// side, so every engine that takes an OCI specification can have them.
package cdi

import (
	"fmt"
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"github.com/spillway/spillway/runtime"
)

// kind is what NVIDIA's specifications name their devices.
const kind = "nvidia.com/gpu"

// DefaultDirs are where CDI specifications lie, the one that wins last.
func DefaultDirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// Device is one GPU to add.
type Device struct {
	ID    string   // its UUID, or its index
	Names []string // by which a specification may name it instead; the first that is there is taken
	Node  string   // the device file that it has; empty = not known
}

// Devices are the GPUs of a container.
func Devices(s runtime.Spec) []Device {
	devices := make([]Device, len(s.GPUs))
	for i, id := range s.GPUs {
		known := s.KnownGPUs[id]
		devices[i] = Device{ID: id, Names: known.Names, Node: known.Node}
	}
	return devices
}

// Inject adds the GPUs to spec, after all that is in it already: what CDI adds
// wins. dirs hold the specifications and are read anew each time, so that a device
// that was added counts at once; a specification that cannot be read harms only the
// devices it describes. Without devices it changes nothing.
//
// A specification may be older than the machine's last start, after which devices
// can have changed places. So a device whose file is known must bring just that:
// a container that would see no GPU, or another one, is refused.
//
// The words of an error are those that runtime.ClassifyLaunch knows.
func Inject(spec *specs.Spec, dirs []string, devices []Device) error {
	if len(devices) == 0 {
		return nil
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return fmt.Errorf("CDI device injection failed: read %v: %w", dirs, err)
	}
	names := make([]string, len(devices))
	for i, d := range devices {
		names[i] = resolve(cache, d)
		if err := check(cache.GetDevice(names[i]), d); err != nil {
			return fmt.Errorf("CDI device injection failed: %w", err)
		}
	}
	if _, err := cache.InjectDevices(spec, names...); err != nil {
		return fmt.Errorf("CDI device injection failed: %w", err)
	}
	return nil
}

// resolve returns the name that the specifications have for a device: its ID when
// none of them has any.
func resolve(cache *cdi.Cache, d Device) string {
	for _, name := range append([]string{d.ID}, d.Names...) {
		if full := kind + "=" + name; cache.GetDevice(full) != nil {
			return full
		}
	}
	return kind + "=" + d.ID
}

// check holds what a specification says of a device against what is known of it.
// That there is none is found by the injection.
func check(found *cdi.Device, d Device) error {
	if found == nil || d.Node == "" {
		return nil
	}
	nodes := []string{}
	for _, n := range found.ContainerEdits.DeviceNodes {
		// With a driver in a container, the host's path is another.
		if n.Path == d.Node || n.HostPath != "" && path.Base(n.HostPath) == path.Base(d.Node) {
			return nil
		}
		nodes = append(nodes, n.Path)
	}
	return fmt.Errorf("stale CDI specification %s: it gives %s the device files %q, and the device is %s", found.GetSpec().GetPath(), found.GetQualifiedName(), nodes, d.Node)
}
