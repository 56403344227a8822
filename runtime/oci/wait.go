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
	return c.wait(ctx)
}

func (c *container) wait(ctx context.Context) (runtime.Exit, error) {
	select {
	case <-c.over:
	case <-ctx.Done():
		return runtime.Exit{}, fmt.Errorf("wait for container: %w", context.Cause(ctx))
	}
	for _, o := range c.copies() {
		select {
		case <-o.done:
		case <-ctx.Done():
			return runtime.Exit{}, fmt.Errorf("wait for output: %w", context.Cause(ctx))
		}
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
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	o := &output{cancel: cancel, done: make(chan struct{})}
	c.mu.Lock()
	c.outputs = append(c.outputs, o)
	c.mu.Unlock()
	go func() {
		defer close(o.done)
		defer cancel()
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
