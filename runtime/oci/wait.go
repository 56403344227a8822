package oci

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/framelog"
)

// Wait implements runtime.Driver.
func (d *Driver) Wait(ctx context.Context, id runtime.ID) (runtime.Exit, error) {
	c, err := d.find(id)
	if err != nil {
		return runtime.Exit{}, err
	}
	if life, _ := c.standing(); life == created {
		return runtime.Exit{}, runtime.NotStarted(id)
	}
	return d.wait(ctx, c)
}

func (d *Driver) wait(ctx context.Context, c *container) (runtime.Exit, error) {
	select {
	case <-c.over:
	case <-ctx.Done():
		return runtime.Exit{}, fmt.Errorf("wait for container: %w", context.Cause(ctx))
	}
	if _, err := d.outputs.Wait(ctx, c.id, 0); err != nil {
		return runtime.Exit{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == failed {
		return runtime.Exit{}, functions.Conflict("not_started", "container %s never ran: %s", c.id, c.failure)
	}
	return c.exit, nil
}

// Attach implements runtime.Driver. The output comes from the container's log:
// of one longer than Spec.LogSize the middle is gone.
func (d *Driver) Attach(ctx context.Context, id runtime.ID, streams runtime.Streams) error {
	c, err := d.find(id)
	if err != nil {
		return err
	}
	ctx, done := d.outputs.Begin(context.WithoutCancel(ctx), id)
	go func() {
		defer done()
		dropped, err := framelog.Follow(ctx, d.logFile(id), streams.Stdout, streams.Stderr, c.over)
		if err != nil && !errors.Is(err, context.Canceled) || dropped > 0 {
			d.config.Log.Warn("output of a container is not whole", "container", id, "bytes", dropped, "err", err)
		}
	}()
	return nil
}

// Stop implements runtime.Driver.
func (d *Driver) Stop(ctx context.Context, id runtime.ID, grace time.Duration) error {
	c, err := d.find(id)
	if err != nil {
		return nil // it is gone
	}
	life, w := c.standing()
	if life != starting && life != running || w == nil {
		return nil
	}
	if grace > 0 {
		if err := w.terminate(); err != nil {
			return fmt.Errorf("ask container to end: %w", err)
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-c.over:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("stop container: %w", context.Cause(ctx))
		case <-timer.C:
		}
	}
	if err := d.halt(ctx, c); err != nil {
		return fmt.Errorf("stop container: %w", err)
	}
	return nil
}
