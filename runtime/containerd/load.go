package containerd

import (
	"context"
	"io"

	"github.com/containerd/containerd/v2/client"

	"github.com/spillway/spillway/functions"
)

// Load makes the images of an archive present, as docker save writes it.
func (d *Driver) Load(ctx context.Context, archive io.Reader) error {
	ctx = d.in(ctx)
	brought, err := d.engine.Import(ctx, archive)
	if err != nil {
		return translateError("load images", err)
	}
	if len(brought) == 0 {
		return functions.Invalid("no_images", "the archive names no image")
	}
	for _, img := range brought {
		if err := d.unpack(ctx, client.NewImage(d.engine, img)); err != nil {
			return err
		}
	}
	return nil
}
