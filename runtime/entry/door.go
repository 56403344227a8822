package entry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// helloTime is how long an entry program that has connected may take to say Hello.
const helloTime = 10 * time.Second

// Door is where one container's entry program finds the agent: a directory of
// its own with a socket, which is mounted into that container alone. Who comes
// through it is that container. Close it when the container is gone.
type Door struct {
	dir      string
	listener *net.UnixListener

	once sync.Once // closes the listener and takes its name away
}

// NewDoor makes the directory, with those above it, and listens. One that is
// there already is ErrConflict.
func NewDoor(dir string) (*Door, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("make a door: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return nil, fmt.Errorf("make a door: %w", err)
	}
	if err := os.Mkdir(dir, 0o711); errors.Is(err, fs.ErrExist) {
		return nil, functions.Conflict("door_exists", "%s exists already", dir).
			WithHint("remove it if no container uses it any more").WithCause(err)
	} else if err != nil {
		return nil, fmt.Errorf("make a door: %w", err)
	}
	d := &Door{dir: dir}
	if d.listener, err = listen(dir); err == nil {
		err = errors.Join(os.Chmod(dir, 0o711), os.Chmod(d.socket(), 0o666)) // whatever the umask is
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a door: %w", err), d.Close())
	}
	return d, nil
}

// listen opens the socket by way of its directory's descriptor: a socket's path
// has 107 bytes at most, a directory's has no such limit.
func listen(dir string) (*net.UnixListener, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	name := filepath.Join("/proc/self/fd", strconv.Itoa(fd), filepath.Base(wire.Socket))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by then the name is another's
	return l, nil
}

func (d *Door) socket() string { return filepath.Join(d.dir, filepath.Base(wire.Socket)) }

// Mounts are what the container needs beside Command: the door, and the program
// that Install put on this machine.
func (d *Door) Mounts(program string) []runtime.Mount {
	return []runtime.Mount{
		{Source: d.dir, Target: wire.Dir, ReadOnly: true},
		{Source: program, Target: wire.Program, ReadOnly: true},
	}
}

// Accept waits for the container's entry program and takes what it hands over.
// A container that dies before does not end the wait: ctx does.
// Whatever comes of it, nobody comes through this door again. ErrInvalid is a
// Hello that no entry program of this version sends; ErrUnavailable one that
// did not come to its end, or a door that was closed.
func (d *Door) Accept(ctx context.Context) (*Session, error) {
	stop := context.AfterFunc(ctx, func() { d.listener.SetDeadline(time.Unix(1, 0)) })
	conn, err := d.listener.AcceptUnix()
	stop()
	d.shut()
	switch {
	case ctx.Err() != nil:
		if err == nil {
			conn.Close()
		}
		return nil, fmt.Errorf("wait for the entry program: %w", context.Cause(ctx))
	case err != nil:
		return nil, functions.Unavailable("door_closed", "the door for this container's entry program is closed").
			WithHint("start another container").WithCause(err)
	}
	conn.SetReadDeadline(time.Now().Add(helloTime))
	stop = context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	given, err := receive(conn)
	if !stop() && err == nil {
		given.close()
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait for the entry program: %w", context.Cause(ctx))
		}
		return nil, err
	}
	conn.SetReadDeadline(time.Time{})
	return newSession(conn, given), nil
}

// shut lets nobody in any more.
func (d *Door) shut() {
	d.once.Do(func() {
		if d.listener != nil {
			d.listener.Close()
		}
		os.Remove(d.socket())
	})
}

// Close removes the door. A session that came through it goes on.
func (d *Door) Close() error {
	d.shut()
	if err := os.RemoveAll(d.dir); err != nil {
		return fmt.Errorf("remove a door: %w", err)
	}
	return nil
}
