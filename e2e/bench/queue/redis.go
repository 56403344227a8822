package queue

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

	"github.com/spillway/spillway/e2e/harness"
)

// redis starts a Redis that keeps its log on disk, with the given appendfsync.
func redis(ctx context.Context, dir, fsync string) (addr string, stop func() error, err error) {
	path, err := program("redis-server")
	if err != nil {
		return "", nil, err
	}
	ports, err := harness.FreePorts()
	if err != nil {
		return "", nil, err
	}
	addr = ports.Gateway
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(path, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", fsync,
		"--daemonize", "no", "--logfile", filepath.Join(dir, "redis.log"))
	daemon, err := harness.StartDaemon(cmd)
	if err != nil {
		return "", nil, err
	}
	stop = func() error { return daemon.Stop(20 * time.Second) }
	return addr, stop, ready(ctx, daemon, func() error {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}, stop)
}

// ready waits until a service answers. If it never does, it is stopped.
func ready(ctx context.Context, daemon *harness.Daemon, ask func() error, stop func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
			continue
		case <-daemon.Ended():
			err = fmt.Errorf("the service ended before it answered: %w", err)
		case <-ctx.Done():
			err = fmt.Errorf("the service does not answer: %w", err)
		}
		return errors.Join(err, stop())
	}
}

// asynq is asynq with its own defaults but for how often an idle worker asks.
func asynq(ctx context.Context, dir, module, fsync string) (*Peer, error) {
	addr, stop, err := redis(ctx, dir, fsync)
	if err != nil {
		return nil, err
	}
	c, err := startModule(ctx, dir, module, "asynq", addr)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &Peer{
		Version: "asynq 0.26.0, " + redisVersion(ctx), Note: "64 workers in one process, idle ones ask every 50 ms",
		Do: c.do, Close: func() error { return errors.Join(c.close(), stop()) },
	}, nil
}

func redisVersion(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	if err != nil {
		return "Redis"
	}
	for field := range strings.FieldsSeq(string(out)) {
		if v, ok := strings.CutPrefix(field, "v="); ok {
			return "Redis " + v
		}
	}
	return "Redis"
}

// celery is Celery with two queues, late acknowledgement and one process per
// core, and a client of as many processes.
func celery(ctx context.Context, dir, module, fsync string) (*Peer, error) {
	python, err := program("/usr/bin/python3", "python3")
	if err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(ctx, python, "-c", "import celery, redis; print(celery.__version__)").CombinedOutput()
	if err != nil {
		return nil, skip("Celery or its Redis client is not installed for %s (%s)", python, lastLine(version))
	}
	addr, stop, err := redis(ctx, dir, fsync)
	if err != nil {
		return nil, err
	}
	env := append(os.Environ(), "BENCH_BROKER=redis://"+addr+"/0", "BENCH_RECORD="+filepath.Join(dir, "record"), "PYTHONDONTWRITEBYTECODE=1")
	app, err := filepath.Abs(filepath.Join(module, "celery"))
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	log, err := os.Create(filepath.Join(dir, "worker.log"))
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	defer log.Close()
	cmd := exec.Command(python, "-m", "celery", "-A", "tasks", "worker", "-Q", "gpu-tasks,celery", "--pool", "prefork", "--loglevel", "WARNING")
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = app, append(env, "C_FORCE_ROOT=1"), log, log
	worker, err := harness.StartDaemon(cmd)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	closing := func() error {
		// A worker that ends warmly says 0; one that must be killed is an error.
		return errors.Join(worker.Stop(30*time.Second), stop())
	}
	client := exec.Command(python, "client.py")
	client.Dir, client.Env = app, env
	c, err := startClient(client, filepath.Join(dir, "client.log"))
	if err != nil {
		return nil, errors.Join(err, closing())
	}
	closing = func() error { return errors.Join(c.close(), worker.Stop(30*time.Second), stop()) }
	// A task that is done shows that the worker is up.
	if _, err := c.do(ctx, Command{Do: Latency, N: 4, PerSecond: 10}); err != nil {
		return nil, errors.Join(err, closing())
	}
	return &Peer{
		Version: "Celery " + strings.TrimSpace(string(version)) + ", " + redisVersion(ctx), Note: "queues gpu-tasks and celery, acks_late, prefork with one process per core",
		Do: c.do, Close: closing,
	}, nil
}
