package entry

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// hello is a Hello's frame.
func hello(t testing.TB, v int, names ...string) []byte {
	t.Helper()
	text, err := wire.Hello{V: v, Descriptors: names}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return wire.AppendFrame(nil, wire.KindHello, text)
}

func conns(n int) []string { return strings.Split(strings.Repeat(","+wire.NameConn, n)[1:], ",") }

// tcp returns a socket, which listens on a port of 127.0.0.1 unless it is 0.
func tcp(t *testing.T, domain, kind, port int) int {
	t.Helper()
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if port != 0 {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Skipf("SKIPPED: port %d of this machine is taken", port)
		}
		if err := unix.Listen(fd, 1); err != nil {
			t.Fatal(err)
		}
	}
	return fd
}

// TestHostileHello: a container may send anything, and costs the agent no
// descriptor by it.
func TestHostileHello(t *testing.T) {
	plain := func(t *testing.T) int { return tcp(t, unix.AF_INET, unix.SOCK_STREAM, 0) }
	listening := func(t *testing.T) int { return tcp(t, unix.AF_INET, unix.SOCK_STREAM, wire.PortAPI) }
	elsewhere := func(t *testing.T) int {
		fd := plain(t)
		if err := unix.Listen(fd, 1); err != nil { // on a port that the kernel chooses
			t.Fatal(err)
		}
		return fd
	}
	connected := func(t *testing.T) int { // to itself
		fd := plain(t)
		err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
		if err == nil {
			var at unix.Sockaddr
			if at, err = unix.Getsockname(fd); err == nil {
				err = unix.Connect(fd, at)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	file := func(t *testing.T) int {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	type maker = func(*testing.T) int
	for name, c := range map[string]struct {
		send []byte
		fds  []maker
		want error // nil = it is taken
	}{
		"no descriptors":         {send: hello(t, 1)},
		"one connection":         {send: hello(t, 1, "conn"), fds: []maker{plain}},
		"the listener":           {send: hello(t, 1, "api"), fds: []maker{listening}},
		"nothing":                {want: functions.ErrUnavailable},
		"half a frame":           {send: hello(t, 1, "conn")[:9], fds: []maker{plain}, want: functions.ErrUnavailable},
		"another version":        {send: hello(t, 2), want: functions.ErrInvalid},
		"another frame":          {send: wire.AppendFrame(nil, wire.KindReport, nil), want: functions.ErrInvalid},
		"an endless frame":       {send: []byte{'h', 0xff, 0xff, 0xff, 0xff}, want: functions.ErrInvalid},
		"garbage":                {send: wire.AppendFrame(nil, wire.KindHello, []byte("v")), want: functions.ErrInvalid},
		"one is missing":         {send: hello(t, 1, "conn", "conn"), fds: []maker{plain}, want: functions.ErrInvalid},
		"one too many":           {send: hello(t, 1, "conn"), fds: []maker{plain, plain}, want: functions.ErrInvalid},
		"far too many":           {send: hello(t, 1, "conn"), fds: repeat(plain, 100), want: functions.ErrInvalid},
		"too many named":         {send: hello(t, 1, conns(65)...), fds: repeat(plain, 65), want: functions.ErrInvalid},
		"two of one":             {send: hello(t, 1, "api", "api"), fds: []maker{plain, plain}, want: functions.ErrInvalid},
		"an unknown name":        {send: hello(t, 1, "root"), fds: []maker{plain}, want: functions.ErrInvalid},
		"a file":                 {send: hello(t, 1, "conn"), fds: []maker{file}, want: functions.ErrInvalid},
		"a file after a good":    {send: hello(t, 1, "conn", "conn"), fds: []maker{plain, file}, want: functions.ErrInvalid},
		"a good after a file":    {send: hello(t, 1, "conn", "conn"), fds: []maker{file, plain}, want: functions.ErrInvalid},
		"a file after listening": {send: hello(t, 1, "api", "conn"), fds: []maker{listening, file}, want: functions.ErrInvalid},
		"UDP":                    {send: hello(t, 1, "conn"), fds: []maker{func(t *testing.T) int { return tcp(t, unix.AF_INET, unix.SOCK_DGRAM, 0) }}, want: functions.ErrInvalid},
		"unix":                   {send: hello(t, 1, "conn"), fds: []maker{func(t *testing.T) int { return tcp(t, unix.AF_UNIX, unix.SOCK_STREAM, 0) }}, want: functions.ErrInvalid},
		"IPv6":                   {send: hello(t, 1, "conn"), fds: []maker{func(t *testing.T) int { return tcp(t, unix.AF_INET6, unix.SOCK_STREAM, 0) }}, want: functions.ErrInvalid},
		"connected":              {send: hello(t, 1, "conn"), fds: []maker{connected}, want: functions.ErrInvalid},
		"listens for conn":       {send: hello(t, 1, "conn"), fds: []maker{elsewhere}, want: functions.ErrInvalid},
		"does not listen":        {send: hello(t, 1, "api"), fds: []maker{plain}, want: functions.ErrInvalid},
		"listens elsewhere":      {send: hello(t, 1, "api"), fds: []maker{elsewhere}, want: functions.ErrInvalid},
		"listens on the other":   {send: hello(t, 1, "s3"), fds: []maker{listening}, want: functions.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			before := descriptorsOpen(t)
			door, err := NewDoor(filepath.Join(t.TempDir(), "door"))
			if err != nil {
				t.Fatal(err)
			}
			defer door.Close()
			peer, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: door.socket(), Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			var fds []int
			for _, f := range c.fds {
				fds = append(fds, f(t))
			}
			if len(c.send) > 0 {
				if _, _, err := peer.WriteMsgUnix(c.send, rights(fds), nil); err != nil {
					t.Fatal(err)
				}
			}
			closeAll(fds)
			if err := peer.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			s, err := door.Accept(t.Context())
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("Accept: %v, want %v", err, c.want)
			}
			if s != nil {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if _, err := os.Lstat(door.socket()); !os.IsNotExist(err) {
				t.Errorf("the socket is still there: %v", err)
			}
			if _, err := door.Accept(t.Context()); !errors.Is(err, functions.ErrUnavailable) {
				t.Errorf("a second Accept: %v, want unavailable", err)
			}
			peer.Close()
			if err := door.Close(); err != nil {
				t.Error(err)
			}
			if after := descriptorsOpen(t); after != before {
				t.Errorf("%d descriptors are open, before %d", after, before)
			}
		})
	}
}

func repeat[T any](v T, n int) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = v
	}
	return all
}

func rights(fds []int) []byte {
	if len(fds) == 0 {
		return nil
	}
	return unix.UnixRights(fds...)
}

// descriptorsOpen counts this process's sockets: other descriptors come and go
// with the test's own files.
func descriptorsOpen(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && (strings.HasPrefix(to, "socket:") || to == "/dev/null") {
			n++
		}
	}
	return n
}

// TestNoDescriptorsLeft: it is the agent's fault, not the container's.
func TestNoDescriptorsLeft(t *testing.T) {
	if err := truncated(maxDescriptors); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("all that there can be: %v, want invalid", err)
	}
	if err := truncated(3); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("some of them: %v, want unavailable", err)
	}
}

// FuzzHello feeds the parser what a container may send.
func FuzzHello(f *testing.F) {
	f.Add(hello(f, 1, "api", "s3", "conn"), []byte(nil))
	f.Add(hello(f, 1), unix.UnixRights(0))
	f.Add([]byte(nil), []byte("!\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00000000000000000000000000"))
	f.Add([]byte{'h', 0, 0, 0, 4, 'v', '=', '1', 0}, []byte{16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, sent, control []byte) {
		names, err := readHello(io.MultiReader(bytes.NewReader(sent)))
		if err == nil && len(names) > wire.MaxConns+2 {
			t.Errorf("%d descriptors are named", len(names))
		}
		descriptors(control) // the numbers in it are not of this process: none is used
	})
}
