package containerd

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"

	"github.com/spillway/spillway/runtime"
)

// List implements runtime.Driver.
func (d *Driver) List(ctx context.Context, labels map[string]string) ([]runtime.Info, error) {
	ctx = d.in(ctx)
	found, err := d.engine.ContainerService().List(ctx, filter(labels)...)
	if err != nil {
		return nil, translateError("list containers", err)
	}
	if len(found) == 0 {
		return nil, nil
	}
	running, err := d.engine.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, translateError("list what runs", err)
	}
	status := make(map[string]task.Status, len(running.Tasks))
	for _, t := range running.Tasks {
		status[t.ID] = t.Status
	}
	infos := make([]runtime.Info, len(found))
	for i, c := range found {
		id := runtime.ID(c.ID)
		state, err := d.state(ctx, id, status[c.ID])
		if err != nil {
			return nil, translateError("look at container", err)
		}
		infos[i] = runtime.Info{ID: id, Name: c.ID, Labels: c.Labels, State: state}
	}
	return infos, nil
}

// state is where a container stands. The status is unknown where there is no
// process of it and no shim, but also where its shim was slow to answer.
func (d *Driver) state(ctx context.Context, id runtime.ID, s task.Status) (runtime.ContainerState, error) {
	f := d.folder(id)
	if _, ended := f.ended(); ended {
		return runtime.Exited, nil
	}
	started := !f.startedAt().IsZero()
	if s == task.Status_UNKNOWN && started {
		now, err := d.look(ctx, id)
		if errdefs.IsNotFound(err) {
			return runtime.Exited, nil
		} else if err != nil {
			return "", err
		}
		s = now.Status
	}
	switch {
	case !started, s == task.Status_CREATED: // the start failed, or is under way
		return runtime.Created, nil
	case s == task.Status_STOPPED:
		return runtime.Exited, nil
	}
	return runtime.Up, nil
}

// filter says that a container has all these labels.
func filter(labels map[string]string) []string {
	if len(labels) == 0 {
		return nil
	}
	var each []string
	for k, v := range labels {
		each = append(each, "labels."+strconv.Quote(k)+"=="+strconv.Quote(v))
	}
	return []string{strings.Join(each, ",")}
}

// Usage implements runtime.Driver.
func (d *Driver) Usage(ctx context.Context, id runtime.ID) (runtime.Usage, error) {
	usage, err := d.cgroups.Usage(d.group(id))
	if !errors.Is(err, fs.ErrNotExist) {
		return usage, err
	}
	ctx = d.in(ctx)
	if _, err := d.engine.ContainerService().Get(ctx, string(id)); errdefs.IsNotFound(err) {
		return runtime.Usage{}, runtime.ContainerMissing(id)
	} else if err != nil {
		return runtime.Usage{}, translateError("read what container uses", err)
	}
	return runtime.Usage{}, nil // nothing of it runs
}
