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

// namespace of the containers in the containerd that ctr starts.
const namespace = "spillway-bench"

// settings of a containerd that only runs containers.
const settings = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
`

// ctr runs containerd's own command on a containerd of its own, below dir.
func ctr(ctx context.Context, dir string, img *Image) (*Peer, error) {
	for _, p := range []string{"ctr", "containerd", "runc"} {
		if _, err := program(p); err != nil {
			return nil, err
		}
	}
	socket, config := filepath.Join(dir, "containerd.sock"), filepath.Join(dir, "containerd.toml")
	text := fmt.Sprintf(settings, filepath.Join(dir, "containerd"), filepath.Join(dir, "containerd-state"), socket)
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
	daemon, err := harness.StartDaemon(cmd)
	if err != nil {
		return nil, err
	}
	base := []string{"ctr", "-a", socket, "-n", namespace}
	with := func(args ...string) []string { return append(base[:len(base):len(base)], args...) }
	closing := func() error {
		ctx := context.WithoutCancel(ctx)
		var err error
		select {
		case <-daemon.Ended(): // an interrupt at the terminal reaches it too
		default:
			err = removeTasks(ctx, with)
		}
		return errors.Join(err, daemon.Stop(20*time.Second), unmountBelow(dir+"/containerd"), removeCgroups(namespace))
	}
	if err := answers(ctx, daemon, with("version")); err != nil {
		return nil, errors.Join(err, closing())
	}
	if _, err := command(ctx, with("images", "import", "--no-unpack", img.Archive)...); err != nil {
		// Old ones know no --no-unpack, and unpack at import.
		if _, err := command(ctx, with("images", "import", img.Archive)...); err != nil {
			return nil, errors.Join(err, closing())
		}
	}
	var n atomic.Int64
	return &Peer{
		Version: version(ctx, "containerd", "--version"),
		Once: func(ctx context.Context) (time.Duration, error) {
			id := fmt.Sprintf("b%d", n.Add(1))
			return command(ctx, with("run", "--rm", "--read-only", "--seccomp", "--memory-limit", bytesOf(memory), "--cpus", fmt.Sprint(cpus), img.Ref, id)...)
		},
		Close: closing,
	}, nil
}

// answers waits until a command succeeds, or its daemon has ended.
func answers(ctx context.Context, daemon *harness.Daemon, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := command(ctx, args...)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-daemon.Ended():
			return fmt.Errorf("the daemon ended before it answered: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not answer: %w", err)
		}
	}
}

// removeTasks ends what an interrupted run left, and its shims with it.
func removeTasks(ctx context.Context, with func(...string) []string) error {
	list := with("tasks", "ls", "-q")
	out, err := exec.CommandContext(ctx, list[0], list[1:]...).Output()
	if err != nil {
		return fmt.Errorf("list containerd's tasks: %w", err)
	}
	var failed []error
	for _, id := range strings.Fields(string(out)) {
		_, err := command(ctx, with("tasks", "rm", "-f", id)...)
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}
