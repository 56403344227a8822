package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// adopt takes up what an earlier driver left. It runs before anything else does.
func (d *Driver) adopt(ctx context.Context) error {
	found, err := os.ReadDir(filepath.Join(d.config.Dir, dirContainers))
	if err != nil {
		return fmt.Errorf("read the containers' folder: %w", err)
	}
	left := map[string]bool{}
	for _, f := range found {
		switch whole, err := d.adoptOne(ctx, f.Name()); {
		case err != nil:
			return fmt.Errorf("take up container %s: %w", f.Name(), err)
		case !whole:
			left[f.Name()] = true
		}
	}
	return d.sweep(ctx, left)
}

// adoptOne takes up the container of one folder, unless it was to go.
func (d *Driver) adoptOne(ctx context.Context, name string) (whole bool, err error) {
	dir := filepath.Join(d.config.Dir, dirContainers, name)
	r, err := readRecord(dir)
	if err != nil || r.Trial {
		return false, nil
	}
	if _, err := os.Stat(filepath.Join(dir, fileRemoved)); err == nil {
		return false, nil
	}
	_, release, err := d.config.Images.Layers(ctx, r.Image)
	if err != nil {
		// A container that runs has its layers open; one that was only created will say so.
		d.config.Log.Warn("the image of a container is gone", "container", name, "image", r.Image, "err", err)
		release = func() {}
	}
	c := newContainer(runtime.ID(name), dir, filepath.Join(d.group, name), r, release)
	if err := d.resume(ctx, c); err != nil {
		release()
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.containers[c.id] = c
	if r.Name != "" {
		d.names[r.Name] = c.id
	}
	return true, nil
}

// resume finds out where a container stands. A monitor that is there is watched;
// whether its container runs already or only soon makes no difference then.
func (d *Driver) resume(ctx context.Context, c *container) error {
	w, err := findWatch(c.dir)
	switch {
	case err == nil:
		c.life, c.watch = running, w
		close(c.up)
		ctx := context.WithoutCancel(ctx)
		d.reaping.Go(func() {
			defer close(c.attended)
			if w.wait() == nil {
				d.conclude(ctx, c)
			}
		})
		return nil
	case !errors.Is(err, errNoMonitor):
		return err
	}
	lock, err := os.ReadFile(filepath.Join(c.dir, wire.FileLock))
	if errors.Is(err, os.ErrNotExist) || err == nil && len(lock) == 0 {
		return nil // it was never started
	}
	if err != nil {
		return err
	}
	c.life = running
	close(c.up)
	close(c.attended)
	d.conclude(ctx, c)
	return nil
}

// sweep clears away what belongs to no container: the folders that are left, with
// the monitors that may still work in them, those among the dead, and cgroups.
func (d *Driver) sweep(ctx context.Context, left map[string]bool) error {
	for name := range left {
		if w, err := findWatch(filepath.Join(d.config.Dir, dirContainers, name)); err == nil {
			w.kill()
			_ = w.wait()
			w.abandon()
		}
	}
	dead, err := os.ReadDir(filepath.Join(d.config.Dir, dirDead))
	if err != nil {
		return fmt.Errorf("read the folder of the dead: %w", err)
	}
	for _, f := range dead {
		left[f.Name()] = true
	}
	groups, err := d.cgroups.List(d.group)
	if err != nil {
		return fmt.Errorf("read the containers' cgroups: %w", err)
	}
	for _, name := range groups {
		if d.containers[runtime.ID(name)] == nil {
			left[name] = true
		}
	}
	logs, err := os.ReadDir(d.config.Logs)
	if err != nil {
		return fmt.Errorf("read the folder of the output: %w", err)
	}
	for _, f := range logs {
		if d.containers[runtime.ID(f.Name())] == nil {
			left[f.Name()] = true
		}
	}
	ctx, cancel := context.WithTimeout(ctx, buryTime)
	defer cancel()
	for name := range left {
		if err := d.bury(ctx, name, filepath.Join(d.group, name)); err != nil {
			d.config.Log.Warn("a removed container is not wholly gone", "container", name, "err", err)
		}
	}
	return nil
}
