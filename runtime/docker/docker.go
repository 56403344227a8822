// Package docker runs containers on a Docker engine. It speaks every API version
// that the engine does, from 1.24 on, so that an old one (Debian's 20.10) serves
// as well as a new one.
//
// What a container may do is in spec.go; how its output comes is in output.go.
package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
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
}

// Driver runs containers on one engine. Close it when it is no longer used.
type Driver struct {
	engine *client.Client
	egress string
	log    *slog.Logger

	mu      sync.Mutex // guards outputs
	outputs map[runtime.ID][]*output
}

// New returns a driver. It does not talk to the engine yet: see Probe.
func New(c Config) (*Driver, error) {
	host := or(c.Host, client.DefaultDockerHost)
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
		engine: engine, egress: c.EgressNetwork,
		log: log.With("component", "docker"), outputs: map[runtime.ID][]*output{},
	}, nil
}

// Close stops copying output and lets go of the engine. Containers run on.
func (d *Driver) Close() error {
	d.mu.Lock()
	var all []*output
	for id, outs := range d.outputs {
		all = append(all, outs...)
		delete(d.outputs, id)
	}
	d.mu.Unlock()
	for _, out := range all {
		out.stop()
	}
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

// Create implements runtime.Driver.
func (d *Driver) Create(ctx context.Context, spec runtime.Spec) (runtime.ID, error) {
	config, host := translate(spec, d.egress)
	made, err := d.engine.ContainerCreate(ctx, config, host, nil, nil, spec.Name)
	switch {
	case err == nil:
		for _, warning := range made.Warnings {
			d.log.Debug("engine warns", "container", spec.Name, "warning", warning)
		}
		return runtime.ID(made.ID), nil
	case errdefs.IsNotFound(err):
		return "", launchError(ctx, "create", err, imageMissing(spec.Image, err))
	case errdefs.IsConflict(err):
		class := functions.Conflict("name_in_use", "a container named %s exists already", spec.Name).WithCause(err)
		return "", launchError(ctx, "create", err, class)
	}
	return "", launchError(ctx, "create", err, translateError("create container", err))
}

// Start implements runtime.Driver. The streams are attached before the start, so
// that not a byte of output is missed.
func (d *Driver) Start(ctx context.Context, id runtime.ID, io runtime.Streams) error {
	conn, err := d.attach(ctx, id)
	if err != nil {
		// The client reports no class for an attach that is refused.
		if _, cause := d.engine.ContainerInspect(ctx, string(id)); cause != nil {
			err = cause
		}
		return launchError(ctx, "start", err, translateError("attach to container", err))
	}
	if err := d.engine.ContainerStart(ctx, string(id), container.StartOptions{}); err != nil {
		conn.Close()
		return launchError(ctx, "start", err, translateError("start container", err))
	}
	d.follow(ctx, id, conn, io)
	return nil
}

// Attach implements runtime.Driver. The output comes from the engine's log of
// it: what was over Spec.LogSize is gone, and bytes that are not UTF-8 have been
// replaced.
func (d *Driver) Attach(ctx context.Context, id runtime.ID, io runtime.Streams) error {
	if _, err := d.engine.ContainerInspect(ctx, string(id)); err != nil {
		return translateError("attach to container", err)
	}
	d.follow(ctx, id, nil, io)
	return nil
}

// drainTime bounds how long output may trail behind the exit.
const drainTime = 10 * time.Second

// Wait implements runtime.Driver. It waits on while the engine is away.
func (d *Driver) Wait(ctx context.Context, id runtime.ID) (runtime.Exit, error) {
	if err := d.exited(ctx, id); err != nil {
		return runtime.Exit{}, err
	}
	exit, err := d.exit(ctx, id)
	if err != nil {
		return runtime.Exit{}, err
	}
	d.mu.Lock()
	outs := d.outputs[id]
	d.mu.Unlock()
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	for _, out := range outs {
		select {
		case <-out.done:
		case <-ctx.Done():
			return runtime.Exit{}, fmt.Errorf("wait for output: %w", context.Cause(ctx))
		case <-timer.C:
			d.log.Warn("output did not end with its container", "container", id)
			return exit, nil
		}
	}
	return exit, nil
}

// exited blocks until the container is not running, however often the engine
// goes away meanwhile.
func (d *Driver) exited(ctx context.Context, id runtime.ID) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		_, err := d.wait(ctx, id)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("wait for container: %w", context.Cause(ctx))
		case errdefs.IsNotFound(err):
			return translateError("wait for container", err)
		}
		d.log.Warn("engine went away while a container ran", "container", id, "err", err)
		if !sleep(ctx, pause) {
			return fmt.Errorf("wait for container: %w", context.Cause(ctx))
		}
	}
}

