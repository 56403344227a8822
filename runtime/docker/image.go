package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// Pull implements runtime.Driver.
func (d *Driver) Pull(ctx context.Context, name string, progress func(runtime.PullProgress)) error {
	_, err := d.engine.ImageInspect(ctx, name)
	switch {
	case err == nil:
		return nil
	case !errdefs.IsNotFound(err):
		return translateError("look for image "+name, err)
	}
	answer, err := d.engine.ImagePull(ctx, name, image.PullOptions{})
	if err == nil {
		err = messages(answer)
		answer.Close()
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil, client.IsErrConnectionFailed(err):
		return translateError("pull image "+name, err)
	case errdefs.IsInvalidArgument(err):
		return functions.Invalid("bad_image", "%q is not the name of an image", name).WithCause(err)
	case errdefs.IsNotFound(err):
		return imageMissing(name, err)
	}
	return functions.Unavailable("image_pull", "image %s is not on the node and cannot be pulled", name).
		WithHint("check that the node reaches the registry, or load the image there").WithCause(err)
}

// Load makes the images of an archive present, as docker save writes it.
func (d *Driver) Load(ctx context.Context, archive io.Reader) error {
	answer, err := d.engine.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err == nil {
		err = messages(answer.Body)
		answer.Body.Close()
	}
	return translateError("load image", err)
}

// Image implements runtime.Driver.
func (d *Driver) Image(ctx context.Context, name string) (runtime.Image, error) {
	found, err := d.engine.ImageInspect(ctx, name)
	switch {
	case errdefs.IsNotFound(err):
		return runtime.Image{}, imageMissing(name, err)
	case err != nil:
		return runtime.Image{}, translateError("look for image "+name, err)
	}
	img := runtime.Image{Names: found.RepoTags, ID: found.ID, Size: functions.Bytes(found.Size)}
	if c := found.Config; c != nil {
		img.Entrypoint, img.Command, img.Env, img.WorkDir, img.Labels = c.Entrypoint, c.Cmd, c.Env, c.WorkingDir, c.Labels
	}
	return img, nil
}

// Images implements runtime.Driver. Of each image it tells the names, the ID,
// the size and the labels.
func (d *Driver) Images(ctx context.Context) ([]runtime.Image, error) {
	found, err := d.engine.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, translateError("list images", err)
	}
	all := make([]runtime.Image, len(found))
	for i, f := range found {
		all[i] = runtime.Image{Names: f.RepoTags, ID: f.ID, Size: functions.Bytes(f.Size), Labels: f.Labels}
	}
	return all, nil
}

// RemoveImage implements runtime.Driver.
func (d *Driver) RemoveImage(ctx context.Context, name string) error {
	_, err := d.engine.ImageRemove(ctx, name, image.RemoveOptions{})
	switch {
	case err == nil, errdefs.IsNotFound(err):
		return nil
	case errdefs.IsConflict(err):
		return functions.Conflict("image_in_use", "image %s is used by a container", name).WithCause(err)
	}
	return translateError("remove image "+name, err)
}

// messages reads the engine's answer to its end and returns the error that it
// reports, if any: a failure after the first byte has no other place.
func messages(answer io.Reader) error {
	for lines := json.NewDecoder(answer); ; {
		var line struct {
			Error string `json:"error"`
		}
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if line.Error != "" {
			return errors.New(line.Error)
		}
	}
}
