package containerd

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// The pauses between two questions to a containerd that does not answer.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// drainTime bounds how long output may trail behind the exit.
const drainTime = 10 * time.Second

// codeLost is the exit code of a container whose exit nobody saw.
const codeLost = 128 + int(syscall.SIGKILL)

// Wait implements runtime.Driver. It waits on while containerd is away:
// containers run on meanwhile, so that is no part of how they end. Exit.EngineAway
// says that a container's shim is gone, by a reboot for one, and its exit with it.
func (d *Driver) Wait(ctx context.Context, id runtime.ID) (runtime.Exit, error) {
	ctx = d.in(ctx)
	exit, err := d.exited(ctx, id)
	if err != nil {
		return runtime.Exit{}, err
	}
	whole, err := d.outputs.Wait(ctx, id, drainTime)
	if err != nil {
		return runtime.Exit{}, err
	}
	if !whole {
		d.log.Warn("output did not end with its container", "container", id)
	}
	return exit, nil
}

// exited blocks until the container has exited, however often containerd goes
// away meanwhile.
func (d *Driver) exited(ctx context.Context, id runtime.ID) (runtime.Exit, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		exit, err := d.exit(ctx, id)
		switch {
		case err == nil:
			return exit, nil
		case ctx.Err() != nil:
			return runtime.Exit{}, fmt.Errorf("wait for container: %w", context.Cause(ctx))
		case d.alive.Err() != nil, errors.Is(err, functions.ErrNotFound), errors.Is(err, functions.ErrConflict):
			return runtime.Exit{}, err
		}
		d.log.Warn("containerd went away while a container ran", "container", id, "err", err)
		if !functions.Sleep(ctx, pause) {
			return runtime.Exit{}, fmt.Errorf("wait for container: %w", context.Cause(ctx))
		}
	}
}

// exit waits for the container's exit, as long as containerd answers.
func (d *Driver) exit(ctx context.Context, id runtime.ID) (runtime.Exit, error) {
	if exit, ok := d.folder(id).ended(); ok {
		d.claim(id)(true) // an agent that died meanwhile may have left the task
		return exit, nil
	}
	now, err := d.look(ctx, id)
	if errdefs.IsNotFound(err) {
		return d.lost(ctx, id)
	} else if err != nil {
		return runtime.Exit{}, translateError("look at container", err)
	}
	code, at := now.ExitStatus, now.ExitedAt
	switch now.Status {
	case task.Status_CREATED:
		return runtime.Exit{}, runtime.NotStarted(id)
	case task.Status_STOPPED:
	default:
		ended, err := d.engine.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: string(id)})
		if errdefs.IsNotFound(native(err)) {
			return d.lost(ctx, id)
		} else if err != nil {
			return runtime.Exit{}, translateError("wait for container", err)
		}
		code, at = ended.ExitStatus, ended.ExitedAt
	}
	started := d.folder(id).startedAt()
	if started.IsZero() { // it was removed before it could run
		return runtime.Exit{}, runtime.NotStarted(id)
	}
	exit := runtime.Exit{Code: int(code), OOMKilled: d.cgroups.OOMKilled(d.group(id)), StartedAt: started, FinishedAt: at.AsTime()}
	if exit.FinishedAt.Before(started) {
		exit.FinishedAt = started
	}
	return d.settle(id, exit)
}

// look returns what containerd knows of a container's process. It asks again when
// containerd's own patience with a shim has ended, two seconds on a busy machine:
// that says nothing about the container.
func (d *Driver) look(ctx context.Context, id runtime.ID) (*task.Process, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		found, err := d.engine.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: string(id)})
		if err == nil {
			return found.Process, nil
		}
		err = native(err)
		if !errors.Is(err, context.DeadlineExceeded) || !functions.Sleep(ctx, pause) {
			return nil, err
		}
	}
}

// lost is the exit of a container that has no process and no shim.
func (d *Driver) lost(ctx context.Context, id runtime.ID) (runtime.Exit, error) {
	_, err := d.engine.ContainerService().Get(ctx, string(id))
	if errdefs.IsNotFound(err) {
		return runtime.Exit{}, runtime.ContainerMissing(id)
	} else if err != nil {
		return runtime.Exit{}, translateError("look for container", err)
	}
	f := d.folder(id)
	if exit, ok := f.ended(); ok { // somebody else saw it meanwhile
		return exit, nil
	}
	started := f.startedAt()
	if started.IsZero() {
		return runtime.Exit{}, runtime.NotStarted(id)
	}
	last := f.lastOutput()
	if last.Before(started) {
		last = started
	}
	return f.end(runtime.Exit{Code: codeLost, EngineAway: true, StartedAt: started, FinishedAt: last})
}

// Stop implements runtime.Driver.
func (d *Driver) Stop(ctx context.Context, id runtime.ID, grace time.Duration) error {
	ctx = d.in(ctx)
	if grace > 0 {
		gone, err := d.kill(ctx, id, syscall.SIGTERM)
		if gone || err != nil {
			return err
		}
		asked, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		if _, err := d.exit(asked, id); err == nil || errors.Is(err, functions.ErrNotFound) {
			return nil
		}
	}
	gone, err := d.kill(ctx, id, syscall.SIGKILL)
	if gone || err != nil {
		return err
	}
	if _, err := d.exit(ctx, id); err != nil && !errors.Is(err, functions.ErrNotFound) {
		return fmt.Errorf("stop container: %w", err)
	}
	return nil
}

// kill sends a signal; gone means that nothing runs that could take it.
func (d *Driver) kill(ctx context.Context, id runtime.ID, signal syscall.Signal) (gone bool, err error) {
	if _, ok := d.folder(id).ended(); ok {
		return true, nil
	}
	now, err := d.look(ctx, id)
	if err == nil && (now.Status == task.Status_CREATED || now.Status == task.Status_STOPPED) {
		return true, nil
	}
	if err == nil {
		_, err = d.engine.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: string(id), Signal: uint32(signal)})
	}
	if n := native(err); errdefs.IsNotFound(n) || errdefs.IsFailedPrecondition(n) {
		return true, nil
	}
	return false, translateError("signal container", err)
}
