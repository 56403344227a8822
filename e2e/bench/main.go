// Command bench measures the built binary and prints figures: how fast tasks are
// accepted, how long a durable task takes to reach its node, what a queued task
// costs in memory, how long a restart takes, what a respawn adds; and, beside
// the tools that one would use otherwise, how fast a container starts, a queue
// drains, a warm function answers, and a real day's arrivals are served. Figures
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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spillway/spillway/e2e/bench/results"
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

	n        int           // calls of each way in a serial comparison
	lasting  time.Duration // of each cell of a comparison of rates
	inFlight numbers       // loads of a comparison of rates of launches
	volleys  int           // of each size of a burst
	quiet    bool          // wait for a quiet moment before each call of a serial comparison
	tasks    int           // of the comparison of queues
	trace    traceFlags

	step results.Step // that runs
}

// steps in the order in which they run.
var steps = []struct {
	name, title string
	run         func(*bench, context.Context) error
	table       bool // printed as a table when it has ended
}{
	{"start", "start", (*bench).start, false},
	{"latency", "one call at a time, simulated containers that take no time", (*bench).latency, false},
	{"throughput", "many calls at once, simulated containers of 20 ms", (*bench).throughput, false},
	{"backlog", "a queue that cannot start", (*bench).backlog, false},
	{"staging", "an input's way to its container", (*bench).staging, false},
	{"ingest", "an object's way to its task, by MinIO's webhooks", (*bench).ingest, false},
	{"upload", "a file's way to its task, on MinIO", (*bench).upload, false},
	{"respawn", "Docker refuses the GPU, the task goes on on the CPU", (*bench).respawn, false},
	{"launch", "One container that does nothing, from request to result", (*bench).launch, true},
	{"queue", "Tasks that do nothing, through durable queues", (*bench).queue, true},
	{"http", "A warm function over HTTP, against a plain server", (*bench).http, true},
	{"trace", "Replay of a trace of Azure Functions", (*bench).replay, true},
}

// numbers is a flag of whole numbers above 0, separated by commas.
type numbers []int

func (n *numbers) String() string {
	var words []string
	for _, v := range *n {
		words = append(words, strconv.Itoa(v))
	}
	return strings.Join(words, ",")
}

func (n *numbers) Set(text string) error {
	*n = nil
	for word := range strings.SplitSeq(text, ",") {
		v, err := strconv.Atoi(word)
		if err != nil || v <= 0 {
			return fmt.Errorf("%q is not a number above 0", word)
		}
		*n = append(*n, v)
	}
	return nil
}

// stepNames are the steps' names, for the help.
func stepNames() string {
	var names []string
	for _, s := range steps {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}

func main() {
	b := bench{inFlight: numbers{1, 2, 4, 8, 16}}
	flag.IntVar(&b.queued, "queued", 1_000_000, "tasks to queue for memory and restart")
	flag.IntVar(&b.enqueue, "enqueue", 100_000, "tasks to accept with 64 clients")
	flag.IntVar(&b.objects, "objects", 10_000, "small objects to put into a watched bucket")
	flag.Float64Var(&b.rate, "rate", 0, "put them at this rate per second (default: as fast as it goes, then at a half and three quarters of that)")
	flag.IntVar(&b.senders, "senders", 0, "run MinIO with this GOMAXPROCS, which is how many reports of a target without a queue it sends at once (default: its cores)")
	flag.StringVar(&b.targets, "targets", "FAST,FAST+DURABLE", "webhooks that report small objects, each choice on its own; all but the first get a third of the objects")
	flag.IntVar(&b.rounds, "rounds", 3, "how often each way of a file is measured")
	flag.IntVar(&b.n, "n", 30, "calls of each way in a serial comparison")
	flag.DurationVar(&b.lasting, "lasting", 10*time.Second, "length of each cell in a comparison of rates")
	flag.Var(&b.inFlight, "in-flight", "so many launches at once in the comparison of rates, separated by commas")
	flag.IntVar(&b.volleys, "volleys", 5, "so many bursts of each size")
	flag.BoolVar(&b.quiet, "quiet", false, "wait for a quiet moment of the machine before each call of a serial comparison, at most 5 s")
	flag.IntVar(&b.tasks, "tasks", 20_000, "tasks of the comparison of queues")
	b.trace.register(flag.CommandLine)
	flag.StringVar(&b.bin, "bin", "", "measure this binary (default: build one)")
	only := flag.String("only", "", "run these steps, separated by commas: "+stepNames())
	docker := flag.Bool("docker", true, "measure the respawn on real Docker as well")
	out := flag.String("json", "", "keep the results in this file; steps that it has from an earlier run and that do not run now stay")
	report := flag.String("report", "", "measure nothing: write the tables of this file into the README beside it, or to standard output where there is none, and its pictures into plots/ there")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := checkNames(*only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	chosen := func(step string) bool {
		return (*only == "" || slices.Contains(strings.Split(*only, ","), step)) && (step != "respawn" || *docker)
	}
	var err error
	if *report != "" {
		err = render(*report)
	} else {
		err = b.run(ctx, chosen, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// checkNames refuses a step that does not exist.
func checkNames(only string) error {
	for name := range strings.SplitSeq(only, ",") {
		if name != "" && !slices.Contains(strings.Split(stepNames(), ", "), name) {
			return fmt.Errorf("there is no step %q; there are %s", name, stepNames())
		}
	}
	return nil
}

func (b *bench) run(ctx context.Context, chosen func(step string) bool, out string) (err error) {
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
	report := results.Report{Began: time.Now(), Machine: machine()}
	for _, s := range steps {
		if !chosen(s.name) {
			continue
		}
		b.heading(s.name, s.title)
		failed := s.run(b, ctx)
		if s.table { // after a failure too: what was measured until then may be minutes of work
			if err := b.step.Markdown(os.Stdout); err != nil {
				return err
			}
		}
		if failed != nil {
			return fmt.Errorf("%s: %w", s.name, failed)
		}
		report.Steps = append(report.Steps, b.step)
		if err := keep(out, report); err != nil {
			return err
		}
	}
	return nil
}

// serve starts a server of its own for a step.
func (b *bench) serve(ctx context.Context, name string, args ...string) (*harness.Server, error) {
	return harness.Start(ctx, harness.Config{
		Bin: b.bin, Data: filepath.Join(b.dir, name), Log: io.Discard,
		Args: append([]string{"--no-auth", "--log-level", "warn", "--node-id", nodeID(name)}, args...),
	})
}

// nodeID names the node of a server of this run: one that took another's name
// would take its containers too.
func nodeID(server string) string { return fmt.Sprintf("bench-%d-%s", os.Getpid(), server) }

// spec is a function that takes next to no room, so that the machine's capacity
// is not what is measured.
const spec = "name: %s\nimage: simulated\ndevice: %s\nlimits: {cpus: 0.01, memory: 6MiB}\n"

func deploy(ctx context.Context, srv *harness.Server, name, device string) error {
	return deploySpec(ctx, srv, fmt.Sprintf(spec, name, device))
}

// deploySpec deploys a function from its YAML.
func deploySpec(ctx context.Context, srv *harness.Server, yaml string) error {
	_, _, _, err := srv.Call(ctx, "POST", "/v1/functions", map[string]string{"Content-Type": "application/yaml"}, strings.NewReader(yaml))
	return err
}
