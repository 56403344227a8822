package launch

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spillway/spillway/cmd/spillway/localimages"
	"github.com/spillway/spillway/e2e/bench/measure"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/store"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/cgroups"
	"github.com/spillway/spillway/runtime/containerd"
	"github.com/spillway/spillway/runtime/entry"
	"github.com/spillway/spillway/runtime/oci"
)

// openContainerd opens the driver on a containerd of its own.
func openContainerd(ctx context.Context, dir string, img *Image) (runtime.Driver, func() error, error) {
	program, err := entryProgram(dir)
	if err != nil {
		return nil, nil, err
	}
	const namespace = "spillway-bench"
	e, err := startContainerd(ctx, filepath.Join(dir, "cd"), namespace)
	if err != nil {
		return nil, nil, err
	}
	d, err := containerd.New(containerd.Config{
		Address: e.socket, Namespace: namespace, StateDir: filepath.Join(dir, "cd-state"), Program: program, Source: archiveOf{img},
	})
	if err == nil {
		if err = d.Pull(ctx, img.Ref, nil); err != nil {
			err = errors.Join(err, d.Close())
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, e.stop(ctx))
	}
	return d, func() error { return errors.Join(d.Close(), e.stop(ctx)) }, nil
}

// archiveOf is where containerd gets the one image from.
type archiveOf struct{ img *Image }

// Archive implements containerd.Source.
func (a archiveOf) Archive(_ context.Context, image string, _ func(runtime.PullProgress)) (io.ReadCloser, error) {
	if image != a.img.Ref {
		return nil, functions.NotFound("no_image", "there is no image %s", image)
	}
	return os.Open(a.img.Archive)
}

// openOCI opens the driver that has no engine, on one of the runtimes.
func openOCI(name string) func(context.Context, string, *Image) (runtime.Driver, func() error, error) {
	return func(ctx context.Context, dir string, img *Image) (runtime.Driver, func() error, error) {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, nil, skip("%v", err)
		}
		program, err := entryProgram(dir)
		if err != nil {
			return nil, nil, err
		}
		archive, err := os.Open(img.Archive)
		if err != nil {
			return nil, nil, err
		}
		defer archive.Close()
		images, err := store.Open(store.Config{Dir: filepath.Join(dir, "images-"+name)})
		if err != nil {
			return nil, nil, err
		}
		kept := localimages.Unpacked{Store: images}
		if err := kept.Load(ctx, archive); err != nil {
			return nil, nil, err
		}
		memory, err := InMemory("oci-" + name)
		if err != nil {
			return nil, nil, err
		}
		groups, err := cgroups.Find()
		if err != nil {
			return nil, nil, errors.Join(measure.ErrSkip, err, os.RemoveAll(memory))
		}
		parent := "spillway-bench-" + name
		d, err := oci.Open(ctx, oci.Config{
			Dir: memory, Logs: filepath.Join(dir, "logs-"+name), Program: program, Images: kept, Runtime: path, Cgroup: parent,
		})
		if err != nil {
			return nil, nil, errors.Join(measure.ErrSkip, err, os.RemoveAll(memory))
		}
		return d, func() error { return errors.Join(d.Close(), os.RemoveAll(memory), groups.Remove(parent)) }, nil
	}
}

// entryProgram is what starts first in the containers of these drivers.
func entryProgram(dir string) (string, error) {
	path, err := entry.Install(filepath.Join(dir, "entry"))
	if errors.Is(err, functions.ErrUnavailable) {
		return "", skip("%v", err)
	}
	return path, err
}

// InMemory makes a folder that is not on a disk, as /run is on a usual host: the
// oci runtime is the quickest there.
func InMemory(name string) (string, error) {
	return os.MkdirTemp("/dev/shm", "spillway-bench-"+name+"-")
}
