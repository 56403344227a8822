package docker

import (
	"cmp"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

const (
	nanoCPUPerMilli   = 1_000_000
	logFiles          = 2 // a full one is kept while the next fills, so that half always remains
	tmpfsFixedOptions = "rw,exec,nosuid,nodev,mode=1777,size="
	noNewPrivileges   = "no-new-privileges"
	networkNone       = "none"
	networkBridge     = "bridge"
)

// gpuCapabilities are the driver's parts that a GPU container gets. Without
// video, NVENC's and NVDEC's libraries are not mounted.
var gpuCapabilities = []string{"gpu", "compute", "utility", "video"}

// translate turns a spec into what the engine takes; egress is the engine's
// network for those that may reach out. It does no I/O.
func translate(s runtime.Spec, egress string) (*container.Config, *container.HostConfig) {
	yes := true
	s = s.WithDefaults()
	pids := s.Pids
	memory := int64(s.Memory)
	config := &container.Config{
		Image:        s.Image,
		Entrypoint:   s.Entrypoint,
		Cmd:          s.Command,
		Env:          runtime.Environment(s),
		User:         s.User,
		AttachStdin:  true,
		AttachStdout: true,
		AttachStderr: true,
		OpenStdin:    true,
		StdinOnce:    true,
		StopSignal:   "SIGTERM",
		Healthcheck:  &container.HealthConfig{Test: []string{"NONE"}},
		Labels:       s.Labels,
	}
	host := &container.HostConfig{
		NetworkMode:    networkNone,
		IpcMode:        container.IPCModePrivate,
		CapDrop:        []string{"ALL"},
		SecurityOpt:    []string{noNewPrivileges},
		ReadonlyRootfs: true,
		Init:           &yes,
		LogConfig:      logging(s.LogSize),
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		Resources: container.Resources{
			Memory:     memory,
			MemorySwap: memory,
			NanoCPUs:   s.MilliCPU * nanoCPUPerMilli,
			PidsLimit:  &pids,
			Ulimits:    []*container.Ulimit{{Name: "core"}},
		},
	}
	if s.Network == functions.NetworkEgress {
		host.NetworkMode = container.NetworkMode(cmp.Or(egress, networkBridge))
	}
	if s.FileSize > 0 {
		host.Ulimits = append(host.Ulimits, &container.Ulimit{Name: "fsize", Soft: int64(s.FileSize), Hard: int64(s.FileSize)})
	}
	if len(s.GPUs) > 0 {
		// One request with every id: of two requests the last alone would count.
		// Never a count: it always means the first devices.
		host.DeviceRequests = []container.DeviceRequest{{DeviceIDs: s.GPUs, Capabilities: [][]string{gpuCapabilities}}}
	}
	for _, m := range s.Mounts {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	for _, t := range s.Tmpfs {
		if host.Tmpfs == nil {
			host.Tmpfs = make(map[string]string, len(s.Tmpfs))
		}
		host.Tmpfs[t.Target] = tmpfsFixedOptions + strconv.FormatInt(int64(t.Size), 10)
	}
	return config, host
}

func logging(size functions.Bytes) container.LogConfig {
	return container.LogConfig{Type: "json-file", Config: map[string]string{
		"max-size": strconv.FormatInt(int64(size/logFiles/functions.KiB), 10) + "k",
		"max-file": strconv.Itoa(logFiles),
	}}
}
