package harness

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// child is a running process that does not outlive this one.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone
	err   error         // of Wait; read after ended
}

// startChild starts cmd in a namespace; nil is this process's own.
func startChild(cmd *exec.Cmd, in *Namespace) (*child, error) {
	// A test that dies must not leave its processes behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c := &child{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the signal when the thread that started the child
		// ends: this thread stays with the child.
		runtime.LockOSThread()
		defer close(c.ended)
		err := in.enter()
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// kill is kill -9. It returns when the process is gone.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

// stop is SIGTERM; it returns the process's own end.
func (c *child) stop(grace time.Duration) error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
		return c.err
	case <-time.After(grace):
		c.kill()
		return fmt.Errorf("%s did not stop within %s", c.cmd.Path, grace)
	}
}
