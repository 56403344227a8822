package embedded

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// hangUpEvery is short against what a stop may take, and long against the walk
// through a thousand descriptors.
const hangUpEvery = 50 * time.Millisecond

// hangUp ends the connections of addr's port on which nothing ever came, again
// and again until ctx ends. The library's stop takes such a connection for one
// with a request and waits ten seconds for it. Web browsers and HTTP clients
// open them to have one in reserve. One over TLS has had its greeting, and is
// waited for.
func hangUp(ctx context.Context, addr string) {
	_, port, _ := net.SplitHostPort(addr)
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return // and the store could not listen there
	}
	tick := time.NewTicker(hangUpEvery)
	defer tick.Stop()
	for {
		hangUpSilent(n)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// hangUpSilent finds the connections among the process's descriptors: the
// library opens its sockets itself and shows nobody those without a request.
func hangUpSilent(port int) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // without it a stop is slow, and no worse
	}
	for _, e := range fds {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A duplicate stays the same socket when the number is closed and taken again.
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			continue
		}
		if localPort(own) == port && silent(own) {
			_ = unix.Shutdown(own, unix.SHUT_RDWR) // its reader sees the end
		}
		_ = unix.Close(own)
	}
}

// localPort is 0 for what is no TCP socket.
func localPort(fd int) int {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return sa.Port
	case *unix.SockaddrInet6:
		return sa.Port
	}
	return 0
}

// silent is true for a TCP connection whose peer has sent nothing.
func silent(fd int) bool {
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens != 0 {
		return false
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.Bytes_received == 0
}
