// Command bench measures the built binary and prints figures: how fast tasks are
// accepted, how long a durable task takes to reach its node, what a queued task
// costs in memory, how long a restart takes, and what a respawn adds. Figures
// are for this machine and this run; compare those of one run with each other.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

func main() {
	queued := flag.Int("queued", 1_000_000, "tasks to queue for memory and restart")
	enqueue := flag.Int("enqueue", 100_000, "tasks to accept with 64 clients")
	docker := flag.Bool("docker", true, "measure the respawn on real Docker as well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *enqueue, *queued, *docker); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, enqueue, queued int, docker bool) error {
	dir, err := os.MkdirTemp("", "spillway-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "spillway")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "./cmd/spillway")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	start := func(name string, args ...string) (*harness.Server, error) {
		return harness.Start(ctx, harness.Config{
			Bin: bin, Data: filepath.Join(dir, name), Log: io.Discard,
			Args: append([]string{"--no-auth", "--log-level", "warn", "--node-id", fmt.Sprintf("bench-%d", os.Getpid())}, args...),
		})
	}
	for _, step := range []func(func(string, ...string) (*harness.Server, error)) error{
		func(s starter) error { return latency(ctx, s) },
		func(s starter) error { return throughput(ctx, s) },
		func(s starter) error { return backlog(ctx, s, enqueue, queued) },
		func(s starter) error {
			if !docker {
				return nil
			}
			return respawn(ctx, s)
		},
	} {
		if err := step(start); err != nil {
			return err
		}
	}
	return nil
}

type starter = func(name string, args ...string) (*harness.Server, error)

// spec is a function that takes next to no room, so that the machine's capacity
// is not what is measured.
const spec = "name: %s\nimage: simulated\ndevice: %s\nlimits: {cpus: 0.01, memory: 6MiB}\n"

func deploy(ctx context.Context, srv *harness.Server, name, device string) error {
	_, _, _, err := srv.Call(ctx, "POST", "/v1/functions", map[string]string{"Content-Type": "application/yaml"},
		strings.NewReader(fmt.Sprintf(spec, name, device)))
	return err
}

// latency is one client, one call at a time: the whole way of a task whose
// container takes no time.
func latency(ctx context.Context, start starter) error {
	srv, err := start("latency", "--runtime", "simulated")
	if err != nil {
		return err
	}
	defer srv.Kill()
	if err := deploy(ctx, srv, "fn", "never"); err != nil {
		return err
	}
	var whole, toNode []float64
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
		toNode = append(toNode, task.Timings["queue"])
	}
	report("sync call, durable, empty container, 1 client", "ms", whole)
	report("  of which accepted to assigned (leader's clock)", "ms", toNode)
	return nil
}

// throughput is many clients against tasks of 20 ms on simulated containers.
func throughput(ctx context.Context, start starter) error {
	srv, err := start("throughput", "--runtime", "simulated", "--max-tasks", "64", "--cpus", "64")
	if err != nil {
		return err
	}
	defer srv.Kill()
	if err := deploy(ctx, srv, "fn", "never"); err != nil {
		return err
	}
	const clients, each = 64, 150
	began := time.Now()
	var failed atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range each {
				if _, _, _, err := srv.Call(ctx, "POST", "/v1/functions/fn/invoke", map[string]string{"Content-Type": "application/json"}, strings.NewReader(`{"sleep_ms":20}`)); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("%d of %d calls failed", n, clients*each)
	}
	fmt.Printf("%-58s %8.0f tasks/s\n", "end to end, 20 ms tasks, 64 clients, 64 places", clients*each/time.Since(began).Seconds())
	return nil
}

