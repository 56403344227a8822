package harness

import (
	"os/exec"
	"time"
)

// Daemon is any program that runs beside a test or a benchmark and does not
// outlive this process.
type Daemon struct{ *child }

// StartDaemon starts cmd.
func StartDaemon(cmd *exec.Cmd) (*Daemon, error) {
	c, err := startChild(cmd, nil)
	if err != nil {
		return nil, err
	}
	return &Daemon{c}, nil
}

// Pid is the process's id.
func (d *Daemon) Pid() int { return d.cmd.Process.Pid }

// Ended is closed when the process is gone.
func (d *Daemon) Ended() <-chan struct{} { return d.ended }

// Kill is kill -9. It returns when the process is gone.
func (d *Daemon) Kill() { d.kill() }

// Stop is SIGTERM, and SIGKILL after grace; it returns the process's own end.
func (d *Daemon) Stop(grace time.Duration) error { return d.stop(grace) }
