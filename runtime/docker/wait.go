package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// drainTime bounds how long output may trail behind the exit.
const drainTime = 10 * time.Second

// Wait implements runtime.Driver. It waits on while the engine is away.
func (d *Driver) Wait(ctx context.Context, id runtime.ID) (runtime.Exit, error) {
	away, err := d.exited(ctx, id)
	if err != nil {
		return runtime.Exit{}, err
	}
	exit, err := d.exit(ctx, id)
	if err != nil {
		return runtime.Exit{}, err
	}
	exit.EngineAway = away
	whole, err := d.outputs.Wait(ctx, id, drainTime)
	if err != nil {
		return runtime.Exit{}, err
	}
	if !whole {
		d.log.Warn("output did not end with its container", "container", id)
	}
	return exit, nil
}

// exited blocks until the container is not running, however often the engine
// goes away meanwhile, and says whether it did.
func (d *Driver) exited(ctx context.Context, id runtime.ID) (away bool, err error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		_, err := d.wait(ctx, id)
		switch {
		case err == nil:
			return away, nil
		case ctx.Err() != nil:
			return away, fmt.Errorf("wait for container: %w", context.Cause(ctx))
		case errdefs.IsNotFound(err):
			return away, translateError("wait for container", err)
		}
		away = true
		d.log.Warn("engine went away while a container ran", "container", id, "err", err)
		if !functions.Sleep(ctx, pause) {
			return away, fmt.Errorf("wait for container: %w", context.Cause(ctx))
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
		return runtime.Exit{}, runtime.NotStarted(id)
	}
	exit := runtime.Exit{
		Code:       c.State.ExitCode,
		OOMKilled:  c.State.OOMKilled,
		StartedAt:  engineTime(c.State.StartedAt),
		FinishedAt: engineTime(c.State.FinishedAt),
	}
	if exit.FinishedAt.Before(exit.StartedAt) {
		// The engine notes the start after it happened; a short program is over by then.
		exit.StartedAt = exit.FinishedAt
	}
	return exit, nil
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
			d.outputs.Forget(id)
			return nil
		case try == removeTries, !errdefs.IsConflict(err) && !errdefs.IsInternal(err):
			return translateError("remove container", err)
		}
		if !functions.Sleep(ctx, pause) {
			return translateError("remove container", err)
		}
	}
}

// engineTime reads a time of the engine; one that it does not know is zero.
func engineTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}
