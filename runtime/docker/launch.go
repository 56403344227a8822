package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// Create implements runtime.Driver.
func (d *Driver) Create(ctx context.Context, spec runtime.Spec) (runtime.ID, error) {
	config, host := translate(spec, d.egress)
	made, err := d.engine.ContainerCreate(ctx, config, host, nil, nil, spec.Name)
	switch {
	case err == nil:
		for _, warning := range made.Warnings {
			d.log.Debug("engine warns", "container", spec.Name, "warning", warning)
		}
		if err := d.confirm(ctx, made.ID, spec.GPUs); err != nil {
			return "", err
		}
		return runtime.ID(made.ID), nil
	case errdefs.IsNotFound(err):
		return "", launchError(ctx, runtime.StageCreate, err, runtime.ImageMissing(spec.Image).WithCause(err))
	case errdefs.IsConflict(err):
		return "", launchError(ctx, runtime.StageCreate, err, runtime.NameInUse(spec.Name).WithCause(err))
	}
	return "", launchError(ctx, runtime.StageCreate, err, translateError("create container", err))
}

// confirm makes sure that the engine has kept the request for just these devices.
// One that does not know such requests, an old one or another that speaks Docker's
// API, makes the container without a word, and the program would find no GPU. What
// is refused is removed.
func (d *Driver) confirm(ctx context.Context, id string, gpus []string) error {
	if len(gpus) == 0 {
		return nil
	}
	made, err := d.engine.ContainerInspect(ctx, id)
	if err != nil || made.ContainerJSONBase == nil || made.HostConfig == nil {
		d.log.Debug("container not looked at", "container", id, "err", err)
		return nil // the start tells more
	}
	var kept []string
	for _, r := range made.HostConfig.DeviceRequests {
		kept = append(kept, r.DeviceIDs...)
	}
	if slices.Equal(kept, gpus) {
		return nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	err = errors.Join(fmt.Errorf("the engine has dropped the request for devices %q: the container has %q", gpus, kept), d.Remove(undo, runtime.ID(id)))
	return launchError(ctx, runtime.StageCreate, err, functions.Unavailable("no_devices", "the engine gives containers no GPUs").WithCause(err))
}

// undoTime bounds the removal of a container that is not what was asked for.
const undoTime = 30 * time.Second

// Start implements runtime.Driver. The streams are attached before the start, so
// that not a byte of output is missed.
func (d *Driver) Start(ctx context.Context, id runtime.ID, io runtime.Streams) error {
	conn, err := d.attach(ctx, id)
	if err != nil {
		// The client reports no class for an attach that is refused.
		if _, cause := d.engine.ContainerInspect(ctx, string(id)); cause != nil {
			err = cause
		}
		return launchError(ctx, runtime.StageStart, err, translateError("attach to container", err))
	}
	if err := d.engine.ContainerStart(ctx, string(id), container.StartOptions{}); err != nil {
		conn.Close()
		return launchError(ctx, runtime.StageStart, err, translateError("start container", err))
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
