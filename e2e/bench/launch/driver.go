package launch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/docker"
)

// driver is one of ours: open returns it with the image present, and what takes
// both away again.
type driver struct {
	name string
	open func(ctx context.Context, dir string, img *Image) (runtime.Driver, func() error, error)
}

var drivers = []driver{
	{"docker", openDocker},
	{"containerd", openContainerd},
	{"oci (crun)", openOCI("crun")},
	{"oci (runc)", openOCI("runc")},
}

func openDocker(ctx context.Context, _ string, img *Image) (runtime.Driver, func() error, error) {
	d, err := docker.New(docker.Config{})
	if err != nil {
		return nil, nil, err
	}
	if _, err := d.Probe(ctx); err != nil {
		return nil, nil, errors.Join(skip("%v", err), d.Close())
	}
	archive, err := os.Open(img.Archive)
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	defer archive.Close()
	if err := d.Load(ctx, archive); err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return d, func() error {
		return errors.Join(d.RemoveImage(context.WithoutCancel(ctx), img.Ref), d.Close())
	}, nil
}

// peer launches through the driver, with the hardened defaults that tasks have.
func (o driver) peer(ctx context.Context, dir string, img *Image) (*Peer, error) {
	d, closing, err := o.open(ctx, dir, img)
	if err != nil {
		return nil, err
	}
	what, err := d.Probe(ctx)
	if err != nil {
		return nil, errors.Join(err, closing())
	}
	return &Peer{Version: what, Close: closing, Once: func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		id, err := d.Create(ctx, runtime.Spec{
			Name: "spillway-bench-" + strings.ToLower(rand.Text()), Image: img.Ref, User: "65532:65532",
			MilliCPU: cpus * 1000, Memory: memory, Pids: pids, Network: functions.NetworkNone,
			Labels: map[string]string{runtime.LabelNode: "spillway-bench"},
		})
		if err != nil {
			return 0, err
		}
		took, err := untilExit(ctx, d, id, began)
		return took, errors.Join(err, d.Remove(context.WithoutCancel(ctx), id))
	}}, nil
}

// untilExit starts a container and waits for its end.
func untilExit(ctx context.Context, d runtime.Driver, id runtime.ID, began time.Time) (time.Duration, error) {
	if err := d.Start(ctx, id, runtime.Streams{}); err != nil {
		return 0, err
	}
	exit, err := d.Wait(ctx, id)
	took := time.Since(began)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("the container exited with %d", exit.Code)
	}
	return took, err
}
