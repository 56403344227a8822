// Package localimages is this machine's store of images as the drivers use it,
// which know nothing of images themselves.
package localimages

import (
	"context"
	"io"

	"github.com/spillway/spillway/images/store"
	"github.com/spillway/spillway/runtime"
)

// Saver is an engine on this machine that may have images already.
type Saver interface {
	// Save is ErrNotFound for an image that is not there, ErrUnavailable without an
	// engine.
	Save(ctx context.Context, image string) (io.ReadCloser, error)
}

// Unpacked is the store as a driver without an engine uses it. What an engine
// beside it has is taken from there and not from a registry.
type Unpacked struct {
	*store.Store
	Beside Saver // nil = nobody is asked
}

// Pull implements oci.Images.
func (u Unpacked) Pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error {
	if _, err := u.Store.Image(ctx, image); err == nil {
		return nil
	}
	archive := u.saved(ctx, image)
	if archive == nil {
		return u.Store.Pull(ctx, image, reported(progress))
	}
	defer archive.Close()
	return u.Load(ctx, archive)
}

func (u Unpacked) saved(ctx context.Context, image string) io.ReadCloser {
	if u.Beside == nil {
		return nil
	}
	archive, err := u.Beside.Save(ctx, image)
	if err != nil {
		return nil // a registry may have it
	}
	return archive
}

// Image implements oci.Images.
func (u Unpacked) Image(ctx context.Context, image string) (runtime.Image, error) {
	img, err := u.Store.Image(ctx, image)
	return described(img), err
}

// Images implements oci.Images.
func (u Unpacked) Images(ctx context.Context) ([]runtime.Image, error) {
	found, err := u.Store.Images(ctx)
	all := make([]runtime.Image, len(found))
	for i, img := range found {
		all[i] = described(img)
	}
	return all, err
}

// Load makes the images of an archive present, as docker save writes it.
func (u Unpacked) Load(ctx context.Context, archive io.Reader) error {
	_, err := u.Store.Load(ctx, archive)
	return err
}

// Archives is the store as an engine with images of its own uses it: what
// registries have passes through and is not kept, and what another engine on this
// machine has is taken from there.
type Archives struct {
	*store.Store
	Beside Saver
}

// Archive implements containerd.Source.
func (a Archives) Archive(ctx context.Context, image string, progress func(runtime.PullProgress)) (io.ReadCloser, error) {
	if archive, err := a.Beside.Save(ctx, image); err == nil {
		return archive, nil
	}
	return a.Store.Archive(ctx, image, reported(progress))
}

func described(img store.Image) runtime.Image {
	return runtime.Image{
		Names: img.Names, ID: img.ID, Size: img.Size, Entrypoint: img.Entrypoint, Command: img.Command,
		Env: img.Env, WorkDir: img.WorkDir, Labels: img.Labels,
	}
}

func reported(progress func(runtime.PullProgress)) func(store.Progress) {
	if progress == nil {
		return nil
	}
	return func(p store.Progress) { progress(runtime.PullProgress(p)) }
}
