package main

import (
	"cmp"
	"fmt"
	"log/slog"
	goruntime "runtime"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/cmd/spillway/cli"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker"
)

// The runtimes by the names that --runtime takes.
const (
	runtimeDocker    = "docker"
	runtimeSimulated = "simulated"
)

// candidates are the runtimes that there are, in the order in which they are
// tried when the choice is the machine's.
func candidates(cfg Config, _ *slog.Logger) []candidate {
	return []candidate{
		{
			name: runtimeDocker, what: "docker answers",
			fix: "install Docker Engine and start it; this user must be allowed to use its socket",
			open: func() (runtime.Driver, func(), error) {
				d, err := docker.New(docker.Config{Host: cfg.Node.DockerHost})
				if err != nil {
					return nil, nil, err
				}
				return d, func() { d.Close() }, nil
			},
		},
		{
			name: runtimeSimulated,
			open: func() (runtime.Driver, func(), error) { return newSimulated(), func() {}, nil },
		},
	}
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
	cfg := Default()
	cfg.Node.DockerHost = cmp.Or(getenv("SPILLWAY_NODE_DOCKER_HOST"), getenv("DOCKER_HOST"))
	return runtimeChecks(cfg)
}
