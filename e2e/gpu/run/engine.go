package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spillway/spillway/e2e/harness"
)

// engine is a containerd of the run's own, with its files, state and socket
// below one folder.
type engine struct {
	address string
	process *harness.Daemon
}

// path is where programs look for others: what came along goes first.
func (s settings) path() string {
	return "PATH=" + filepath.Join(s.bundle, "bin") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

func startEngine(ctx context.Context, s settings) (*engine, error) {
	dir := filepath.Join(s.work, "c")
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	e := &engine{address: filepath.Join(dir, "s")}
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [%q]\n[grpc]\naddress = %q\n",
		filepath.Join(dir, "data"), filepath.Join(dir, "run"), "io.containerd.grpc.v1.cri", e.address)
	file := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(s.work, "containerd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.bundle, "bin", "containerd"), "--config", file)
	cmd.Env = append(os.Environ(), s.path())
	cmd.Stdout, cmd.Stderr = log, log
	if e.process, err = harness.StartDaemon(cmd); err != nil {
		return nil, err
	}
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("unix", e.address); err == nil {
			return e, conn.Close()
		}
		select {
		case <-tick.C:
		case <-e.process.Ended():
			return nil, fmt.Errorf("containerd ended before it answered: %s", tail(log.Name()))
		case <-limit.Done():
			e.stop()
			return nil, fmt.Errorf("containerd does not answer: %s", tail(log.Name()))
		}
	}
}

func (e *engine) stop() { _ = e.process.Stop(20 * time.Second) } // a stop that took a kill harms nothing here

// tail is the end of a log, on one line.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(strings.TrimSpace(string(text[max(0, len(text)-1500):])), "\n", " | ")
}

// unmount lets go of what is still mounted below a folder, the newest first.
func unmount(dir string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return // the removal of the folder will say what is left
	}
	lines := strings.Split(string(mounts), "\n")
	for _, line := range slices.Backward(lines) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			_ = syscall.Unmount(fields[1], syscall.MNT_DETACH)
		}
	}
}
