package dockertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon is a process of an engine.
type daemon struct {
	*os.Process
	ended chan struct{} // closed when it has ended
}

// launch starts a daemon that logs to the engine's log.
func (e *Engine) launch(program string, args ...string) *daemon {
	e.t.Helper()
	log, err := os.OpenFile(e.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "PATH="+e.path, "SPILLWAY_FAKE_GPU_MODE="+e.file("mode"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is the test's to handle
	if err := cmd.Start(); err != nil {
		e.t.Fatalf("start %s: %v", program, err)
	}
	d := &daemon{cmd.Process, make(chan struct{})}
	go func() { cmd.Wait(); close(d.ended) }()
	return d
}

// poll waits until a daemon answers, or has ended.
func (e *Engine) poll(ended <-chan struct{}, program string, answers func() bool) {
	e.t.Helper()
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !answers() {
		select {
		case <-tick.C:
		case <-ended:
			e.t.Fatalf("%s ended:\n%s", program, e.Log())
		case <-deadline.C:
			e.t.Fatalf("%s does not answer after %v:\n%s", program, startLimit, e.Log())
		}
	}
}

// stop ends the engine, then its containerd and whatever shims are left, which
// is every container's after Crash and under LiveRestore.
func (e *Engine) stop() {
	if e.dockerd != nil {
		e.end(e.dockerd)
	}
	if e.below != nil {
		e.end(e.below)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		e.t.Error(err)
	}
	for _, dir := range processes {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err == nil && ours(pid, e.root) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// end asks a daemon to stop, and kills it after a while.
func (e *Engine) end(d *daemon) {
	d.Signal(syscall.SIGTERM)
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-d.ended:
	case <-timer.C:
		e.t.Errorf("a daemon did not stop in %v", stopLimit)
		d.Kill()
		<-d.ended
	}
}

// ours reports whether a process belongs to the engine below root: a shim by its
// arguments, a container's by the folder that is its file system.
func ours(pid int, root string) bool {
	name := filepath.Base(root)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	for arg := range strings.SplitSeq(string(text), "\x00") {
		if arg == name || strings.HasPrefix(arg, root+"/") {
			return true
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" && strings.Contains(f[3], "/"+name+"/data/") {
			return true
		}
	}
	return false
}