// wait asks the engine once. It returns at once for a container that has
// exited, so no exit can be missed.
func (d *Driver) wait(ctx context.Context, id runtime.ID) (int64, error) {
	result, failed := d.engine.ContainerWait(ctx, string(id), container.WaitConditionNotRunning)
	select {
	case r := <-result:
		if r.Error != nil && r.Error.Message != "" {
			return 0, errors.New(r.Error.Message)
		}
		return r.StatusCode, nil
	case err := <-failed:
		return 0, err
	}
}

// exit reads how a container that does not run ended.
func (d *Driver) exit(ctx context.Context, id runtime.ID) (runtime.Exit, error) {
	c, err := d.engine.ContainerInspect(ctx, string(id))
	if err != nil {
		return runtime.Exit{}, translateError("inspect container", err)
	}
	if c.State.Status == container.StateCreated {
		return runtime.Exit{}, functions.Conflict("not_started", "container %s was never started", id)
	}
	return runtime.Exit{
		Code:       c.State.ExitCode,
		OOMKilled:  c.State.OOMKilled,
		StartedAt:  engineTime(c.State.StartedAt),
		FinishedAt: engineTime(c.State.FinishedAt),
	}, nil
}

// Stop implements runtime.Driver. It does not use the engine's own stop, which
// counts whole seconds and sends the image's signal.
func (d *Driver) Stop(ctx context.Context, id runtime.ID, grace time.Duration) error {
	if grace > 0 {
		gone, err := d.kill(ctx, id, "SIGTERM")
		if gone || err != nil {
			return err
		}
		asked, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		if _, err := d.wait(asked, id); err == nil || errdefs.IsNotFound(err) {
			return nil
		}
	}
	gone, err := d.kill(ctx, id, "SIGKILL")
	if gone || err != nil {
		return err
	}
	if _, err := d.wait(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return translateError("stop container", err)
	}
	return nil
}

// kill sends a signal; gone means that nothing runs that could take it.
func (d *Driver) kill(ctx context.Context, id runtime.ID, signal string) (gone bool, err error) {
	err = d.engine.ContainerKill(ctx, string(id), signal)
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return true, nil
	}
	return false, translateError("signal container", err)
}

// removeTries bounds the tries of one Remove, about half a minute in all.
const removeTries = 20

// Remove implements runtime.Driver. Where another removal is under way, or the
// engine cannot let go of the files yet, it tries again for a while.
func (d *Driver) Remove(ctx context.Context, id runtime.ID) error {
	for try, pause := 1, firstPause; ; try, pause = try+1, min(2*pause, longestPause) {
		err := d.engine.ContainerRemove(ctx, string(id), container.RemoveOptions{Force: true, RemoveVolumes: true})
		switch {
		case err == nil, errdefs.IsNotFound(err):
			d.forget(id)
			return nil
		case try == removeTries, !errdefs.IsConflict(err) && !errdefs.IsInternal(err):
			return translateError("remove container", err)
		}
		if !sleep(ctx, pause) {
			return translateError("remove container", err)
		}
	}
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

// engineTime reads a time of the engine; one that it does not know is zero.
func engineTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}
