package containerd

import (
	"context"
	"strconv"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// fullName is the name under which containerd keeps an image: with its registry
// and its tag, which a person need not write.
func fullName(image string) (string, error) {
	ref, err := reference.ParseDockerRef(image)
	if err != nil {
		return "", functions.Invalid("bad_image", "%q is not the name of an image", image).WithCause(err)
	}
	return ref.String(), nil
}

// shortName is a full name as a person writes it.
func shortName(full string) string {
	if ref, err := reference.ParseNormalizedNamed(full); err == nil {
		return reference.FamiliarString(ref)
	}
	return full
}

// find returns an image that is present.
func (d *Driver) find(ctx context.Context, name string) (client.Image, error) {
	full, err := fullName(name)
	if err != nil {
		return nil, err
	}
	img, err := d.engine.GetImage(ctx, full)
	switch {
	case errdefs.IsNotFound(err):
		return nil, runtime.ImageMissing(name)
	case err != nil:
		return nil, translateError("look for image "+name, err)
	}
	return img, nil
}

// Image implements runtime.Driver.
func (d *Driver) Image(ctx context.Context, name string) (runtime.Image, error) {
	ctx = d.in(ctx)
	found, err := d.find(ctx, name)
	if err != nil {
		return runtime.Image{}, err
	}
	described, err := d.describe(ctx, found)
	if err != nil {
		return runtime.Image{}, err
	}
	all, err := d.engine.ListImages(ctx, "target.digest=="+found.Target().Digest.String())
	if err != nil {
		return runtime.Image{}, translateError("list images", err)
	}
	for _, other := range all {
		if other.Name() != found.Name() {
			described.Names = append(described.Names, shortName(other.Name()))
		}
	}
	return described, nil
}

// Images implements runtime.Driver.
func (d *Driver) Images(ctx context.Context) ([]runtime.Image, error) {
	ctx = d.in(ctx)
	found, err := d.engine.ListImages(ctx)
	if err != nil {
		return nil, translateError("list images", err)
	}
	at := map[string]int{}
	var all []runtime.Image
	for _, f := range found {
		img, err := d.describe(ctx, f)
		if err != nil {
			d.log.Debug("image left out: it cannot be read", "image", f.Name(), "err", err)
			continue
		}
		if i, ok := at[img.ID]; ok {
			all[i].Names = append(all[i].Names, img.Names...)
			continue
		}
		at[img.ID] = len(all)
		all = append(all, img)
	}
	return all, nil
}

// describe reads what an image says of itself. Its size is that of its layers as
// they came and as they are unpacked, since containerd keeps both.
func (d *Driver) describe(ctx context.Context, found client.Image) (runtime.Image, error) {
	config, err := found.Config(ctx)
	if err != nil {
		return runtime.Image{}, translateError("read image "+found.Name(), err)
	}
	says, err := found.Spec(ctx)
	if err != nil {
		return runtime.Image{}, translateError("read image "+found.Name(), err)
	}
	size, err := found.Usage(ctx, client.WithSnapshotUsage())
	if err != nil {
		return runtime.Image{}, translateError("read the size of image "+found.Name(), err)
	}
	c := says.Config
	return runtime.Image{
		Names: []string{shortName(found.Name())}, ID: config.Digest.String(), Size: functions.Bytes(size),
		Entrypoint: c.Entrypoint, Command: c.Cmd, Env: c.Env, WorkDir: c.WorkingDir, Labels: c.Labels,
	}, nil
}

// RemoveImage implements runtime.Driver.
func (d *Driver) RemoveImage(ctx context.Context, name string) error {
	ctx = d.in(ctx)
	full, err := fullName(name)
	if err != nil {
		return err
	}
	users, err := d.engine.ContainerService().List(ctx, "image=="+strconv.Quote(full))
	if err != nil {
		return translateError("look who uses image "+name, err)
	}
	if len(users) > 0 {
		return functions.Conflict("image_in_use", "image %s is used by a container", name)
	}
	err = d.engine.ImageService().Delete(ctx, full, images.SynchronousDelete())
	if errdefs.IsNotFound(err) {
		return nil
	}
	return translateError("remove image "+name, err)
}
