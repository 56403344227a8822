package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/e2e/bench/measure"
	"github.com/spillway/spillway/e2e/bench/queue"
	"github.com/spillway/spillway/e2e/bench/results"
)

// The comparisons of the queue step that have no picture.
const (
	queueEnqueue = "Enqueued only, nothing is run; ratio of rates"
	queueLatency = "Enqueued to begun, idle workers, %g per second; ratio of medians"
)

// queueBase is what the others are compared with.
const queueBase = "Celery, Redis fsync always"

// peersModule is where the drivers of other queues are, from the project's root.
const peersModule = "e2e/bench/peers"

// queueRounds is how often each queue is drained; the rate shown is the median.
const queueRounds = 3

// queue compares Spillway with other queues, on tasks that do nothing.
func (b *bench) queue(ctx context.Context) (err error) {
	peers, err := b.openQueues(ctx)
	defer func() {
		for _, p := range peers {
			err = errors.Join(err, p.Close())
		}
	}()
	if err != nil {
		return err
	}
	b.step.Notes = append(b.step.Notes, fmt.Sprintf("%d tasks, 64 clients, each enqueued by a call of its own. Spillway is called over HTTP and its containers are simulated; "+
		"the others' clients speak to Redis or PostgreSQL themselves, and their tasks run inside the worker. "+
		"Spillway, PostgreSQL and Redis with fsync always have each task on disk before they acknowledge it; with everysec Redis can lose a second of them. "+
		"Rounds alternate between the queues; the rate is the median of %d.", b.tasks, queueRounds))
	for _, of := range []struct {
		set string
		do  queue.Do
	}{{queueEnqueue, queue.Enqueue}, {results.QueueDrain, queue.Drain}} {
		if err := b.queueRates(ctx, peers, of.set, of.do); err != nil {
			return err
		}
	}
	for _, rate := range []float64{1, 100} {
		if err := b.queueLatencies(ctx, peers, rate); err != nil {
			return err
		}
	}
	return nil
}

// openQueues starts every queue; those that this machine lacks become rows that
// say so.
func (b *bench) openQueues(ctx context.Context) ([]*queue.Peer, error) {
	peers := []*queue.Peer{}
	for i, o := range queue.Openers(peersModule) {
		progress("queue: open %s", o.Name)
		dir := filepath.Join(b.dir, fmt.Sprintf("q%d", i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return peers, err
		}
		p, err := o.Open(ctx, dir)
		if errors.Is(err, measure.ErrSkip) {
			b.add(results.Row{Set: results.QueueDrain, Name: o.Name, Skipped: err.Error()})
			continue
		}
		if err != nil {
			return peers, fmt.Errorf("open %s: %w", o.Name, err)
		}
		p.Name = o.Name
		peers = append(peers, p)
	}
	own, err := b.openSpillway(ctx)
	if err != nil {
		return peers, err
	}
	return append(peers, own), nil
}

// queueRates runs all rounds and keeps each queue's median rate.
func (b *bench) queueRates(ctx context.Context, peers []*queue.Peer, set string, do queue.Do) error {
	rates, cpu := make([][]float64, len(peers)), make([][]float64, len(peers))
	failures, first := make([]int, len(peers)), make([]error, len(peers))
	for round := range queueRounds {
		for k := range peers {
			i := (k + round) % len(peers)
			progress("queue: %s %d tasks, %s, round %d", do, b.tasks, peers[i].Name, round+1)
			baseline, err := measure.Baseline(ctx, 500*time.Millisecond)
			if err != nil {
				return err
			}
			before, err := measure.ReadCPU()
			if err != nil {
				return err
			}
			a, err := peers[i].Do(ctx, queue.Command{Do: do, N: b.tasks, Clients: 64, Processes: 2})
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				failures[i]++
				first[i] = err
				continue
			}
			after, err := measure.ReadCPU()
			if err != nil {
				return err
			}
			seconds := a.EnqueueSeconds
			if do == queue.Drain {
				seconds = a.TotalSeconds
			}
			rates[i] = append(rates[i], float64(b.tasks)/seconds)
			cpu[i] = append(cpu[i], measure.Milliseconds(measure.PerTask(before, after, baseline, b.tasks)))
		}
	}
	for i, p := range peers {
		row := results.Row{Set: set, Name: p.Name, Ours: p.Version == "", Base: p.Name == queueBase, InFlight: 64, Failures: failures[i], Note: describe(p)}
		if first[i] != nil {
			row.Error = first[i].Error()
		}
		if len(rates[i]) > 0 {
			row.Rate, row.CPU = median(rates[i]), median(cpu[i])
		}
		b.add(row)
	}
	return nil
}

func describe(p *queue.Peer) string { return strings.Trim(p.Version+"; "+p.Note, "; ") }

// queueLatencies sends to all queues at a low rate: at one per second all of
// them together, which none of them notices; at more, one after the other.
func (b *bench) queueLatencies(ctx context.Context, peers []*queue.Peer, perSecond float64) error {
	n := int(min(max(30, perSecond*10), 1000))
	answers, failed := make([]queue.Answer, len(peers)), make([]error, len(peers))
	ask := func(i int) {
		answers[i], failed[i] = peers[i].Do(ctx, queue.Command{Do: queue.Latency, N: n, PerSecond: perSecond})
	}
	var wg sync.WaitGroup
	for i, p := range peers {
		progress("queue: %d tasks at %g per second, %s", n, perSecond, p.Name)
		if perSecond > 1 {
			ask(i)
			continue
		}
		wg.Go(func() {
			// Apart from each other by equal shares of a second.
			time.Sleep(time.Duration(float64(i) / float64(len(peers)) * float64(time.Second)))
			ask(i)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i, p := range peers {
		row := results.Row{Set: fmt.Sprintf(queueLatency, perSecond), Name: p.Name, Ours: p.Version == "", Base: p.Name == queueBase, Latency: measure.Summarize(answers[i].LatencyMS)}
		if failed[i] != nil {
			row.Failures, row.Error = 1, failed[i].Error()
		}
		b.add(row)
	}
	if perSecond == 1 {
		// A worker that asks every ten seconds: what was replaced. It follows from
		// the interval, and is not measured.
		b.add(results.Row{Set: fmt.Sprintf(queueLatency, perSecond), Name: "a worker that polls every 10 s", Latency: evenly(10_000), Note: "computed: waits are even between 0 and 10 s"})
	}
	return nil
}

// evenly are waits even between 0 and most.
func evenly(most float64) *measure.Summary {
	v := make([]float64, 100)
	for i := range v {
		v[i] = most * math.Min(float64(i)+0.5, 100) / 100
	}
	return measure.Summarize(v)
}
