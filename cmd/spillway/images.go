package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/spillway/spillway/cmd/spillway/localimages"
	"github.com/spillway/spillway/images/store"
	"github.com/spillway/spillway/runtime"
)

// openImages opens the store of images of this machine's node, which several
// processes may have open.
func openImages(cfg Config, log *slog.Logger) (*store.Store, error) {
	keys, err := registryKeys(cfg.Node)
	if err != nil {
		return nil, err
	}
	return store.Open(store.Config{Dir: filepath.Join(cfg.Data, "node", "images"), Auth: keys, Log: log})
}

// kept is the store beside the runtimes: what keeps images where no engine does.
type kept struct{ localimages.Unpacked }

// Name is that of the driver.
func (kept) Name() string { return runtimeOCI }

// keeper keeps the images of this machine's containers.
type keeper interface {
	Name() string
	Pull(ctx context.Context, image string, progress func(runtime.PullProgress)) error
	Images(ctx context.Context) ([]runtime.Image, error)
	RemoveImage(ctx context.Context, image string) error
}

// openKeeper finds what keeps the images of the runtime that is asked for: an
// engine, or without one the store, which a running node has open meanwhile.
func openKeeper(ctx context.Context, cfg Config, log *slog.Logger) (keeper, func(), error) {
	for _, c := range candidates(cfg, log) {
		switch {
		case c.name == runtimeOCI:
			continue
		case c.name == cfg.Node.Runtime:
			d, release, err := c.open(ctx)
			return d, release, err
		case cfg.Node.Runtime == runtimeAuto && c.name != runtimeSimulated:
			if d, release, _, err := c.test(ctx); err == nil {
				return d, release, nil
			}
		}
	}
	images, err := openImages(cfg, log)
	return kept{localimages.Unpacked{Store: images}}, func() {}, err
}
