package containerd

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/identifiers"
	"github.com/containerd/errdefs"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/cdi"
	"github.com/spillway/spillway/runtime/entry"
)

// cleanLimit bounds the removal of what a launch that failed has left.
const cleanLimit = 30 * time.Second

// Create implements runtime.Driver. All that takes long is done here: the file
// system, containerd's shim, the sandbox and its hooks, so that a GPU that does
// not answer is found here as well. The program itself waits for Start. When ctx
// ends meanwhile, nothing remains.
func (d *Driver) Create(ctx context.Context, spec runtime.Spec) (runtime.ID, error) {
	ctx = d.in(ctx)
	id := runtime.ID(cmp.Or(spec.Name, "spillway-"+strings.ToLower(rand.Text())))
	devices := false
	err := d.reserve(id, func() (err error) {
		if err := d.absent(ctx, id); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, d.clean(ctx, id))
			}
		}()
		c, err := d.prepare(ctx, id, spec)
		if err != nil {
			return err
		}
		devices = len(spec.GPUs) > 0
		_, err = c.NewTask(ctx, cio.LogURI(entry.LogURI(d.cfg.Program, d.folder(id).log(), spec.WithDefaults().LogSize)))
		return err
	})
	if err != nil {
		return "", launchError(ctx, runtime.StageCreate, err, devices)
	}
	return id, nil
}

// reserve runs make while no other Create of the same name does.
func (d *Driver) reserve(id runtime.ID, make func() error) error {
	d.mu.Lock()
	if d.creating[id] {
		d.mu.Unlock()
		return runtime.NameInUse(string(id))
	}
	d.creating[id] = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.creating, id)
	}()
	return make()
}

// absent is a conflict when there is a container of this name.
func (d *Driver) absent(ctx context.Context, id runtime.ID) error {
	if err := identifiers.Validate(string(id)); err != nil {
		return functions.Invalid("bad_container_name", "%q cannot be the name of a container", id).
			WithHint("use letters and digits, with single dots, dashes and underscores between them, 76 at most").WithCause(err)
	}
	_, err := d.engine.ContainerService().Get(ctx, string(id))
	switch {
	case errdefs.IsNotFound(err):
		return nil
	case err != nil:
		return err
	}
	return runtime.NameInUse(string(id))
}

// prepare makes all of a container but its processes.
func (d *Driver) prepare(ctx context.Context, id runtime.ID, spec runtime.Spec) (client.Container, error) {
	img, err := d.find(ctx, spec.Image)
	if err != nil {
		return nil, err
	}
	says, err := img.Spec(ctx)
	if err != nil {
		return nil, err
	}
	c := says.Config
	oci, err := d.translate(id, spec, runtime.Image{Entrypoint: c.Entrypoint, Command: c.Cmd, Env: c.Env, WorkDir: c.WorkingDir})
	if err != nil {
		return nil, err
	}
	dirs := d.cfg.CDIDirs
	if dirs == nil {
		dirs = cdi.DefaultDirs()
	}
	if err := cdi.Inject(oci, dirs, cdi.Devices(spec)); err != nil {
		return nil, err
	}
	if err := d.folder(id).make(); err != nil {
		return nil, err
	}
	snapshotter, err := d.useSnapshotter(ctx)
	if err != nil {
		return nil, err
	}
	if ok, err := img.IsUnpacked(ctx, snapshotter); err != nil {
		return nil, err
	} else if !ok { // it came by another way than Pull
		if err := d.unpack(ctx, img); err != nil {
			return nil, err
		}
	}
	// The lease keeps the snapshot until the container refers to it.
	ctx, release, err := d.engine.WithLease(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := release(context.WithoutCancel(ctx)); err != nil {
			d.log.Debug("lease not given back; it ends by itself", "container", id, "err", err)
		}
	}()
	return d.engine.NewContainer(ctx, string(id),
		client.WithRuntime(runcRuntime, nil), client.WithContainerLabels(spec.Labels), client.WithSnapshotter(snapshotter),
		client.WithNewSnapshot(string(id), img), client.WithSpec(oci))
}

// clean removes what a failed launch left, whatever became of its ctx.
func (d *Driver) clean(ctx context.Context, id runtime.ID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	return d.erase(ctx, id)
}

// group is the container's cgroup.
func (d *Driver) group(id runtime.ID) string {
	return "/spillway/" + d.cfg.Namespace + "/" + string(id)
}

// Start implements runtime.Driver. When ctx ends meanwhile, the program may have
// begun.
func (d *Driver) Start(ctx context.Context, id runtime.ID, io runtime.Streams) error {
	ctx = d.in(ctx)
	began := false
	err := func() error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f := d.folder(id)
		if err := f.begin(io.Stdin, time.Now()); err != nil {
			if !errors.Is(err, functions.ErrNotFound) {
				return err
			}
			_, gone := d.look(ctx, id)
			return cmp.Or(gone, err)
		}
		began = true
		_, err := d.engine.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: string(id)})
		if err != nil && ctx.Err() == nil {
			err = errors.Join(err, f.unbegin())
		}
		return err
	}()
	if err != nil {
		return launchError(ctx, runtime.StageStart, err, began)
	}
	d.follow(id, io)
	return nil
}

// Attach implements runtime.Driver. The output comes from the log that the entry
// program keeps: what was over Spec.LogSize is gone.
func (d *Driver) Attach(ctx context.Context, id runtime.ID, io runtime.Streams) error {
	ctx = d.in(ctx)
	_, err := d.engine.ContainerService().Get(ctx, string(id))
	switch {
	case errdefs.IsNotFound(err):
		return runtime.ContainerMissing(id)
	case err != nil:
		return translateError(fmt.Sprintf("attach to container %s", id), err)
	}
	d.follow(id, io)
	return nil
}
