package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spillway/spillway/e2e/bench/queue"
	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// spillwayQueue is this project in the comparison of queues: tasks over HTTP to
// simulated containers that take no time.
type spillwayQueue struct {
	b    *bench
	srv  *harness.Server
	used int // servers that only took tasks
}

// noop leaves no result, as the tasks of the other queues.
const noop = `{"sleep_ms":0,"mute":true}`

func (b *bench) openSpillway(ctx context.Context) (*queue.Peer, error) {
	srv, err := b.serve(ctx, "queue", "--runtime", "simulated", "--max-tasks", "64", "--cpus", "64")
	if err != nil {
		return nil, err
	}
	if err := deploy(ctx, srv, "fn", "never"); err != nil {
		return nil, errors.Join(err, srv.Stop(20*time.Second))
	}
	q := &spillwayQueue{b: b, srv: srv}
	return &queue.Peer{
		Name: "Spillway", Note: "64 places, simulated containers",
		Do: q.do, Close: func() error { return srv.Stop(20 * time.Second) },
	}, nil
}

func (q *spillwayQueue) do(ctx context.Context, c queue.Command) (queue.Answer, error) {
	switch c.Do {
	case queue.Enqueue:
		return q.enqueue(ctx, c)
	case queue.Drain:
		return q.drain(ctx, c)
	case queue.Latency:
		return q.latency(ctx, c)
	}
	return queue.Answer{}, fmt.Errorf("there is no command %q", c.Do)
}

// enqueue takes tasks that wait for a GPU which is not there, on a server of
// its own.
func (q *spillwayQueue) enqueue(ctx context.Context, c queue.Command) (a queue.Answer, err error) {
	q.used++
	srv, err := q.b.serve(ctx, fmt.Sprintf("enqueue-%d", q.used), "--runtime", "simulated")
	if err != nil {
		return a, err
	}
	defer srv.Kill()
	if err := deploy(ctx, srv, "waits", "required"); err != nil {
		return a, err
	}
	rate, _, err := load(ctx, c.Clients, c.N, func() (*wire, error) {
		return dial(ctx, srv.Gateway, "/v1/functions/waits/invoke", noop, "Prefer: respond-async")
	})
	if err != nil {
		return a, err
	}
	a.EnqueueSeconds = float64(c.N) / rate
	return a, nil
}

func (q *spillwayQueue) drain(ctx context.Context, c queue.Command) (a queue.Answer, err error) {
	before, err := finished(ctx, q.srv)
	if err != nil {
		return a, err
	}
	began := time.Now()
	_, _, err = load(ctx, c.Clients, c.N, func() (*wire, error) {
		return dial(ctx, q.srv.Gateway, "/v1/functions/fn/invoke", noop, "Prefer: respond-async")
	})
	if err != nil {
		return a, err
	}
	a.EnqueueSeconds = time.Since(began).Seconds()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := finished(ctx, q.srv)
		if err != nil {
			return a, err
		}
		if now-before >= c.N {
			a.TotalSeconds = time.Since(began).Seconds()
			return a, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return a, context.Cause(ctx)
		}
	}
}

// finished is how many tasks the server has ended, by its own counters.
func finished(ctx context.Context, srv *harness.Server) (int, error) {
	_, _, text, err := srv.Call(ctx, "GET", "/metrics", nil, nil)
	if err != nil {
		return 0, err
	}
	sum := 0
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("spillway_tasks_finished_total{")) {
			var n float64
			if _, err := fmt.Sscan(string(line[bytes.LastIndexByte(line, ' ')+1:]), &n); err != nil {
				return 0, fmt.Errorf("read the metrics: %w", err)
			}
			sum += int(n)
		}
	}
	return sum, nil
}

// latency is from the call to the start of the container, which the task's
// record has: when it was assigned, and how long each phase took up to there.
func (q *spillwayQueue) latency(ctx context.Context, c queue.Command) (a queue.Answer, err error) {
	type sent struct {
		id functions.TaskID
		at time.Time
	}
	var (
		mu     sync.Mutex // guards all and failed
		all    []sent
		failed error
		wg     sync.WaitGroup
	)
	began := time.Now()
	for i := range c.N {
		time.Sleep(time.Until(began.Add(time.Duration(float64(i) / c.PerSecond * float64(time.Second)))))
		wg.Go(func() {
			at := time.Now()
			id, err := q.srv.Submit(ctx, "fn", noop, nil)
			mu.Lock()
			defer mu.Unlock()
			all, failed = append(all, sent{id, at}), errors.Join(failed, err)
		})
	}
	wg.Wait()
	if failed != nil {
		return a, failed
	}
	for _, s := range all {
		task, err := q.srv.WaitTask(ctx, s.id)
		if err != nil {
			return a, err
		}
		a.LatencyMS = append(a.LatencyMS, ms(begunAt(task).Sub(s.at)))
	}
	return a, nil
}

// begunAt is when the container of the task's last attempt was up.
func begunAt(t harness.Task) time.Time {
	if len(t.Attempts) == 0 {
		return t.FinishedAt
	}
	last := t.Attempts[len(t.Attempts)-1]
	at := last.StartedAt
	for _, p := range last.Phases {
		switch p.Phase {
		case functions.PhaseStage, functions.PhasePull, functions.PhaseLaunch:
			at = at.Add(time.Duration(p.MS * float64(time.Millisecond)))
		}
	}
	return at
}
