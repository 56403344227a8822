package docker

import (
	"context"
	"encoding/json"

	"github.com/docker/docker/api/types/container"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// Usage implements runtime.Driver. The peak is known under cgroup v1 only.
func (d *Driver) Usage(ctx context.Context, id runtime.ID) (runtime.Usage, error) {
	answer, err := d.engine.ContainerStatsOneShot(ctx, string(id))
	if err != nil {
		return runtime.Usage{}, translateError("read what container uses", err)
	}
	defer answer.Body.Close()
	var stats container.StatsResponse
	if err := json.NewDecoder(answer.Body).Decode(&stats); err != nil {
		return runtime.Usage{}, translateError("read what container uses", err)
	}
	return usageOf(stats.MemoryStats), nil
}

// usageOf leaves out the page cache that the kernel can take back at any time,
// which both cgroup versions count as used.
func usageOf(m container.MemoryStats) runtime.Usage {
	cache, ok := m.Stats["total_inactive_file"] // cgroup v1
	if !ok {
		cache = m.Stats["inactive_file"] // cgroup v2
	}
	return runtime.Usage{
		Memory:     functions.Bytes(m.Usage - min(cache, m.Usage)),
		PeakMemory: functions.Bytes(m.MaxUsage),
	}
}
