package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/identifiers"
	"github.com/containerd/errdefs"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// groupLimit bounds how long what runs in a container's cgroup may take to be killed.
const groupLimit = 10 * time.Second

// Remove implements runtime.Driver.
func (d *Driver) Remove(ctx context.Context, id runtime.ID) error {
	if identifiers.Validate(string(id)) != nil {
		return nil // nor can it be there, nor may its name be used as a path
	}
	if err := d.erase(d.in(ctx), id); err != nil {
		return err
	}
	d.forget(id)
	return nil
}

// erase kills what runs of a container and deletes all that there is of it: the
// folder last, because its being there says that something may be left.
func (d *Driver) erase(ctx context.Context, id runtime.ID) error {
	err := d.finish(ctx, id)
	if err == nil {
		err = d.eraseContainer(ctx, id)
	}
	if err != nil {
		return translateError(fmt.Sprintf("remove container %s", id), err)
	}
	busy, cancel := context.WithTimeout(ctx, groupLimit)
	defer cancel()
	if err := d.cgroups.Erase(busy, d.group(id)); err != nil { // a launch that was called off leaves one
		return fmt.Errorf("remove the container's cgroup: %w", err)
	}
	if err := os.RemoveAll(string(d.folder(id))); err != nil {
		return fmt.Errorf("remove the container's folder: %w", err)
	}
	return nil
}

// finish ends a container that was started in the way of every other exit, so
// that whoever waits for it does not delete what runs at the same time.
func (d *Driver) finish(ctx context.Context, id runtime.ID) error {
	if d.folder(id).startedAt().IsZero() {
		return nil
	}
	if _, err := d.kill(ctx, id, syscall.SIGKILL); err != nil {
		return err
	}
	if _, err := d.exit(ctx, id); err != nil && !errors.Is(err, functions.ErrNotFound) && !errors.Is(err, functions.ErrConflict) {
		return err
	}
	return d.reaped(ctx, id)
}

func (d *Driver) eraseContainer(ctx context.Context, id runtime.ID) error {
	c, err := d.engine.LoadContainer(ctx, string(id))
	if errdefs.IsNotFound(err) {
		return d.eraseSnapshot(ctx, id)
	} else if err != nil {
		return err
	}
	t, err := c.Task(ctx, nil)
	if err == nil {
		_, err = t.Delete(ctx, client.WithProcessKill)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err := c.Delete(ctx, client.WithSnapshotCleanup); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// eraseSnapshot deletes the file system of a launch that did not come as far as
// its container.
func (d *Driver) eraseSnapshot(ctx context.Context, id runtime.ID) error {
	snapshotter, err := d.useSnapshotter(ctx)
	if err != nil {
		return err
	}
	err = d.engine.SnapshotService(snapshotter).Remove(ctx, string(id))
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
