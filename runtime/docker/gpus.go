package docker

import (
	"context"
	"maps"
	"slices"
)

// GPUSupport is what the engine says of how it gives GPUs to containers. Engines
// before 28 say nothing of CDI, and none says whether --gpus works.
type GPUSupport struct {
	Version      string   // of the engine
	Runtimes     []string // by name; nvidia is the toolkit's
	CDI          []string // devices that it has found in CDI specifications
	CgroupDriver string   // systemd or cgroupfs
}

// GPUSupport asks the engine.
func (d *Driver) GPUSupport(ctx context.Context) (GPUSupport, error) {
	info, err := d.engine.Info(ctx)
	if err != nil {
		return GPUSupport{}, translateError("ask the engine", err)
	}
	s := GPUSupport{Version: info.ServerVersion, CgroupDriver: info.CgroupDriver, Runtimes: slices.Sorted(maps.Keys(info.Runtimes))}
	for _, device := range info.DiscoveredDevices {
		if device.Source == "cdi" {
			s.CDI = append(s.CDI, device.ID)
		}
	}
	return s, nil
}
