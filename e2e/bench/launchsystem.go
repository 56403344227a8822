package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/e2e/bench/launch"
	"github.com/spillway/spillway/e2e/bench/measure"
	"github.com/spillway/spillway/e2e/bench/results"
	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// system is a runtime of a whole `spillway up`, what makes an image present for
// it, and what takes it away when its server has stopped.
type system struct {
	runtime string
	memory  string // flag for a folder that is not on a disk; empty = none
	present func(ctx context.Context, srv *harness.Server, img *launch.Image) error
	absent  func(ctx context.Context, node string, img *launch.Image) error
}

var systems = []system{
	{"docker", "", presentInDocker, absentFromDocker},
	{"oci", "--oci-dir", presentInStore, absentFromStore},
}

// presentInStore puts the image into the server's own store of images, which
// several processes may have open.
func presentInStore(ctx context.Context, srv *harness.Server, img *launch.Image) error {
	if _, err := srv.CLI(ctx, "images", "load", "--runtime", "oci", "--data", srv.Data(), img.Archive); err != nil {
		return fmt.Errorf("%w (%v)", measure.ErrSkip, err)
	}
	return nil
}

// absentFromStore has nothing to do: the store is below the server's folder, and
// its containers end with its monitors.
func absentFromStore(context.Context, string, *launch.Image) error { return nil }

func presentInDocker(ctx context.Context, _ *harness.Server, img *launch.Image) error {
	if out, err := exec.CommandContext(ctx, "docker", "load", "-q", "-i", img.Archive).CombinedOutput(); err != nil {
		return fmt.Errorf("%w (docker load: %s)", measure.ErrSkip, strings.TrimSpace(string(out)))
	}
	return nil
}

// absentFromDocker removes the containers that a server left, for one that was
// ended early leaves what runs to its next start, and the image.
func absentFromDocker(ctx context.Context, node string, img *launch.Image) error {
	docker := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
		}
		return string(out), err
	}
	left, err := docker("ps", "-aq", "--filter", "label="+runtime.LabelNode+"="+node)
	if ids := strings.Fields(left); err == nil && len(ids) > 0 {
		_, err = docker(append([]string{"rm", "-f"}, ids...)...)
	}
	_, gone := docker("image", "rm", "-f", img.Ref)
	return errors.Join(err, gone)
}

// launchSpec is a function of the image, with so many containers waiting.
const launchSpec = "name: %s\nimage: %s\nwarm: %d\ndevice: never\nlimits: {cpus: 1, memory: 64MiB, pids: 64}\nstdout: log\n"

// pooled is how many containers wait for the warm function.
const pooled = 8

// start starts a server on the runtime with one function for each pool size.
// stop ends it and removes what it leaves.
func (s system) start(ctx context.Context, b *bench, name string, img *launch.Image, pools ...int) (srv *harness.Server, stop func() error, err error) {
	args := []string{"--runtime", s.runtime, "--max-tasks", "64", "--cpus", "64"}
	folder := ""
	if s.memory != "" {
		if folder, err = launch.InMemory(s.runtime); err != nil {
			return nil, nil, err
		}
		args = append(args, s.memory, folder)
	}
	srv, err = b.serve(ctx, name, args...)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w (spillway up --runtime %s: %v)", measure.ErrSkip, s.runtime, err), discard(folder))
	}
	stop = func() error {
		return errors.Join(srv.Stop(time.Minute), s.absent(context.WithoutCancel(ctx), nodeID(name), img), discard(folder))
	}
	err = s.present(ctx, srv, img)
	for _, pool := range pools {
		if err == nil {
			err = deploySpec(ctx, srv, fmt.Sprintf(launchSpec, fmt.Sprintf("pool-%d", pool), img.Ref, pool))
		}
	}
	var refused *harness.Problem
	if errors.As(err, &refused) {
		err = fmt.Errorf("%w (this build refuses the function: %v)", measure.ErrSkip, refused)
	}
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return srv, stop, nil
}

// discard removes a folder, if there is one.
func discard(folder string) error {
	if folder == "" {
		return nil
	}
	return os.RemoveAll(folder)
}

// wholeSystems are calls over HTTP through everything, with and without
// containers that wait.
func (b *bench) wholeSystems(ctx context.Context, img *launch.Image) ([]contender, error) {
	var all []contender
	for _, s := range systems {
		name := "spillway up on " + s.runtime
		progress("launch: open %s", name)
		srv, stop, err := s.start(ctx, b, "launch-"+s.runtime, img, 0, pooled)
		if errors.Is(err, measure.ErrSkip) {
			b.add(results.Row{Set: results.LaunchSerial, Name: name, Ours: true, Skipped: err.Error()})
			continue
		}
		if err != nil {
			return all, err
		}
		for i, pool := range []int{0, pooled} {
			c := &caller{srv: srv, path: fmt.Sprintf("/v1/functions/pool-%d/invoke", pool)}
			one := contender{name: name, ours: true, once: c.once, note: c.launched, close: func() error { return nil }}
			if pool > 0 {
				one.name += fmt.Sprintf(", %d warm", pool)
			}
			if i == 0 {
				one.close = stop
			}
			all = append(all, one)
		}
	}
	return all, nil
}

// caller calls one function and keeps what the tasks' records say.
type caller struct {
	srv  *harness.Server
	path string

	mu     sync.Mutex // guards what follows
	phases map[string][]float64
	warm   int // tasks whose container had been started before
}

// record is what the benchmarks read of a task.
type record struct {
	Timings  map[string]float64 `json:"timings"`
	Attempts []struct {
		Warm bool `json:"warm"`
	} `json:"attempts"`
}

func (r record) warm() bool { return len(r.Attempts) > 0 && r.Attempts[len(r.Attempts)-1].Warm }

// recorded is how many records a caller reads: reading costs, and the first
// ones are those of the serial comparison.
const recorded = 400

// once is one call, to its result.
func (c *caller) once(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	status, header, body, err := c.srv.Call(ctx, "POST", c.path, map[string]string{"Content-Type": "application/json", "Prefer": "wait=60"}, strings.NewReader(`{}`))
	took := time.Since(began)
	if err != nil {
		return took, err
	}
	if status != 200 && status != 204 {
		return took, fmt.Errorf("the call was answered with %d: %s", status, body)
	}
	return took, c.record(ctx, functions.TaskID(header.Get("Spillway-Task-Id")))
}

func (c *caller) record(ctx context.Context, id functions.TaskID) error {
	c.mu.Lock()
	full := len(c.phases["launch"]) >= recorded
	c.mu.Unlock()
	if full {
		return nil
	}
	var task record
	if err := c.srv.JSON(ctx, "GET", "/v1/tasks/"+string(id), nil, &task); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phases == nil {
		c.phases = map[string][]float64{}
	}
	for phase, took := range task.Timings {
		c.phases[phase] = append(c.phases[phase], took)
	}
	if task.warm() {
		c.warm++
	}
	return nil
}

// launched says how long the tasks' own records say that the launch took: it
// tells a container that waited from one that was started.
func (c *caller) launched() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []string
	for _, phase := range []string{"queue", "stage", "launch", "run", "collect"} {
		if v := c.phases[phase]; len(v) > 0 {
			v = slices.Sorted(slices.Values(v))
			parts = append(parts, phase+" "+results.Short(max(measure.Quantile(v, 0.5), 0.001)))
		}
	}
	return fmt.Sprintf("%d of %d in a container that waited; median ms by the tasks' records: %s", c.warm, len(c.phases["launch"]), strings.Join(parts, ", "))
}
