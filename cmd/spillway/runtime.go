package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	goruntime "runtime"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/cmd/spillway/cli"
	"github.com/spillway/spillway/cmd/spillway/localimages"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/store"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/cdi"
	"github.com/spillway/spillway/runtime/containerd"
	"github.com/spillway/spillway/runtime/docker"
	"github.com/spillway/spillway/runtime/entry"
	"github.com/spillway/spillway/runtime/oci"
)

// The runtimes by the names that --runtime takes.
const (
	runtimeDocker     = "docker"
	runtimeContainerd = "containerd"
	runtimeOCI        = "oci"
	runtimeSimulated  = "simulated"
)

// candidates are the runtimes that there are, in the order in which they are
// tried when the choice is the machine's: an engine that is there is used, since
// its images are there too.
func candidates(cfg Config, log *slog.Logger) []candidate {
	return []candidate{
		{
			name: runtimeDocker, what: "docker answers",
			fix:  "install Docker Engine and start it; this user must be allowed to use its socket",
			open: func(context.Context) (runtime.Driver, func(), error) { return openDocker(cfg, log) },
		},
		{
			name: runtimeContainerd, what: "containerd answers",
			fix:  "install containerd and start it; run spillway as root, and name another socket with --containerd",
			open: func(context.Context) (runtime.Driver, func(), error) { return openContainerd(cfg, log) },
		},
		{
			name: runtimeOCI, what: "oci runs a container",
			fix:  "run spillway as root, with Debian's crun or runc package installed",
			open: func(ctx context.Context) (runtime.Driver, func(), error) { return openOCI(ctx, cfg, log) },
		},
		{
			name: runtimeSimulated,
			open: func(context.Context) (runtime.Driver, func(), error) { return newSimulated(), func() {}, nil },
		},
	}
}

func openDocker(cfg Config, log *slog.Logger) (runtime.Driver, func(), error) {
	d, err := newDocker(cfg, log)
	if err != nil {
		return nil, nil, err
	}
	return d, func() { d.Close() }, nil
}

func newDocker(cfg Config, log *slog.Logger) (*docker.Driver, error) {
	keys, err := registryKeys(cfg.Node)
	if err != nil {
		return nil, err
	}
	c := docker.Config{Host: cfg.Node.DockerHost, Auth: keys.Lookup, Log: log}
	if cfg.Node.HostNetwork {
		c.EgressNetwork = "host"
	}
	return docker.New(c)
}

func openContainerd(cfg Config, log *slog.Logger) (runtime.Driver, func(), error) {
	own, err := ownParts(cfg, log)
	if err != nil {
		return nil, nil, err
	}
	d, err := containerd.New(containerd.Config{
		Address: cfg.Node.Containerd, Namespace: cfg.Node.Namespace, StateDir: filepath.Join(cfg.Data, "node", "containerd"),
		Program: own.program, Source: localimages.Archives{Store: own.images, Beside: own.beside}, CDIDirs: cdiDirs(cfg), HostNetwork: cfg.Node.HostNetwork, Log: log,
	})
	if err != nil {
		own.beside.Close()
		return nil, nil, err
	}
	return d, func() { d.Close(); own.beside.Close() }, nil
}

// cdiDirs are where GPUs are described.
func cdiDirs(cfg Config) []string {
	if len(cfg.Node.CDIDirs) > 0 {
		return cfg.Node.CDIDirs
	}
	return cdi.DefaultDirs()
}

func openOCI(ctx context.Context, cfg Config, log *slog.Logger) (runtime.Driver, func(), error) {
	own, err := ownParts(cfg, log)
	if err != nil {
		return nil, nil, err
	}
	usual := filepath.Join(cfg.Data, "node", "oci")
	d, err := oci.Open(ctx, oci.Config{
		Dir: cmp.Or(cfg.Node.OCIDir, usual), Logs: filepath.Join(usual, "logs"), Program: own.program, Images: localimages.Unpacked{Store: own.images, Beside: own.beside},
		Runtime: cfg.Node.OCIRuntime, CDIDirs: cdiDirs(cfg), HostNetwork: cfg.Node.HostNetwork, Log: log,
	})
	if err != nil {
		own.beside.Close()
		return nil, nil, err
	}
	return d, func() { d.Close(); own.beside.Close() }, nil
}

// parts are what a driver needs that no engine brings: the program that goes
// first in its containers, and where images come from.
type parts struct {
	program string
	images  *store.Store
	beside  *docker.Driver // may have images already; close it after the driver
}

func ownParts(cfg Config, log *slog.Logger) (own parts, err error) {
	if own.program, err = entry.Install(filepath.Join(cfg.Data, "entry")); err != nil {
		return parts{}, err
	}
	if own.images, err = openImages(cfg, log); err != nil {
		return parts{}, err
	}
	own.beside, err = newDocker(cfg, log)
	return own, err
}

// capacity is the room that this machine offers to tasks.
func capacity(cfg NodeConfig) (functions.Resources, error) {
	room := functions.Resources{MilliCPU: int64(cfg.CPUs * 1000), Tasks: cfg.MaxTasks}
	if room.MilliCPU == 0 {
		room.MilliCPU = int64(goruntime.NumCPU()) * 1000
	}
	var err error
	if room.Memory, err = parseSize(cfg.Memory); err != nil || room.Memory != 0 {
		return room, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return room, fmt.Errorf("read the machine's memory: %w", err)
	}
	// A fifth stays for the engine, the store and the page cache.
	room.Memory = functions.Bytes(info.Totalram) * functions.Bytes(info.Unit) / 5 * 4
	return room, nil
}

// warmMemory is what of the room containers may take that wait for tasks.
func warmMemory(cfg NodeConfig, room functions.Resources) (functions.Bytes, error) {
	if cfg.WarmMemory == "" {
		return room.Memory / 10, nil
	}
	size, err := parseSize(cfg.WarmMemory)
	if err == nil && size > room.Memory/2 {
		return 0, functions.Invalid("bad_config", "warm-memory: %s is over half of the %s that tasks are offered", size, room.Memory)
	}
	return size, err
}

// usualCache is what inputs are kept in when nothing else is set, and the disk is
// ten times as large.
const usualCache = 10 * functions.GiB

// cacheSize is the disk that the node may take to keep inputs in.
func cacheSize(cfg Config) (functions.Bytes, error) {
	return diskShare(cfg.Node.Cache, cfg.Data, usualCache, 10)
}

// diskShare reads a size that is set, or else takes the usual one, but no more
// than one of so many parts of the disk.
func diskShare(set, dir string, usual functions.Bytes, parts int) (functions.Bytes, error) {
	if set != "" {
		return functions.ParseBytes(set)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return 0, fmt.Errorf("read the size of the disk: %w", err)
	}
	return min(usual, functions.Bytes(disk.Blocks)*functions.Bytes(disk.Bsize)/functions.Bytes(parts)), nil
}

// hostChecks are what doctor looks at on this machine.
func hostChecks(getenv func(string) string) []cli.Check { return runtimeChecks(hostConfig(getenv)) }

// hostConfig is what the environment says of this machine's engines.
func hostConfig(getenv func(string) string) Config {
	cfg := Default()
	cfg.Node.DockerHost = cmp.Or(getenv("SPILLWAY_NODE_DOCKER_HOST"), getenv("DOCKER_HOST"))
	cfg.Node.Containerd = getenv("SPILLWAY_NODE_CONTAINERD")
	cfg.Node.OCIRuntime = getenv("SPILLWAY_NODE_OCI_RUNTIME")
	return cfg
}
