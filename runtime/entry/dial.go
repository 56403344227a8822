package entry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
)

// sockets are TCP sockets that were made in the container's network, and so
// connect to what listens there. One can be used again after its connection is
// closed.
type sockets struct {
	idle chan int // closed never; see closed

	mu     sync.Mutex // guards the fields below
	used   map[int]bool
	closed bool
	over   chan struct{} // closed by close
}

func newSockets(fds []int) *sockets {
	s := &sockets{idle: make(chan int, len(fds)), used: map[int]bool{}, over: make(chan struct{})}
	for _, fd := range fds {
		s.idle <- fd
	}
	return s
}

// acquire waits for a socket that nobody uses.
func (s *sockets) acquire(ctx context.Context) (int, error) {
	if cap(s.idle) == 0 {
		return 0, functions.Conflict("no_sockets", "the container handed over no socket for connections").
			WithHint("start it with entry.Options.Conns")
	}
	select {
	case fd := <-s.idle:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed {
			unix.Close(fd)
			return 0, gone(net.ErrClosed)
		}
		s.used[fd] = true
		return fd, nil
	case <-s.over:
		return 0, gone(net.ErrClosed)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// release ends the connection of a socket and makes it free.
func (s *sockets) release(fd int) {
	unix.Shutdown(fd, unix.SHUT_RDWR) // one that is not connected says so
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.used, fd)
	if s.closed {
		unix.Close(fd)
		return
	}
	s.idle <- fd
}

// close breaks every connection. A socket that is used is closed when it is
// released, because until then its number must not be another's.
func (s *sockets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.over)
	for fd := range s.used {
		unix.Shutdown(fd, unix.SHUT_RDWR)
	}
	for len(s.idle) > 0 {
		unix.Close(<-s.idle)
	}
}

// Dial connects to a port on the container's 127.0.0.1 and returns a
// *net.TCPConn's methods with a Close that makes its socket free for the next
// Dial. There are at most Options.Conns connections at once; Dial waits for one.
// A port where nobody listens yet is ErrUnavailable, at once.
func (s *Session) Dial(ctx context.Context, port int) (net.Conn, error) {
	fd, err := s.sockets.acquire(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := connect(ctx, fd, port)
	if err != nil {
		s.sockets.release(fd)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connect to port %d in the container: %w", port, context.Cause(ctx))
		}
		return nil, functions.Unavailable("no_server", "nobody answers on port %d in the container", port).
			WithHint("let the function's server listen there; a server that has just started needs a moment").WithCause(err)
	}
	return &dialed{TCPConn: conn, release: sync.OnceFunc(func() { s.sockets.release(fd) })}, nil
}

// dialed is a connection by a socket that is used again.
type dialed struct {
	*net.TCPConn
	release func()
}

// Close ends the connection in both directions.
func (d *dialed) Close() error {
	err := d.TCPConn.Close()
	d.release()
	return err
}

// connect connects a socket of ours to a port of 127.0.0.1, as its network has
// it. The connection has a descriptor of its own for the same socket.
func connect(ctx context.Context, fd, port int) (*net.TCPConn, error) {
	if err := disconnect(fd); err != nil {
		return nil, os.NewSyscallError("disconnect", err)
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	f := os.NewFile(uintptr(own), "socket in the container")
	defer f.Close() // the net.Conn has one more
	err = unix.Connect(own, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	if errors.Is(err, unix.EINPROGRESS) {
		err = connected(ctx, f)
	}
	if err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok { // it was checked when it came
		conn.Close()
		return nil, errors.ErrUnsupported
	}
	return tcp, nil
}

// disconnect makes a socket as if it had never been connected.
func disconnect(fd int) error {
	nowhere := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if _, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nowhere)), unsafe.Sizeof(nowhere)); e != 0 {
		return e
	}
	return nil
}

// connected waits until a connect that is in progress has succeeded or failed.
func connected(ctx context.Context, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		var n int
		if n, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); n != 0 {
			failed = unix.Errno(n)
		}
		if failed != nil {
			return true
		}
		_, pending := unix.Getpeername(int(fd))
		return pending == nil
	})
	return errors.Join(err, failed)
}
