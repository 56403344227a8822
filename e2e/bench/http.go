package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/spillway/spillway/e2e/bench/launch"
	"github.com/spillway/spillway/e2e/bench/measure"
	"github.com/spillway/spillway/e2e/bench/results"
	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/images"
)

// setHTTP is the only comparison of the step.
const setHTTP = "Ratio of rates at the same number of connections"

// connections are the loads that each server meets.
var connections = []int{1, 16, 64}

// httpSpec is a function that is a server, in one container that stays.
const httpSpec = "name: echo\nimage: %s\ncontract: http\nreuse: forever\nhttp: {port: 8080, concurrency: 64}\ndevice: never\nlimits: {cpus: 1, memory: 64MiB, pids: 64}\n"

// endpoint is one server that answers calls.
type endpoint struct {
	name  string
	ours  bool
	open  func(ctx context.Context) (*wire, error)
	pid   int
	close func() error
}

// http compares a call of a warm function with a call of its bare server.
func (b *bench) http(ctx context.Context) (err error) {
	dir := filepath.Join(b.dir, "http")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var ends []endpoint
	defer func() {
		for _, e := range ends {
			err = errors.Join(err, e.close())
		}
	}()
	bin := filepath.Join(dir, "echo")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./e2e/bench/echo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the echo server: %w: %s", err, out)
	}
	plain, err := plainServer(ctx, bin)
	if err != nil {
		return err
	}
	ends = append(ends, plain)
	simulated, err := b.simulatedServer(ctx)
	if err != nil {
		return err
	}
	ends = append(ends, simulated)
	for _, s := range systems {
		served, err := b.servedFunction(ctx, s, dir, bin)
		if errors.Is(err, measure.ErrSkip) {
			b.add(results.Row{Set: setHTTP, Name: "http function on " + s.runtime, Ours: true, Skipped: err.Error()})
			continue
		}
		if err != nil {
			return err
		}
		ends = append(ends, served)
	}
	b.step.Notes = append(b.step.Notes, "A small JSON body there and back over kept-alive connections. Every call of Spillway's is a durable task: "+
		"it is on disk before it runs, and has a record afterwards; the plain server keeps nothing. The client shares the cores.")
	for _, n := range connections {
		for _, e := range ends {
			if err := b.hit(ctx, e, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// hit measures one server with so many connections.
func (b *bench) hit(ctx context.Context, e endpoint, n int) error {
	progress("http: %s, %d connections, %s", e.name, n, b.lasting)
	all, wires := make([]*wire, n), make(chan *wire, n)
	for i := range all {
		w, err := e.open(ctx)
		if err != nil {
			return err
		}
		defer w.conn.Close()
		all[i] = w
		wires <- w
	}
	stop := context.AfterFunc(ctx, func() { // unblocks every read
		for _, w := range all {
			w.conn.Close()
		}
	})
	defer stop()
	baseline, err := measure.Baseline(ctx, 500*time.Millisecond)
	if err != nil {
		return err
	}
	server, client := cpu(e.pid), cpu(os.Getpid())
	got, err := measure.Load(ctx, n, b.lasting, baseline, func(context.Context) (time.Duration, error) {
		w := <-wires
		defer func() { wires <- w }()
		began := time.Now()
		err := w.call()
		return time.Since(began), err
	})
	if err != nil {
		return err
	}
	row := results.Row{Set: setHTTP, Name: e.name, Ours: e.ours, Base: !e.ours, InFlight: n}.Fill(got)
	if got.Latency != nil {
		per := func(d time.Duration) float64 { return ms(d) / float64(got.Latency.N) }
		s, c := per(cpu(e.pid)-server), per(cpu(os.Getpid())-client)
		row.Note = fmt.Sprintf("processor ms a call: server %.3f, client %.3f, rest of the machine %.3f", s, c, max(row.CPU-s-c, 0))
	}
	b.add(row)
	return nil
}

// plainServer runs the program by itself.
func plainServer(ctx context.Context, bin string) (endpoint, error) {
	ports, err := harness.FreePorts()
	if err != nil {
		return endpoint{}, err
	}
	host, port, err := net.SplitHostPort(ports.Gateway)
	if err != nil {
		return endpoint{}, err
	}
	cmd := exec.Command(bin)
	cmd.Env = append(os.Environ(), "HOST="+host, "PORT="+port)
	daemon, err := harness.StartDaemon(cmd)
	if err != nil {
		return endpoint{}, err
	}
	e := endpoint{
		name: "plain net/http", pid: daemon.Pid(), close: func() error { daemon.Kill(); return nil },
		open: func(ctx context.Context) (*wire, error) { return dial(ctx, "http://"+ports.Gateway, "/", `{"n":1}`) },
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		w, err := e.open(ctx)
		if err == nil {
			return e, w.conn.Close()
		}
		if time.Now().After(deadline) {
			daemon.Kill()
			return endpoint{}, fmt.Errorf("the plain server does not answer: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// simulatedServer is a task contract without a container: what the way to it
// and back costs.
func (b *bench) simulatedServer(ctx context.Context) (endpoint, error) {
	srv, err := b.serve(ctx, "http-simulated", "--runtime", "simulated", "--max-tasks", "64", "--cpus", "64")
	if err != nil {
		return endpoint{}, err
	}
	if err := deploy(ctx, srv, "fn", "never"); err != nil {
		return endpoint{}, errors.Join(err, srv.Stop(20*time.Second))
	}
	return endpoint{
		name: "task function, simulated container", ours: true, pid: srv.Pid(), close: func() error { return srv.Stop(20 * time.Second) },
		open: func(ctx context.Context) (*wire, error) {
			return dial(ctx, srv.Gateway, "/v1/functions/fn/invoke", `{"sleep_ms":0}`, "Prefer: wait=60")
		},
	}, nil
}

// servedFunction is the program as an http function, in a container that stays.
func (b *bench) servedFunction(ctx context.Context, s system, dir, bin string) (endpoint, error) {
	img := &launch.Image{Ref: "docker.io/library/spillway-bench-echo:latest", Archive: filepath.Join(dir, "echo.tar")}
	built, err := images.Build(images.Config{Ref: img.Ref, Files: []images.File{{Path: "/echo", Mode: 0o755, Source: bin}}, Entrypoint: []string{"/echo"}})
	if err != nil {
		return endpoint{}, err
	}
	to, err := os.Create(img.Archive)
	if err != nil {
		return endpoint{}, err
	}
	defer to.Close()
	if err := images.WriteArchives(to, map[string]v1.Image{img.Ref: built}); err != nil {
		return endpoint{}, err
	}
	srv, closing, err := s.start(ctx, b, "http-"+s.runtime, img)
	if err != nil {
		return endpoint{}, err
	}
	if err := deploySpec(ctx, srv, fmt.Sprintf(httpSpec, img.Ref)); err != nil {
		return endpoint{}, errors.Join(fmt.Errorf("%w (this build refuses an http function: %v)", measure.ErrSkip, err), closing())
	}
	e := endpoint{
		name: "http function on " + s.runtime, ours: true, pid: srv.Pid(), close: closing,
		open: func(ctx context.Context) (*wire, error) {
			return dial(ctx, srv.Gateway, "/v1/functions/echo/invoke", `{"n":1}`, "Prefer: wait=60")
		},
	}
	// The first call starts the container, if none waits.
	_, _, body, err := srv.Call(ctx, "POST", "/v1/functions/echo/invoke", map[string]string{"Content-Type": "application/json", "Prefer": "wait=60"}, strings.NewReader(`{"n":1}`))
	if err == nil && !strings.Contains(string(body), `"n":1`) {
		err = fmt.Errorf("it answered %q", body)
	}
	if err != nil {
		return endpoint{}, errors.Join(fmt.Errorf("call the http function: %w", err), closing())
	}
	return e, nil
}
