package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spillway/spillway/e2e/bench/launch"
	"github.com/spillway/spillway/e2e/bench/measure"
	"github.com/spillway/spillway/e2e/bench/results"
	"github.com/spillway/spillway/e2e/bench/trace"
	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// traceFlags say what is replayed.
type traceFlags struct {
	dir                  string
	minutes, realMinutes int
	speed, realSpeed     float64
}

func (f *traceFlags) register(to *flag.FlagSet) {
	to.StringVar(&f.dir, "trace", os.Getenv("SPILLWAY_TRACE"), "folder with invocations.csv and durations.csv of the Azure Functions trace of 2019 or a sample of it (default: SPILLWAY_TRACE)")
	to.IntVar(&f.minutes, "trace-minutes", 30, "so many minutes of the trace on simulated containers")
	to.Float64Var(&f.speed, "trace-speed", 20, "so many times faster than they were; bodies keep their length")
	to.IntVar(&f.realMinutes, "trace-real-minutes", 6, "so many minutes on real containers")
	to.Float64Var(&f.realSpeed, "trace-real-speed", 2, "so many times faster than they were")
}

// The comparisons of the trace step.
const (
	traceSlowdown = "Slowdown: accepted to ended, over the body's own length"
	traceShare    = "Invocations that found a container waiting"
)

// clip is the longest body.
const clip = time.Second

// replay invokes functions as a trace says that they were.
func (b *bench) replay(ctx context.Context) error {
	if b.trace.dir == "" {
		b.add(results.Row{Set: results.TraceDelay, Name: "replay", Ours: true, Skipped: "no trace: name its folder with -trace or SPILLWAY_TRACE"})
		return nil
	}
	all, err := trace.Read(b.trace.dir)
	if err != nil {
		return fmt.Errorf("read the trace: %w", err)
	}
	all = trace.WithoutTop(all)
	b.step.Notes = append(b.step.Notes, fmt.Sprintf("%d functions, without the one that is invoked most. Bodies sleep as long as the trace's distribution for the function says, at most %s, "+
		"on real containers its median; they are not sped up. Invocations are spread at random within their minute, the same way each time. "+
		"Slowdown is of bodies of 10 ms and more.", len(all), clip))
	sim := replayed{name: fmt.Sprintf("simulated, x%g", b.trace.speed), plan: trace.Plan{Minutes: b.trace.minutes, Speed: b.trace.speed, Clip: clip, Seed: 1}, functions: all}
	if err := b.replaySimulated(ctx, sim); err != nil {
		return err
	}
	img, err := launch.BuildImage(ctx, filepath.Join(b.dir, "t"))
	if err != nil {
		return err
	}
	for _, s := range systems {
		for _, warm := range []string{"0", "auto"} {
			r := replayed{
				name: fmt.Sprintf("%s, warm: %s, x%g", s.runtime, warm, b.trace.realSpeed), functions: all,
				plan: trace.Plan{Minutes: b.trace.realMinutes, Speed: b.trace.realSpeed, Clip: clip, Seed: 1},
			}
			err := b.replayReal(ctx, s, r, warm, img)
			if errors.Is(err, measure.ErrSkip) {
				b.add(results.Row{Set: results.TraceDelay, Name: r.name, Ours: true, Skipped: err.Error()})
				continue
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// replayed is one replay.
type replayed struct {
	name      string
	plan      trace.Plan
	functions []trace.Function
	event     func(trace.Arrival) string
	length    func(trace.Arrival) time.Duration // of the body
}

func (b *bench) replaySimulated(ctx context.Context, r replayed) (err error) {
	srv, err := b.serve(ctx, "trace", "--runtime", "simulated", "--max-tasks", "512", "--cpus", "64")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Stop(20*time.Second)) }()
	for i := range r.functions {
		if err := deploy(ctx, srv, traceName(i), "never"); err != nil {
			return err
		}
	}
	r.event = func(a trace.Arrival) string { return fmt.Sprintf(`{"sleep_ms":%d}`, a.Duration.Milliseconds()) }
	r.length = func(a trace.Arrival) time.Duration { return a.Duration.Truncate(time.Millisecond) }
	return b.play(ctx, srv, r)
}

func traceName(i int) string { return fmt.Sprintf("t%d", i) }

// traceSpec is a function that sleeps.
const traceSpec = "name: %s\nimage: %s\nentrypoint: [/box]\ncommand: [sleep, %s]\nwarm: %s\ndevice: never\nlimits: {cpus: 0.1, memory: 32MiB, pids: 64}\nstdout: log\n"

func (b *bench) replayReal(ctx context.Context, s system, r replayed, warm string, img *launch.Image) (err error) {
	srv, stop, err := s.start(ctx, b, "trace-"+s.runtime+"-"+warm, img)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	body := func(f trace.Function) time.Duration { return min(f.Duration(0.5), r.plan.Clip) }
	for i, f := range r.functions {
		if err := deploySpec(ctx, srv, fmt.Sprintf(traceSpec, traceName(i), img.Ref, body(f), warm)); err != nil {
			return fmt.Errorf("%w (this build refuses warm: %s: %v)", measure.ErrSkip, warm, err)
		}
	}
	r.event = func(trace.Arrival) string { return `{}` }
	r.length = func(a trace.Arrival) time.Duration { return body(r.functions[a.Function]) }
	return b.play(ctx, srv, r)
}

// sentTask is one invocation that was accepted.
type sentTask struct {
	id   functions.TaskID
	body time.Duration
}

// play makes every invocation at its time, waits for all of them, and reads
// their records.
func (b *bench) play(ctx context.Context, srv *harness.Server, r replayed) error {
	arrivals := r.plan.Arrivals(r.functions)
	progress("trace: %s, %d invocations in %s", r.name, len(arrivals), time.Duration(float64(r.plan.Minutes)*float64(time.Minute)/r.plan.Speed).Round(time.Second))
	var (
		mu     sync.Mutex // guards sent and failed
		sent   []sentTask
		failed []error
		wg     sync.WaitGroup
	)
	baseline, err := measure.Baseline(ctx, time.Second)
	if err != nil {
		return err
	}
	before, err := measure.ReadCPU()
	if err != nil {
		return err
	}
	began := time.Now()
	for _, a := range arrivals {
		time.Sleep(time.Until(began.Add(a.At)))
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			id, err := srv.Submit(ctx, traceName(a.Function), r.event(a), nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
				return
			}
			sent = append(sent, sentTask{id, r.length(a)})
		})
	}
	wg.Wait()
	took := time.Since(began)
	after, err := measure.ReadCPU()
	if err != nil {
		return err
	}
	return b.judge(ctx, srv, r.name, sent, failed, results.Row{
		Rate: float64(len(sent)) / took.Seconds(), CPU: measure.Milliseconds(measure.PerTask(before, after, baseline, len(sent))),
	})
}

