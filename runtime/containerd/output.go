package containerd

import (
	"errors"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/framelog"
)

// follow copies a container's output in the background, from its log's
// beginning to its end. The log is written whether somebody follows or not.
func (d *Driver) follow(id runtime.ID, streams runtime.Streams) {
	ctx, done := d.outputs.Begin(d.alive, id)
	ended := make(chan struct{})
	d.work.Go(func() {
		defer close(ended)
		for pause := firstPause; ; pause = min(2*pause, longestPause) {
			// Without a conflict it has exited or is gone: no more comes.
			if _, err := d.exited(d.in(ctx), id); !errors.Is(err, functions.ErrConflict) || !functions.Sleep(ctx, pause) {
				return
			}
		}
	})
	d.work.Go(func() {
		defer done()
		dropped, err := framelog.Follow(ctx, d.folder(id).log(), streams.Stdout, streams.Stderr, ended)
		if err != nil && ctx.Err() == nil {
			d.log.Error("output of a container cannot be read", "container", id, "err", err)
		}
		if dropped > 0 {
			d.log.Warn("output of a container was over its limit", "container", id, "dropped", dropped)
		}
	})
}

// forget stops the copying for a container that is gone.
func (d *Driver) forget(id runtime.ID) {
	d.mu.Lock()
	delete(d.reaping, id)
	d.mu.Unlock()
	d.outputs.Forget(id)
}
