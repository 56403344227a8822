package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// watch is a monitor as the driver sees it: its own child, or one that it found.
type watch struct {
	pid    int
	child  *os.Process // nil for one that was found
	frames *os.File    // what a child says
	handle *os.File    // the process descriptor of one that was found
}

// wait blocks until the monitor has ended, or is os.ErrClosed when it was abandoned.
func (w *watch) wait() error {
	if w.child != nil {
		_, err := w.child.Wait()
		return err
	}
	conn, err := w.handle.SyscallConn()
	if err != nil {
		return err
	}
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 && err == nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", os.ErrClosed, err)
	}
	return nil
}

// terminate asks the monitor to pass SIGTERM on to its container.
func (w *watch) terminate() error {
	err := error(nil)
	if w.child != nil {
		err = w.child.Signal(syscall.SIGTERM)
	} else {
		var conn syscall.RawConn
		if conn, err = w.handle.SyscallConn(); err == nil {
			err = errors.Join(conn.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), unix.SIGTERM, nil, 0) }), err)
		}
	}
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// kill ends the monitor and the OCI runtime that it may be executing. Its
// process group has its number for as long as one of them is there.
func (w *watch) kill() { _ = unix.Kill(-w.pid, unix.SIGKILL) }

// abandon lets go of the monitor, which lives on.
func (w *watch) abandon() {
	if w.child != nil {
		w.frames.Close()
		return
	}
	w.handle.Close()
}

// errNoMonitor means that a container's monitor is dead, or never was.
var errNoMonitor = errors.New("no monitor")

// helloTime bounds how long a monitor may take to write its number.
const helloTime = 10 * time.Second

// findWatch finds the monitor of a container's folder. The lock that it holds
// proves that the number in the file is still its own.
func findWatch(dir string) (*watch, error) {
	path := filepath.Join(dir, wire.FileLock)
	for deadline := time.Now().Add(helloTime); ; {
		held, err := isLocked(path)
		if err != nil {
			return nil, err
		}
		if !held {
			return nil, errNoMonitor
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			return holdWatch(path, pid)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s is held by a process that does not say its number", path)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func holdWatch(path string, pid int) (*watch, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, errNoMonitor
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	handle := os.NewFile(uintptr(fd), "monitor")
	held, err := isLocked(path)
	if err == nil && !held {
		err = errNoMonitor
	}
	if err != nil {
		handle.Close()
		return nil, err
	}
	return &watch{pid: pid, handle: handle}, nil
}
