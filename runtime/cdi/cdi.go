// Package cdi puts GPUs into an OCI specification, as the node's CDI
// specifications (nvidia-ctk cdi generate writes one) describe them: device
// nodes, the driver's libraries, hooks. It all happens here, on the client's
// side, so every engine that takes an OCI specification can have them.
package cdi

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// kind is what NVIDIA's specifications name their devices.
const kind = "nvidia.com/gpu"

// DefaultDirs are where CDI specifications lie, the one that wins last.
func DefaultDirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// Inject adds the GPUs named by ids to spec, after all that is in it already:
// what CDI adds wins. dirs hold the specifications and are read anew each time,
// so that a device that was added counts at once; a specification that cannot
// be read harms only the devices it describes. Without ids it changes nothing.
//
// The words of an error are those that runtime.ClassifyLaunch knows.
func Inject(spec *specs.Spec, dirs []string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return fmt.Errorf("CDI device injection failed: read %v: %w", dirs, err)
	}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = kind + "=" + id
	}
	if _, err := cache.InjectDevices(spec, names...); err != nil {
		return fmt.Errorf("CDI device injection failed: %w", err)
	}
	return nil
}
