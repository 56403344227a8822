// Package launch starts one container that does nothing, from the request to
// its known exit, through whatever this machine has: Docker's command and API,
// containerd, runc, crun, Podman, and the drivers of this project. All run the
// same program of the same image with the same limits and without a network;
// what they add on their own (seccomp, a copy-on-write root) is theirs.
package launch

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/e2e/bench/measure"
	"github.com/spillway/spillway/functions"
)

// The limits of every container.
const (
	memory = 64 * functions.MiB
	cpus   = 1
	pids   = 64
)

// Peer is a way to launch.
type Peer struct {
	Name    string
	Ours    bool
	Version string // of the program, when it says
	Once    measure.Op
	Close   func() error // leaves nothing behind
}

// Opener prepares a way to launch below dir. It returns measure.ErrSkip when
// this machine does not have it.
type Opener struct {
	Name string
	Ours bool
	Open func(ctx context.Context, dir string, img *Image) (*Peer, error)
}

// Openers are all ways, the peers' first. To measure another driver of ours, add
// it to drivers.
func Openers() []Opener {
	all := []Opener{
		{Name: "docker run (CLI)", Open: dockerCLI},
		{Name: "Docker API", Open: dockerAPI},
		{Name: "podman run", Open: podman},
		{Name: "ctr run", Open: ctr},
		{Name: "runc run", Open: runc},
		{Name: "crun run", Open: crun},
	}
	for _, d := range drivers {
		all = append(all, Opener{Name: "driver " + d.name, Ours: true, Open: d.peer})
	}
	return all
}

// skip says why a peer is not measured.
func skip(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, measure.ErrSkip)...)
}

// program finds a program, or says how to get it.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", skip("%s is not installed", name)
	}
	return path, nil
}

// version is the first line that a program prints about itself.
func version(ctx context.Context, args ...string) string {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// command runs a program to its end, and returns how long that took.
func command(ctx context.Context, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	return timed(cmd, cmd.Start)
}

// timed starts cmd in the given way and waits for its end.
func timed(cmd *exec.Cmd, start func() error) (time.Duration, error) {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 10 * time.Second
	began := time.Now()
	err := start()
	if err == nil {
		err = cmd.Wait()
	}
	took := time.Since(began)
	if err != nil {
		return took, fmt.Errorf("%s: %w: %s", cmd.Path, err, strings.TrimSpace(out.String()))
	}
	return took, nil
}

func bytesOf(b functions.Bytes) string { return strconv.FormatInt(int64(b), 10) }
