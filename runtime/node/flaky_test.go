package node

import (
	"context"
	"sync/atomic"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// flakyDriver breaks off the first wait when cut is closed, as an engine that
// goes down does.
type flakyDriver struct {
	*runtimetest.Fake
	cut   chan struct{}
	waits atomic.Int32
}

func (d *flakyDriver) Wait(ctx context.Context, id runtime.ID) (runtime.Exit, error) {
	if d.waits.Add(1) > 1 {
		return d.Fake.Wait(ctx, id)
	}
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-d.cut:
			cancel()
		case <-stop:
		}
	}()
	exit, err := d.Fake.Wait(bounded, id)
	if err != nil && ctx.Err() == nil {
		err = functions.Unavailable("engine_unreachable", "unexpected EOF")
	}
	return exit, err
}
