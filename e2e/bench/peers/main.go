// Command peers drives the queues that Spillway is compared with and that are Go
// libraries: asynq on Redis, River on PostgreSQL. It reads one command as a JSON
// line from standard input and answers with one on standard output, until the
// input ends. A module of its own keeps their dependencies out of the project's.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// command is one measurement.
type command struct {
	Do        string  `json:"do"` // enqueue, drain, latency
	N         int     `json:"n"`
	Clients   int     `json:"clients"`
	PerSecond float64 `json:"per_second"` // of latency
}

// answer is what came of it.
type answer struct {
	EnqueueSeconds float64   `json:"enqueue_seconds,omitempty"`
	TotalSeconds   float64   `json:"total_seconds,omitempty"` // first enqueued to last done
	LatencyMS      []float64 `json:"latency_ms,omitempty"`    // enqueue called to task begun
	Error          string    `json:"error,omitempty"`
}

// queue is one library with its server.
type queue interface {
	// enqueue adds one task that does nothing; sent is what the task is to report.
	enqueue(ctx context.Context, sent time.Time) error
	// work runs a worker, which calls began at the beginning of every task, until
	// the returned function is called.
	work(ctx context.Context, began func(sent time.Time)) (stop func(), err error)
	// clear removes every task.
	clear(ctx context.Context) error
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: peers asynq HOST:PORT | peers river URL")
	}
	var q queue
	var err error
	switch args[0] {
	case "asynq":
		q = newAsynq(args[1])
	case "river":
		q, err = newRiver(ctx, args[1])
	default:
		err = fmt.Errorf("there is no peer %q", args[0])
	}
	if err != nil {
		return err
	}
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return fmt.Errorf("read a command: %w", err)
		}
		a, err := do(ctx, q, c)
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}

// do carries out one command.
func do(ctx context.Context, q queue, c command) (answer, error) {
	switch c.Do {
	case "enqueue":
		began := time.Now()
		if err := enqueueAll(ctx, q, c); err != nil {
			return answer{}, err
		}
		a := answer{EnqueueSeconds: time.Since(began).Seconds()}
		return a, q.clear(ctx)
	case "drain":
		return drain(ctx, q, c)
	case "latency":
		return latency(ctx, q, c)
	}
	return answer{}, fmt.Errorf("there is no command %q", c.Do)
}

// enqueueAll adds n tasks one by one, from so many clients at once.
func enqueueAll(ctx context.Context, q queue, c command) error {
	var wg sync.WaitGroup
	failed := make(chan error, c.Clients)
	for i := range c.Clients {
		share := c.N / c.Clients
		if i < c.N%c.Clients {
			share++
		}
		wg.Go(func() {
			for range share {
				if err := q.enqueue(ctx, time.Now()); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	return <-failed
}

// drain enqueues with a worker running, and waits for the last task.
func drain(ctx context.Context, q queue, c command) (answer, error) {
	left := make(chan struct{}, c.N)
	stop, err := q.work(ctx, func(time.Time) { left <- struct{}{} })
	if err != nil {
		return answer{}, err
	}
	defer stop()
	began := time.Now()
	if err := enqueueAll(ctx, q, c); err != nil {
		return answer{}, err
	}
	a := answer{EnqueueSeconds: time.Since(began).Seconds()}
	stuck := time.NewTimer(5 * time.Minute)
	defer stuck.Stop()
	for range c.N {
		select {
		case <-left:
		case <-stuck.C:
			return a, fmt.Errorf("not all tasks were done after 5 minutes")
		}
	}
	a.TotalSeconds = time.Since(began).Seconds()
	return a, nil
}

// latency enqueues at a fixed rate to a worker that is idle otherwise.
func latency(ctx context.Context, q queue, c command) (answer, error) {
	took := make(chan time.Duration, c.N)
	stop, err := q.work(ctx, func(sent time.Time) { took <- time.Since(sent) })
	if err != nil {
		return answer{}, err
	}
	defer stop()
	began := time.Now()
	for i := range c.N {
		time.Sleep(time.Until(began.Add(time.Duration(float64(i) / c.PerSecond * float64(time.Second)))))
		if err := q.enqueue(ctx, time.Now()); err != nil {
			return answer{}, err
		}
	}
	var a answer
	stuck := time.NewTimer(time.Minute)
	defer stuck.Stop()
	for range c.N {
		select {
		case d := <-took:
			a.LatencyMS = append(a.LatencyMS, float64(d.Microseconds())/1000)
		case <-stuck.C:
			return a, fmt.Errorf("not all tasks were begun after a minute")
		}
	}
	return a, nil
}
