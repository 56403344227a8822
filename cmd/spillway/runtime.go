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
	d, err := docker.New(docker.Config{Host: cfg.DockerHost})
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
	if cfg.Node.Cache != "" {
		return functions.ParseBytes(cfg.Node.Cache)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(cfg.Data, &disk); err != nil {
		return 0, fmt.Errorf("read the size of the disk: %w", err)
	}
	return min(usualCache, functions.Bytes(disk.Blocks)*functions.Bytes(disk.Bsize)/10), nil
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
