package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/spillway/spillway/functions"
)

// Pull implements runtime.Driver.
func (d *Driver) Pull(ctx context.Context, name string) error {
	_, err := d.engine.ImageInspect(ctx, name)
	switch {
	case err == nil:
		return nil
	case !errdefs.IsNotFound(err):
		return translateError("look for image "+name, err)
	}
	progress, err := d.engine.ImagePull(ctx, name, image.PullOptions{})
	if err == nil {
		err = messages(progress)
		progress.Close()
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

// Images lists the names of the images that are present.
func (d *Driver) Images(ctx context.Context) ([]string, error) {
	found, err := d.engine.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, translateError("list images", err)
	}
	var names []string
	for _, i := range found {
		names = append(names, i.RepoTags...)
	}
	slices.Sort(names)
	return names, nil
}

// RemoveImage takes a name from an image, and the image with its last name.
// Removing what is gone succeeds.
func (d *Driver) RemoveImage(ctx context.Context, name string) error {
	_, err := d.engine.ImageRemove(ctx, name, image.RemoveOptions{Force: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return translateError("remove image "+name, err)
}

// messages reads the engine's progress to its end and returns the error that it
// reports, if any: a failure after the first byte has no other place.
func messages(progress io.Reader) error {
	for lines := json.NewDecoder(progress); ; {
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
