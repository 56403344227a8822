package containerd

import (
	"context"
	"errors"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/framelog"
)

// output is one copying of a container's output. It ends with the container,
// or by stop.
type output struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when everything is copied
}

func (o *output) stop() {
	o.cancel()
	<-o.done
}

// follow copies a container's output in the background, from its log's
// beginning to its end. The log is written whether somebody follows or not.
func (d *Driver) follow(id runtime.ID, streams runtime.Streams) {
	ctx, cancel := context.WithCancel(d.alive)
	out := &output{cancel: cancel, done: make(chan struct{})}
	d.mu.Lock()
	d.outputs[id] = append(d.outputs[id], out)
	d.mu.Unlock()
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
		defer close(out.done)
		defer cancel()
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
	outs := d.outputs[id]
	delete(d.outputs, id)
	delete(d.reaping, id)
	d.mu.Unlock()
	for _, out := range outs {
		out.stop()
	}
}
