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

// Load makes the images of an archive present, as docker save writes it.
func (d *Driver) Load(ctx context.Context, archive io.Reader) error {
	answer, err := d.engine.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err == nil {
		err = messages(answer.Body, nil)
		answer.Body.Close()
	}
	return translateError("load image", err)
}

// Image implements runtime.Driver.
func (d *Driver) Image(ctx context.Context, name string) (runtime.Image, error) {
	found, err := d.engine.ImageInspect(ctx, name)
	switch {
	case errdefs.IsNotFound(err):
		return runtime.Image{}, runtime.ImageMissing(name).WithCause(err)
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

// Save gives an image that is present as docker save writes it.
func (d *Driver) Save(ctx context.Context, name string) (io.ReadCloser, error) {
	if _, err := d.Image(ctx, name); err != nil {
		return nil, err
	}
	archive, err := d.engine.ImageSave(ctx, []string{name})
	if err != nil {
		return nil, translateError("save image "+name, err)
	}
	return archive, nil
}

// messages reads the engine's answer to its end and returns the error that it
// reports, if any: a failure after the first byte has no other place. each hears
// of every message; nil means nobody does.
func messages(answer io.Reader, each func(message)) error {
	for lines := json.NewDecoder(answer); ; {
		var m message
		if err := lines.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if m.Error != "" {
			return errors.New(m.Error)
		}
		if each != nil {
			each(m)
		}
	}
}

// message is one line of an answer: where a layer stands.
type message struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Progress struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
	Error string `json:"error"`
}
