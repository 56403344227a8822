// Package docker runs containers on a Docker engine. It speaks every API version
// that the engine does, from 1.24 on, so that an old one (Debian's 20.10) serves
// as well as a new one.
//
// A container comes to life in launch.go and to its end in wait.go; what it may
// do is in spec.go, how its output comes in output.go.
package docker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/flight"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/outputs"
)

var _ runtime.Driver = (*Driver)(nil)

// Config says which engine to use. The zero value is the local one.
type Config struct {
	Host string       // unix:///path or tcp://host:port; empty = unix:///var/run/docker.sock
	Log  *slog.Logger // nil discards

	// EgressNetwork is the engine's network for containers with network egress;
	// empty = bridge.
	EgressNetwork string

	CACert, Cert, Key string // files, for an engine behind TLS; empty = none

	// Auth gives the credentials for a registry, such as docker.io or host:5000.
	// With the username "<token>" the secret is an identity token. ok is false when
	// there are none, and nil means never.
	Auth func(registry string) (username, secret string, ok bool, err error)
}

// Driver runs containers on one engine. Close it when it is no longer used.
type Driver struct {
	engine *client.Client
	egress string
	auth   func(registry string) (username, secret string, ok bool, err error)
	log    *slog.Logger
	pulls  flight.Group[runtime.PullProgress]

	outputs outputs.Set
}

// New returns a driver. It does not talk to the engine yet: see Probe.
func New(c Config) (*Driver, error) {
	host := cmp.Or(c.Host, client.DefaultDockerHost)
	opts := []client.Opt{client.WithHost(host), client.WithAPIVersionNegotiation()}
	if c.CACert != "" || c.Cert != "" || c.Key != "" {
		opts = append(opts, client.WithTLSClientConfig(c.CACert, c.Cert, c.Key))
	}
	engine, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, functions.Invalid("bad_engine_address", "cannot use the Docker engine at %s", host).
			WithHint("write unix:///path/to/docker.sock or tcp://host:port").WithCause(err)
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Driver{
		engine: engine, egress: c.EgressNetwork, auth: c.Auth,
		log: log.With("component", "docker"),
	}, nil
}

// Close stops copying output and lets go of the engine. Containers run on.
func (d *Driver) Close() error {
	d.outputs.Close()
	return d.engine.Close()
}

// Name implements runtime.Driver.
func (d *Driver) Name() string { return "docker" }

// Probe implements runtime.Driver.
func (d *Driver) Probe(ctx context.Context) (string, error) {
	info, err := d.engine.Info(ctx)
	if err != nil {
		return "", translateError("ask the engine", err)
	}
	return fmt.Sprintf("Docker %s, API %s, %s %s, %s, cgroup v%s", info.ServerVersion, d.engine.ClientVersion(),
		info.OSType, info.Architecture, info.Driver, info.CgroupVersion), nil
}

// List implements runtime.Driver.
func (d *Driver) List(ctx context.Context, labels map[string]string) ([]runtime.Info, error) {
	match := filters.NewArgs()
	for k, v := range labels {
		match.Add("label", k+"="+v)
	}
	found, err := d.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: match})
	if err != nil {
		return nil, translateError("list containers", err)
	}
	infos := make([]runtime.Info, len(found))
	for i, c := range found {
		infos[i] = runtime.Info{ID: runtime.ID(c.ID), Labels: c.Labels, State: stateOf(c.State)}
		if len(c.Names) > 0 && len(c.Names[0]) > 0 {
			infos[i].Name = c.Names[0][1:] // the engine writes a slash first
		}
	}
	return infos, nil
}

func stateOf(s container.ContainerState) runtime.ContainerState {
	switch s {
	case container.StateCreated:
		return runtime.Created
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		return runtime.Up
	}
	return runtime.Exited
}
