package main

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/spillway/spillway/images/store"
	"github.com/spillway/spillway/runtime"
)

// openImages opens the store of images of this machine's node, which several
// processes may have open.
func openImages(cfg Config, log *slog.Logger) (*store.Store, error) {
	keys, err := registryKeys(cfg.Node)
	if err != nil {
		return nil, err
	}
	return store.Open(store.Config{Dir: filepath.Join(cfg.Data, "node", "images"), Auth: keys, Log: log})
}

// saver is an engine on this machine that may have images already.
type saver interface {
	// Save is ErrNotFound for an image that is not there, ErrUnavailable without an engine.
	Save(ctx context.Context, image string) (io.ReadCloser, error)
}

// unpacked is the store as a driver without an engine uses it. What an engine
// beside it has is taken from there and not from a registry.
type unpacked struct {
	*store.Store
	beside saver // nil = nobody is asked
}

// Name is that of the driver.
func (unpacked) Name() string { return runtimeOCI }

// Pull implements oci.Images.
func (u unpacked) Pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error {
	if _, err := u.Store.Image(ctx, image); err == nil || u.beside == nil {
		return u.Store.Pull(ctx, image, reported(progress))
	}
	archive, err := u.beside.Save(ctx, image)
	if err != nil {
		return u.Store.Pull(ctx, image, reported(progress))
	}
	defer archive.Close()
	return u.Load(ctx, archive)
}

// Image implements oci.Images.
func (u unpacked) Image(ctx context.Context, image string) (runtime.Image, error) {
	img, err := u.Store.Image(ctx, image)
	return described(img), err
}

// Images implements oci.Images.
func (u unpacked) Images(ctx context.Context) ([]runtime.Image, error) {
	found, err := u.Store.Images(ctx)
	all := make([]runtime.Image, len(found))
	for i, img := range found {
		all[i] = described(img)
	}
	return all, err
}

// Load makes the images of an archive present, as docker save writes it.
func (u unpacked) Load(ctx context.Context, archive io.Reader) error {
	_, err := u.Store.Load(ctx, archive)
	return err
}

func described(img store.Image) runtime.Image {
	return runtime.Image{
		Names: img.Names, ID: img.ID, Size: img.Size, Entrypoint: img.Entrypoint, Command: img.Command,
		Env: img.Env, WorkDir: img.WorkDir, Labels: img.Labels,
	}
}

// archives is the store as an engine with images of its own uses it: what
// registries have passes through and is not kept, and what another engine on this
// machine has is taken from there.
type archives struct {
	*store.Store
	beside saver
}

// Archive implements containerd.Source.
func (a archives) Archive(ctx context.Context, image string, progress func(runtime.PullProgress)) (io.ReadCloser, error) {
	if archive, err := a.beside.Save(ctx, image); err == nil {
		return archive, nil
	}
	return a.Store.Archive(ctx, image, reported(progress))
}

func reported(progress func(runtime.PullProgress)) func(store.Progress) {
	if progress == nil {
		return nil
	}
	return func(p store.Progress) { progress(runtime.PullProgress(p)) }
}

// keeper keeps the images of this machine's containers.
type keeper interface {
	Name() string
	Pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error
	Images(ctx context.Context) ([]runtime.Image, error)
	RemoveImage(ctx context.Context, image string) error
}

// openKeeper finds what keeps the images of the runtime that is asked for: an
// engine, or without one the store, which a running node has open meanwhile.
func openKeeper(ctx context.Context, cfg Config, log *slog.Logger) (keeper, func(), error) {
	for _, c := range candidates(cfg, log) {
		switch {
		case c.name == runtimeOCI:
			continue
		case c.name == cfg.Node.Runtime:
			d, release, err := c.open(ctx)
			return d, release, err
		case cfg.Node.Runtime == runtimeAuto && c.name != runtimeSimulated:
			if d, release, _, err := c.test(ctx); err == nil {
				return d, release, nil
			}
		}
	}
	images, err := openImages(cfg, log)
	return unpacked{Store: images}, func() {}, err
}
