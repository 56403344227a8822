// Command bench measures the built binary and prints figures: how fast tasks are
// accepted, how long a durable task takes to reach its node, what a queued task
// costs in memory, how long a restart takes, and what a respawn adds. Figures
// are for this machine and this run; compare those of one run with each other.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spillway/spillway/e2e/harness"
)

// bench is one run of the command.
type bench struct {
	dir, bin string
	enqueue  int     // tasks to accept as fast as it goes
	queued   int     // tasks in the queue for memory and restart
	objects  int     // small ones to put into a watched bucket
	rate     float64 // of putting them, per second; 0 = as fast as it goes, and then at shares of that
	senders  int     // of MinIO, for targets without a queue; 0 = as many as it has cores
	targets  string  // of MinIO's reports, to compare
	rounds   int     // of the steps that compare ways of a file
}

// steps in the order in which they run.
var steps = []struct {
	name, title string
	run         func(*bench, context.Context) error
}{
	{"start", "start", (*bench).start},
	{"latency", "one call at a time, simulated containers that take no time", (*bench).latency},
	{"throughput", "many calls at once, simulated containers of 20 ms", (*bench).throughput},
	{"backlog", "a queue that cannot start", (*bench).backlog},
	{"staging", "an input's way to its container", (*bench).staging},
	{"ingest", "an object's way to its task, by MinIO's webhooks", (*bench).ingest},
	{"upload", "a file's way to its task, on MinIO", (*bench).upload},
	{"respawn", "Docker refuses the GPU, the task goes on on the CPU", (*bench).respawn},
}

func main() {
	b := bench{}
	flag.IntVar(&b.queued, "queued", 1_000_000, "tasks to queue for memory and restart")
	flag.IntVar(&b.enqueue, "enqueue", 100_000, "tasks to accept with 64 clients")
	flag.IntVar(&b.objects, "objects", 10_000, "small objects to put into a watched bucket")
	flag.Float64Var(&b.rate, "rate", 0, "put them at this rate per second (default: as fast as it goes, then at a half and three quarters of that)")
	flag.IntVar(&b.senders, "senders", 0, "run MinIO with this GOMAXPROCS, which is how many reports of a target without a queue it sends at once (default: its cores)")
	flag.StringVar(&b.targets, "targets", "FAST,FAST+DURABLE", "webhooks that report small objects, each choice on its own; all but the first get a third of the objects")
	flag.IntVar(&b.rounds, "rounds", 3, "how often each way of a file is measured")
	flag.StringVar(&b.bin, "bin", "", "measure this binary (default: build one)")
	only := flag.String("only", "", "run these steps, separated by commas: start, latency, throughput, backlog, staging, ingest, upload, respawn")
	docker := flag.Bool("docker", true, "measure the respawn on real Docker as well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	chosen := func(step string) bool {
		return (*only == "" || slices.Contains(strings.Split(*only, ","), step)) && (step != "respawn" || *docker)
	}
	if err := b.run(ctx, chosen); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context, chosen func(step string) bool) (err error) {
	if b.dir, err = os.MkdirTemp("", "spillway-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.bin == "" {
		b.bin = filepath.Join(b.dir, "spillway")
		if err := harness.Build(ctx, ".", b.bin, "-trimpath", "-ldflags", "-s -w"); err != nil {
			return err
		}
	}
	for _, s := range steps {
		if !chosen(s.name) {
			continue
		}
		heading(s.title)
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// serve starts a server of its own for a step.
func (b *bench) serve(ctx context.Context, name string, args ...string) (*harness.Server, error) {
	return harness.Start(ctx, harness.Config{
		Bin: b.bin, Data: filepath.Join(b.dir, name), Log: io.Discard,
		Args: append([]string{"--no-auth", "--log-level", "warn", "--node-id", fmt.Sprintf("bench-%d", os.Getpid())}, args...),
	})
}

// spec is a function that takes next to no room, so that the machine's capacity
// is not what is measured.
const spec = "name: %s\nimage: simulated\ndevice: %s\nlimits: {cpus: 0.01, memory: 6MiB}\n"

func deploy(ctx context.Context, srv *harness.Server, name, device string) error {
	_, _, _, err := srv.Call(ctx, "POST", "/v1/functions", map[string]string{"Content-Type": "application/yaml"},
		strings.NewReader(fmt.Sprintf(spec, name, device)))
	return err
}