// judge reads the records of what was sent, and keeps its distributions. most is
// the row with what is known of the whole.
func (b *bench) judge(ctx context.Context, srv *harness.Server, name string, sent []sentTask, failed []error, most results.Row) error {
	var delay, slowdown []float64
	warm := 0
	for _, s := range sent {
		task, err := srv.WaitTask(ctx, s.id)
		if err != nil {
			return err
		}
		if task.Status != "succeeded" {
			failed = append(failed, fmt.Errorf("%s: %s", task.Status, cmp.Or(task.FallbackReason, fmt.Sprint(task.Failure))))
			continue
		}
		delay = append(delay, ms(begunAt(task).Sub(task.QueuedAt)))
		if s.body >= 10*time.Millisecond {
			slowdown = append(slowdown, ms(task.FinishedAt.Sub(task.QueuedAt))/ms(s.body))
		}
		var r record
		if err := srv.JSON(ctx, "GET", "/v1/tasks/"+string(s.id), nil, &r); err != nil {
			return err
		}
		if r.warm() {
			warm++
		}
	}
	row := most
	row.Set, row.Name, row.Ours, row.Latency, row.Failures = results.TraceDelay, name, true, measure.Summarize(delay), len(failed)
	if len(failed) > 0 {
		row.Error = failed[0].Error()
	}
	b.add(row)
	if s := measure.Summarize(slowdown); s != nil {
		b.add(results.Row{
			Set: traceSlowdown, Name: name, Ours: true, Value: s.P50, Unit: "x (median)",
			Note: fmt.Sprintf("p90 %s, p99 %s, max %s, n %d", results.Short(s.P90), results.Short(s.P99), results.Short(s.Max), s.N),
		})
	}
	if len(delay) > 0 {
		b.add(results.Row{Set: traceShare, Name: name, Ours: true, Value: 100 * float64(warm) / float64(len(delay)), Unit: "%"})
	}
	return nil
}
