package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spillway/spillway/runtime"
)

// Remove implements runtime.Driver. When it returns, nothing of the container
// runs, and no list shows it, nor one of a driver that comes after; its files
// and cgroups go behind the caller's back.
func (d *Driver) Remove(ctx context.Context, id runtime.ID) error {
	c, err := d.find(id)
	if err != nil {
		return nil // it is gone
	}
	d.mu.Lock()
	mine := d.containers[id] == c // and not another removal's
	if mine {
		err = c.condemn()
	}
	if mine && err == nil {
		delete(d.containers, id)
		delete(d.names, c.record.Name)
	}
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("remove container: %w", err)
	}
	if !mine {
		return nil
	}
	return d.destroy(ctx, c)
}

// condemn marks the folder, so that no later driver takes it for a container's.
func (c *container) condemn() error {
	return os.WriteFile(filepath.Join(c.dir, fileRemoved), nil, 0o600)
}

// destroy ends a container that is condemned, and has the rest of it cleared
// away in the background.
func (d *Driver) destroy(ctx context.Context, c *container) error {
	err := d.end(ctx, c)
	later := context.WithoutCancel(ctx)
	d.reaping.Go(func() {
		later, cancel := context.WithTimeout(later, buryTime)
		defer cancel()
		err := d.end(later, c)
		c.unwatched(later)
		if err = errors.Join(err, d.bury(later, string(c.id), c.group)); err != nil {
			d.config.Log.Warn("a removed container is not wholly gone; the next start of the agent tries again", "container", c.id, "err", err)
		}
		c.release()
	})
	return err
}

const (
	buryTime  = time.Minute
	patience  = 20 // rounds that a monitor may take to see the end of its container
	roundTime = 100 * time.Millisecond
)

// end kills a container, in whatever state it is, and returns when nothing of it
// runs and its output is no longer copied.
func (d *Driver) end(ctx context.Context, c *container) error {
	err := d.halt(ctx, c)
	if err == nil {
		d.outputs.Forget(c.id)
	}
	return err
}

// halt kills a container, in whatever state it is, and returns when nothing of it
// runs.
func (d *Driver) halt(ctx context.Context, c *container) error {
	for round := 0; ; round++ {
		life, w := c.standing()
		if life == created || life == exited {
			return nil
		}
		if w != nil && (life == starting || round > patience) {
			w.kill()
		}
		if err := d.cgroups.Kill(ctx, c.group); err != nil {
			return fmt.Errorf("end container: %w", err)
		}
		soon, cancel := context.WithTimeout(ctx, roundTime)
		over := c.unwatched(soon)
		cancel()
		if over {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("end container: %w", context.Cause(ctx))
		}
	}
}

// unwatched waits until a container's monitor is gone, or reports false when ctx
// ends first.
func (c *container) unwatched(ctx context.Context) bool {
	if life, _ := c.standing(); life == created {
		return true
	}
	select {
	case <-c.attended:
		return true
	case <-ctx.Done():
		return false
	}
}

// bury clears away what is left of a container without a monitor: its cgroups
// and its folder, which is put among the dead ones first, because half a folder
// must not be taken for a container's.
func (d *Driver) bury(ctx context.Context, id, group string) error {
	if err := d.cgroups.Erase(ctx, group); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(d.config.Logs, id)); err != nil {
		return err
	}
	dead := filepath.Join(d.config.Dir, dirDead, id)
	err := os.Rename(filepath.Join(d.config.Dir, dirContainers, id), dead)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dead)
}
