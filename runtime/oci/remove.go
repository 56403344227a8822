package oci

import (
	"context"
	"errors"
	"fmt"
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
		if err := errors.Join(d.end(later, c), d.bury(later, string(c.id), c.group)); err != nil {
			d.Log.Warn("a removed container is not wholly gone; the next start of the agent tries again", "container", c.id, "err", err)
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

// end kills a container, in whatever state it is, and returns when its monitor
// is gone and its output no longer copied.
func (d *Driver) end(ctx context.Context, c *container) error {
	for round := 0; ; round++ {
		life, w := c.standing()
		if life == created {
			break
		}
		if w != nil && (life == starting || round > patience) {
			w.kill()
		}
		if err := d.cgroups.kill(ctx, c.group); err != nil {
			return fmt.Errorf("end container: %w", err)
		}
		timer := time.NewTimer(roundTime)
		select {
		case <-c.attended:
			timer.Stop()
			for _, o := range c.copies() {
				o.stop()
			}
			return nil
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("end container: %w", context.Cause(ctx))
		case <-timer.C:
		}
	}
	for _, o := range c.copies() {
		o.stop()
	}
	return nil
}

// bury clears away what is left of a container without a monitor: its cgroups
// and its folder, which is put among the dead ones first, because half a folder
// must not be taken for a container's.
func (d *Driver) bury(ctx context.Context, id, group string) error {
	for {
		err := d.cgroups.kill(ctx, group)
		if err == nil {
			err = d.cgroups.remove(group) // busy for a moment after its last process
		}
		if err == nil {
			break
		}
		if !sleep(ctx, roundTime) {
			return err
		}
	}
	dead := filepath.Join(d.Dir, dirDead, id)
	if err := gone(os.Rename(filepath.Join(d.Dir, dirContainers, id), dead)); err != nil {
		return err
	}
	return os.RemoveAll(dead)
}
