package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spillway/spillway/e2e/harness"
)

// backlog fills the queue with tasks that cannot start, and restarts on it.
func (b *bench) backlog(ctx context.Context) error {
	srv, err := b.serve(ctx, "backlog", "--runtime", "simulated")
	if err != nil {
		return err
	}
	defer func() { srv.Kill() }()
	if err := deploy(ctx, srv, "fn", "required"); err != nil {
		return err
	}
	if err := deploy(ctx, srv, "free", "never"); err != nil {
		return err
	}
	open := func() (*wire, error) {
		return dial(ctx, srv.Gateway, "/v1/functions/fn/invoke", `{"n":1}`, "Prefer: respond-async")
	}
	before, used := rss(srv.Pid()), cpu(srv.Pid())
	rate, took, err := load(ctx, 64, b.enqueue, open)
	if err != nil {
		return err
	}
	b.figure(fmt.Sprintf("accept %d tasks over HTTP, 64 clients, durable", b.enqueue), rate, "per second")
	b.figure("  processor time of the server, per task", ms((cpu(srv.Pid())-used)/time.Duration(b.enqueue))*1000, "us")
	b.spread("  answer time", took)
	if b.queued > b.enqueue {
		if _, _, err := load(ctx, 64, b.queued-b.enqueue, open); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := settled(ctx, srv); err != nil {
		return err
	}
	b.figure("  until all of them can be listed", ms(time.Since(began)), "ms")
	after := rss(srv.Pid())
	b.figure(fmt.Sprintf("memory of the process with %d queued tasks", b.queued), float64(after)/(1<<20), "MiB")
	b.figure("  per task, over the idle process", float64(after-before)/float64(b.queued), "B")
	srv.Kill()
	began = time.Now()
	if err := srv.Restart(ctx); err != nil {
		return err
	}
	b.figure("kill -9, restart to ready, same queue", ms(time.Since(began)), "ms")
	if _, _, _, err := srv.Call(ctx, "POST", "/v1/functions/free/invoke", map[string]string{"Content-Type": "application/json"}, strings.NewReader(`{"sleep_ms":0}`)); err != nil {
		return err
	}
	b.figure("  to the end of a new task, behind the new leader's fill", ms(time.Since(began)), "ms")
	b.figure("  memory then", float64(rss(srv.Pid()))/(1<<20), "MiB")
	return nil
}

// settled waits until the newest accepted task can be listed.
func settled(ctx context.Context, srv *harness.Server) error {
	id, err := srv.Submit(ctx, "fn", `{}`, nil)
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := srv.Task(ctx, id); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
