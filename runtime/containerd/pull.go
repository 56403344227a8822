package containerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/plugins"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// Pull implements runtime.Driver.
func (d *Driver) Pull(ctx context.Context, name string, progress func(runtime.PullProgress)) error {
	full, err := fullName(name)
	if err != nil {
		return err
	}
	switch ready, err := d.ready(d.in(ctx), name); {
	case err != nil && !errors.Is(err, functions.ErrNotFound):
		return err
	case ready:
		return nil
	}
	err = d.pulls.Do(ctx, full, progress, func(ctx context.Context, report func(runtime.PullProgress)) error {
		d.work.Add(1) // Close waits for it
		defer d.work.Done()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(d.alive, cancel)()
		return d.fetch(d.in(ctx), name, full, report)
	})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("pull image %s: %w", name, context.Cause(ctx))
	}
	return err
}

// ready reports whether an image is there and its file system is unpacked.
func (d *Driver) ready(ctx context.Context, name string) (bool, error) {
	img, err := d.find(ctx, name)
	if err != nil {
		return false, err
	}
	snapshotter, err := d.useSnapshotter(ctx)
	if err != nil {
		return false, err
	}
	ok, err := img.IsUnpacked(ctx, snapshotter)
	return ok, translateError("look for image "+name, err)
}

// fetch brings an image from the source and unpacks it. One that was brought
// before, and whose unpacking failed, is unpacked.
func (d *Driver) fetch(ctx context.Context, name, full string, progress func(runtime.PullProgress)) error {
	img, err := d.find(ctx, name)
	if errors.Is(err, functions.ErrNotFound) {
		if err := d.bring(ctx, name, full, progress); err != nil {
			return err
		}
		img, err = d.find(ctx, name)
	}
	if err != nil {
		return err
	}
	return d.unpack(ctx, img)
}

func (d *Driver) bring(ctx context.Context, name, full string, progress func(runtime.PullProgress)) error {
	if d.cfg.Source == nil {
		return runtime.ImageMissing(name)
	}
	archive, err := d.cfg.Source.Archive(ctx, name, progress)
	if err != nil {
		return fmt.Errorf("get image %s: %w", name, err)
	}
	defer archive.Close()
	// The archive may call the image otherwise or nothing at all: what it holds
	// is what was asked for, and gets that name too.
	brought, err := d.engine.Import(ctx, archive, client.WithIndexName(full))
	if err != nil {
		return translateError("import image "+name, err)
	}
	target := brought[0].Target // of the index, which has that name
	for _, img := range brought[1:] {
		if img.Name == full {
			return nil
		}
		target = img.Target
	}
	_, err = d.engine.ImageService().Update(ctx, images.Image{Name: full, Target: target}, "target")
	return translateError("name image "+name, err)
}

func (d *Driver) unpack(ctx context.Context, img client.Image) error {
	snapshotter, err := d.useSnapshotter(ctx)
	if err != nil {
		return err
	}
	return translateError("unpack image "+img.Name(), img.Unpack(ctx, snapshotter))
}

// The snapshotters to choose from, and what containerd calls all of them.
const (
	snapshotterPlugins = string(plugins.SnapshotPlugin)
	overlayfs          = "overlayfs"
	nativeCopies       = "native"
)

// useSnapshotter says which snapshotter to use: the configured one, or the best
// that works here. Native copies every file for every container.
func (d *Driver) useSnapshotter(ctx context.Context) (string, error) {
	d.mu.Lock()
	known := d.snapshotter
	d.mu.Unlock()
	if known != "" {
		return known, nil
	}
	found, err := d.engine.IntrospectionService().Plugins(ctx, "type=="+snapshotterPlugins)
	if err != nil {
		return "", translateError("ask containerd for its snapshotters", err)
	}
	works := map[string]bool{}
	for _, p := range found.Plugins {
		works[p.ID] = p.InitErr == nil
	}
	for _, name := range []string{overlayfs, nativeCopies} {
		if works[name] {
			d.mu.Lock()
			d.snapshotter = name
			d.mu.Unlock()
			if name == nativeCopies {
				d.log.Warn("containerd cannot use overlayfs here: every container gets a copy of its image")
			}
			return name, nil
		}
	}
	return "", functions.Unavailable("no_snapshotter", "containerd has no usable snapshotter").
		WithHint("look for overlayfs in: ctr plugins ls; or name one that works")
}
