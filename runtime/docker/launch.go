package docker

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

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
		return runtime.ID(made.ID), nil
	case errdefs.IsNotFound(err):
		return "", launchError(ctx, runtime.StageCreate, err, runtime.ImageMissing(spec.Image).WithCause(err))
	case errdefs.IsConflict(err):
		return "", launchError(ctx, runtime.StageCreate, err, runtime.NameInUse(spec.Name).WithCause(err))
	}
	return "", launchError(ctx, runtime.StageCreate, err, translateError("create container", err))
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
