// Package queue runs other task queues, each with a server of its own in a folder
// of its own, to put tasks that do nothing through them: Celery and asynq on
// Redis, River on PostgreSQL.
package queue

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/spillway/spillway/e2e/bench/measure"
)

// Command is one measurement.
type Command struct {
	Do        Do      `json:"do"`
	N         int     `json:"n"`          // tasks
	Clients   int     `json:"clients"`    // that enqueue at once
	Processes int     `json:"processes"`  // into which clients of an interpreted language are split
	PerSecond float64 `json:"per_second"` // of Latency
}

// Do is what is measured.
type Do string

const (
	Enqueue Do = "enqueue" // N tasks that no worker takes; they are gone afterwards
	Drain   Do = "drain"   // N tasks, to the end of the last, with workers running
	Latency Do = "latency" // N tasks at a fixed rate to idle workers, enqueued to begun
)

// Answer is what came of it.
type Answer struct {
	EnqueueSeconds float64   `json:"enqueue_seconds"`
	TotalSeconds   float64   `json:"total_seconds"` // first enqueued to last done
	LatencyMS      []float64 `json:"latency_ms"`
	Error          string    `json:"error"`
}

// Peer is a queue that is ready.
type Peer struct {
	Name    string
	Version string
	Note    string // how it is set up
	Do      func(ctx context.Context, c Command) (Answer, error)
	Close   func() error
}

// Opener prepares a queue below dir. It returns measure.ErrSkip when this machine
// does not have it.
type Opener struct {
	Name string
	Open func(ctx context.Context, dir string) (*Peer, error)
}

// Openers are all queues. Those on Redis come twice: with every write synced to
// disk, as durable as the others; and synced once a second, which can lose that
// second.
func Openers(module string) []Opener {
	var all []Opener
	for _, fsync := range []string{"always", "everysec"} {
		all = append(all,
			Opener{"Celery, Redis fsync " + fsync, func(ctx context.Context, dir string) (*Peer, error) { return celery(ctx, dir, module, fsync) }},
			Opener{"asynq, Redis fsync " + fsync, func(ctx context.Context, dir string) (*Peer, error) { return asynq(ctx, dir, module, fsync) }},
		)
	}
	return append(all, Opener{"River, PostgreSQL", func(ctx context.Context, dir string) (*Peer, error) { return river(ctx, dir, module) }})
}

func skip(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, measure.ErrSkip)...)
}

// program finds a program, or says that it is missing.
func program(names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", skip("%s is not installed", names[0])
}
