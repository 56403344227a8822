package main

import (
	"cmp"
	"context"
	"fmt"
	goruntime "runtime"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/cmd/spillway/cli"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker"
)

// openDriver returns what runs containers on this machine.
func openDriver(cfg NodeConfig) (runtime.Driver, error) {
	if cfg.Runtime == "simulated" {
		return newSimulated(), nil
	}
	keys, err := registryKeys(cfg)
	if err != nil {
		return nil, err
	}
	d, err := docker.New(docker.Config{Host: cfg.DockerHost, Auth: keys.Lookup})
	if err != nil {
		return nil, fmt.Errorf("set up the docker runtime: %w", err)
	}
	return d, nil
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
func hostChecks(getenv func(string) string) []cli.Check {
	return []cli.Check{{
		Name: "docker answers",
		Fix:  "install Docker Engine and start it; this user must be allowed to use its socket",
		Run: func(ctx context.Context) (string, error) {
			d, err := docker.New(docker.Config{Host: cmp.Or(getenv("SPILLWAY_NODE_DOCKER_HOST"), getenv("DOCKER_HOST"))})
			if err != nil {
				return "", err
			}
			return d.Probe(ctx)
		},
	}}
}
