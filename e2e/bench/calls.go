package main

import (
	"context"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// start is the time from the process's start to its ready file, on empty data
// and once more on the same.
func (b *bench) start(ctx context.Context) error {
	began := time.Now()
	srv, err := b.serve(ctx, "start", "--runtime", "simulated")
	if err != nil {
		return err
	}
	defer func() { srv.Kill() }()
	b.figure("empty data folder to ready", ms(time.Since(began)), "ms")
	srv.Kill()
	began = time.Now()
	if err := srv.Restart(ctx); err != nil {
		return err
	}
	b.figure("kill -9, restart to ready", ms(time.Since(began)), "ms")
	return nil
}

// latency is one client, one call at a time: the whole way of a task whose
// container takes no time.
func (b *bench) latency(ctx context.Context) error {
	srv, err := b.serve(ctx, "latency", "--runtime", "simulated")
	if err != nil {
		return err
	}
	defer srv.Kill()
	if err := deploy(ctx, srv, "fn", "never"); err != nil {
		return err
	}
	var whole []float64
	phases := map[string][]float64{}
	for i := range 2100 {
		began := time.Now()
		_, header, _, err := srv.Call(ctx, "POST", "/v1/functions/fn/invoke", map[string]string{"Content-Type": "application/json"}, strings.NewReader(`{"sleep_ms":0}`))
		took := time.Since(began)
		if err != nil {
			return err
		}
		if i < 100 {
			continue // warm-up
		}
		task, err := srv.Task(ctx, functions.TaskID(header.Get("Spillway-Task-Id")))
		if err != nil {
			return err
		}
		whole = append(whole, ms(took))
		for phase, took := range task.Timings {
			phases[phase] = append(phases[phase], took)
		}
	}
	b.spread("sync call, request to result", whole)
	b.spread("  durably accepted to assigned (queue)", phases["queue"])
	for _, p := range []string{"stage", "launch", "run", "collect"} {
		b.spread("  "+p, phases[p])
	}
	return nil
}

// throughput is many clients and as many places.
func (b *bench) throughput(ctx context.Context) error {
	srv, err := b.serve(ctx, "throughput", "--runtime", "simulated", "--max-tasks", "64", "--cpus", "64")
	if err != nil {
		return err
	}
	defer srv.Kill()
	if err := deploy(ctx, srv, "fn", "never"); err != nil {
		return err
	}
	const calls = 3200
	before := cpu(srv.Pid())
	rate, took, err := load(ctx, 64, calls, func() (*wire, error) {
		return dial(ctx, srv.Gateway, "/v1/functions/fn/invoke", `{"sleep_ms":20}`)
	})
	if err != nil {
		return err
	}
	b.figure("tasks, end to end, 64 clients, 64 places", rate, "per second")
	b.figure("  processor time of the server, per task", ms((cpu(srv.Pid())-before)/calls), "ms")
	b.spread("  answer time of a call that waits for its result", took)
	return nil
}