// backlog fills the queue with tasks that cannot start.
func backlog(ctx context.Context, start starter, enqueue, queued int) error {
	srv, err := start("backlog", "--runtime", "simulated")
	if err != nil {
		return err
	}
	defer func() { srv.Kill() }()
	if err := deploy(ctx, srv, "fn", "required"); err != nil {
		return err
	}
	before := rss(srv.Pid())
	rate, lat, err := fill(ctx, srv, enqueue)
	if err != nil {
		return err
	}
	fmt.Printf("%-58s %8.0f tasks/s\n", fmt.Sprintf("accept %d tasks over HTTP, 64 clients, durable", enqueue), rate)
	report("  answer time", "ms", lat)
	if _, _, err := fill(ctx, srv, queued-enqueue); err != nil {
		return err
	}
	if err := settled(ctx, srv); err != nil {
		return err
	}
	after := rss(srv.Pid())
	fmt.Printf("%-58s %8.0f B/task (%.0f MiB in all)\n", fmt.Sprintf("memory of %d queued tasks", queued), float64(after-before)/float64(queued), float64(after)/(1<<20))
	srv.Kill()
	began := time.Now()
	if err := srv.Restart(ctx); err != nil {
		return err
	}
	fmt.Printf("%-58s %8.2f s\n", "kill -9, restart to ready, same queue", time.Since(began).Seconds())
	return nil
}

func fill(ctx context.Context, srv *harness.Server, n int) (rate float64, lat []float64, err error) {
	const clients = 64
	var next atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	for range clients {
		wg.Go(func() {
			var mine []float64
			for next.Add(1) <= int64(n) {
				at := time.Now()
				if _, e := srv.Submit(ctx, "fn", `{"n":1}`, nil); e != nil {
					mu.Lock()
					err = errors.Join(err, e)
					mu.Unlock()
					return
				}
				mine = append(mine, ms(time.Since(at)))
			}
			mu.Lock()
			lat = append(lat, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	return float64(n) / time.Since(began).Seconds(), lat, err
}

// settled waits until the newest accepted task can be listed.
func settled(ctx context.Context, srv *harness.Server) error {
	id, err := srv.Submit(ctx, "fn", `{}`, nil)
	if err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
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

// respawn measures, on the real engine, from Docker's refusal of the GPU to the
// start of the CPU attempt.
func respawn(ctx context.Context, start starter) error {
	var gap, launch []float64
	for i := range 12 {
		// A fresh process each time: a host that failed twice is not asked again at once.
		srv, err := start(fmt.Sprintf("respawn-%d", i), "--assume-gpu", "1")
		if err != nil {
			return err
		}
		err = func() error {
			defer srv.Stop(20 * time.Second)
			if _, err := srv.CLI(ctx, "deploy", "functions/catalog/echo"); err != nil {
				return err
			}
			id, err := srv.Submit(ctx, "echo", `{"n":1}`, map[string]string{"Spillway-Device": "preferred"})
			if err != nil {
				return err
			}
			task, err := srv.WaitTask(ctx, id)
			if err != nil {
				return err
			}
			if len(task.Attempts) != 2 || task.Attempts[1].Failure != nil {
				return fmt.Errorf("want one failed GPU attempt and one good on the CPU, have %+v", task.Attempts)
			}
			a, b := task.Attempts[0], task.Attempts[1]
			gap = append(gap, ms(b.StartedAt.Sub(a.EndedAt)))
			for _, p := range a.Phases {
				if p.Phase == "launch" {
					launch = append(launch, p.MS)
				}
			}
			return nil
		}()
		if err != nil {
			return err
		}
	}
	report("Docker's own refusal of the GPU launch", "ms", launch)
	report("refusal logged to CPU attempt assigned", "ms", gap)
	return nil
}

func report(what, unit string, v []float64) {
	if len(v) == 0 {
		return
	}
	slices.Sort(v)
	at := func(q float64) float64 { return v[min(len(v)-1, int(q*float64(len(v))))] }
	fmt.Printf("%-58s p50 %.2f  p90 %.2f  p99 %.2f  max %.2f %s (n=%d)\n", what, at(0.5), at(0.9), at(0.99), v[len(v)-1], unit, len(v))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
