package launch

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// outpost starts commands from one thread that has mounts of its own.
type outpost struct {
	starts chan start
	gone   chan struct{} // closed when the thread has ended
}

type start struct {
	cmd  *exec.Cmd
	done chan<- error
}

// newOutpost returns one in which the mount at place is not there. Close it.
func newOutpost(place string) (*outpost, error) {
	o := &outpost{starts: make(chan start), gone: make(chan struct{})}
	ready := make(chan error, 1)
	go func() {
		defer close(o.gone)
		// Never unlocked: the thread ends with this goroutine, for it is of no
		// use to others.
		runtime.LockOSThread()
		ready <- hide(place)
		for s := range o.starts {
			s.done <- s.cmd.Start()
		}
	}()
	if err := <-ready; err != nil {
		close(o.starts)
		return nil, fmt.Errorf("hide %s from crun: %w", place, err)
	}
	return o, nil
}

// hide gives this thread a copy of all mounts, without that at place.
func hide(place string) error {
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	return syscall.Unmount(place, syscall.MNT_DETACH)
}

// start starts a command there.
func (o *outpost) start(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	o.starts <- start{cmd, done}
	return <-done
}

// close ends the thread. No start may be under way.
func (o *outpost) close() error {
	close(o.starts)
	<-o.gone
	return nil
}
