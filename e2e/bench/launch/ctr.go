package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/e2e/harness"
)

// settings of a containerd that only runs containers.
const settings = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
`

// engine is a containerd of a way's own, with one namespace.
type engine struct {
	socket, namespace, dir string
	daemon                 *harness.Daemon
}

// startContainerd starts one below dir. Sockets bound the length of dir.
func startContainerd(ctx context.Context, dir, namespace string) (*engine, error) {
	for _, p := range []string{"ctr", "containerd", "runc"} {
		if _, err := program(p); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	e := &engine{socket: filepath.Join(dir, "containerd.sock"), namespace: namespace, dir: dir}
	config, text := filepath.Join(dir, "containerd.toml"), fmt.Sprintf(settings, filepath.Join(dir, "root"), filepath.Join(dir, "state"), e.socket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "containerd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("containerd", "--config", config)
	cmd.Stdout, cmd.Stderr = log, log
	if e.daemon, err = harness.StartDaemon(cmd); err != nil {
		return nil, err
	}
	if err := e.answers(ctx); err != nil {
		return nil, errors.Join(err, e.stop(ctx))
	}
	return e, nil
}

// with is a command line of ctr for this containerd.
func (e *engine) with(args ...string) []string {
	return append([]string{"ctr", "-a", e.socket, "-n", e.namespace}, args...)
}

// stop ends what still runs and the daemon, and removes their traces outside of
// its folder.
func (e *engine) stop(ctx context.Context) error {
	var err error
	select {
	case <-e.daemon.Ended(): // an interrupt at the terminal reaches it too
	default:
		err = e.removeTasks(context.WithoutCancel(ctx))
	}
	return errors.Join(err, e.daemon.Stop(20*time.Second), unmountBelow(e.dir+"/"), removeCgroups(e.namespace))
}

// ctr runs containerd's own command on a containerd of its own, below dir.
func ctr(ctx context.Context, dir string, img *Image) (*Peer, error) {
	e, err := startContainerd(ctx, filepath.Join(dir, "ctr"), "spillway-bench")
	if err != nil {
		return nil, err
	}
	if _, err := command(ctx, e.with("images", "import", img.Archive)...); err != nil {
		return nil, errors.Join(err, e.stop(ctx))
	}
	var n atomic.Int64
	return &Peer{
		Version: version(ctx, "containerd", "--version"),
		Once: func(ctx context.Context) (time.Duration, error) {
			id := fmt.Sprintf("b%d", n.Add(1))
			return command(ctx, e.with("run", "--rm", "--read-only", "--seccomp", "--memory-limit", bytesOf(memory), "--cpus", fmt.Sprint(cpus), img.Ref, id)...)
		},
		Close: func() error { return e.stop(ctx) },
	}, nil
}

// answers waits until the daemon does, or has ended.
func (e *engine) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := command(ctx, e.with("version")...)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-e.daemon.Ended():
			return fmt.Errorf("the daemon ended before it answered: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not answer: %w", err)
		}
	}
}

// removeTasks ends what an interrupted run left, and its shims with it.
func (e *engine) removeTasks(ctx context.Context) error {
	list := e.with("tasks", "ls", "-q")
	out, err := exec.CommandContext(ctx, list[0], list[1:]...).Output()
	if err != nil {
		return fmt.Errorf("list containerd's tasks: %w", err)
	}
	var failed []error
	for _, id := range strings.Fields(string(out)) {
		_, err := command(ctx, e.with("tasks", "rm", "-f", id)...)
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}
