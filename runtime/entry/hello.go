package entry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// maxDescriptors is one more than a Hello can have, so that too many are seen.
const maxDescriptors = wire.MaxConns + 3

// handover is what an entry program gave: sockets of its container's network.
type handover struct {
	listeners map[string]net.Listener
	conns     []int
}

func (h *handover) close() {
	for _, l := range h.listeners {
		l.Close()
	}
	for _, fd := range h.conns {
		unix.Close(fd)
	}
}

// receive reads the Hello and checks each descriptor. A container may send
// anything: what is not exactly as an entry program sends it is refused, and
// every descriptor of it closed.
func receive(conn *net.UnixConn) (*handover, error) {
	text := make([]byte, 4096) // over any Hello
	control := make([]byte, unix.CmsgSpace(4*maxDescriptors))
	n, controlled, flags, _, err := conn.ReadMsgUnix(text, control)
	fds, cerr := descriptors(control[:controlled])
	if err == nil {
		err = cerr
	}
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = truncated(len(fds))
	}
	var names []string
	if err == nil {
		names, err = readHello(io.MultiReader(bytes.NewReader(text[:n]), conn))
	}
	if err == nil && len(names) != len(fds) {
		err = refused("%d descriptors came, %d are named", len(fds), len(names))
	}
	if err != nil {
		closeAll(fds)
		if !errors.Is(err, functions.ErrInvalid) && !errors.Is(err, functions.ErrUnavailable) {
			err = functions.Unavailable("entry_gone", "the entry program of the container went away before it was ready").
				WithHint("look for its words in the container's output").WithCause(err)
		}
		return nil, err
	}
	return take(names, fds)
}

// truncated is the error for descriptors that did not all arrive: there are too
// many of them, or this process can have no more.
func truncated(arrived int) error {
	if arrived >= maxDescriptors {
		return refused("it hands over more descriptors than there can be")
	}
	return functions.Unavailable("no_descriptors", "this agent can open no more files").
		WithHint("raise its limit of open files (LimitNOFILE= of its systemd unit)")
}

// readHello reads the first frame and checks what can be checked of it alone.
func readHello(r io.Reader) ([]string, error) {
	kind, payload, err := wire.ReadFrame(r, nil)
	if errors.Is(err, wire.ErrFrame) || err == nil && kind != wire.KindHello {
		return nil, refused("its first words are no Hello")
	}
	if err != nil {
		return nil, err
	}
	hello, err := wire.ParseHello(payload)
	switch {
	case err != nil:
		return nil, refused("its Hello cannot be read")
	case hello.V != wire.Version:
		return nil, refused("it speaks version %d of the protocol, this agent %d", hello.V, wire.Version)
	}
	count := map[string]int{}
	for _, name := range hello.Descriptors {
		count[name]++
	}
	if count[wire.NameAPI] > 1 || count[wire.NameS3] > 1 || count[wire.NameConn] > wire.MaxConns ||
		count[wire.NameAPI]+count[wire.NameS3]+count[wire.NameConn] != len(hello.Descriptors) {
		return nil, refused("it names descriptors that it cannot have: %.100q", hello.Descriptors)
	}
	return hello.Descriptors, nil
}

// descriptors are those of a control message. They are all returned, in an
// error too, for the caller to close.
func descriptors(control []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, refused("its control message is malformed")
	}
	var fds []int
	for _, m := range messages {
		var got []int
		bad := error(unix.EINVAL)
		if len(m.Data)%4 == 0 { // as the kernel writes them; the parser relies on it
			got, bad = unix.ParseUnixRights(&m)
		}
		if bad != nil {
			err = refused("its control message carries no descriptors")
		}
		fds = append(fds, got...)
	}
	return fds, err
}

// take checks the sockets and makes of them what they are for. It owns fds.
func take(names []string, fds []int) (*handover, error) {
	h := &handover{listeners: map[string]net.Listener{}}
	for i, name := range names {
		if err := h.add(name, fds[i]); err != nil {
			closeAll(fds[i+1:])
			h.close()
			return nil, err
		}
	}
	return h, nil
}

// add takes one socket. It owns fd.
func (h *handover) add(name string, fd int) error {
	if err := check(name, fd); err != nil {
		unix.Close(fd)
		return err
	}
	if name == wire.NameConn {
		h.conns = append(h.conns, fd)
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close() // the listener has a descriptor of its own
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("take over the listener %s: %w", name, err)
	}
	h.listeners[name] = l
	return nil
}

func check(name string, fd int) error {
	switch name {
	case wire.NameAPI:
		return checkListener(fd, wire.PortAPI)
	case wire.NameS3:
		return checkListener(fd, wire.PortS3)
	}
	return checkConn(fd)
}

// checkSocket refuses whatever is no TCP socket over IPv4, and takes from it
// what could hold up the agent: a close that lingers.
func checkSocket(fd int) error {
	for _, c := range []struct {
		what         string
		option, want int
	}{
		{"IPv4", unix.SO_DOMAIN, unix.AF_INET},
		{"stream", unix.SO_TYPE, unix.SOCK_STREAM},
		{"TCP", unix.SO_PROTOCOL, unix.IPPROTO_TCP},
	} {
		if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, c.option); err != nil || got != c.want {
			return refused("one of its descriptors is no %s socket", c.what)
		}
	}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{}); err != nil {
		return refused("one of its sockets cannot be set up: %v", err)
	}
	return nil
}

func checkListener(fd, port int) error {
	if err := checkSocket(fd); err != nil {
		return err
	}
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on != 1 {
		return refused("the socket for port %d does not listen", port)
	}
	at, err := unix.Getsockname(fd)
	if a, ok := at.(*unix.SockaddrInet4); err != nil || !ok || a.Addr != [4]byte{127, 0, 0, 1} || a.Port != port {
		return refused("the socket for port %d listens elsewhere", port)
	}
	return nil
}

func checkConn(fd int) error {
	if err := checkSocket(fd); err != nil {
		return err
	}
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on != 0 {
		return refused("one of its sockets for connections listens")
	}
	if _, err := unix.Getpeername(fd); err != unix.ENOTCONN {
		return refused("one of its sockets for connections has a peer")
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return refused("one of its sockets cannot be set up: %v", err)
	}
	return nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// refused is the error for a Hello that is not as it has to be.
func refused(format string, args ...any) error {
	return functions.Invalid("bad_hello", "the entry program in the container is not ours: "+format, args...).
		WithHint("nothing of the function's image may stand in for the entry program; remove the container")
}
