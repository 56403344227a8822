package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace; nil is this process's own.
type Namespace struct {
	name string   // of ip netns
	file *os.File // keeps it, and is the way in
}

// Network is a set of network namespaces on this machine with a link of its own
// between each two. Nothing else can be reached from them, nor they from
// anything else.
type Network struct {
	spaces map[string]*Namespace
	order  []string // as given to NewNetwork; makes the addresses
}

// netPrefix begins the names of all namespaces that Networks make; the process
// id follows, so that what a killed test left can be told.
const netPrefix = "spillway-e2e-"

// NewNetwork makes a namespace for each name, and the links. It needs root and
// iproute2. Close takes all of it away.
func NewNetwork(names ...string) (*Network, error) {
	removeStrays()
	n := &Network{spaces: map[string]*Namespace{}, order: names}
	err := n.build()
	if err != nil {
		err = errors.Join(err, n.Close())
	}
	return n, err
}

func (n *Network) build() error {
	for _, name := range n.order {
		space := &Namespace{name: fmt.Sprintf("%s%d-%s", netPrefix, os.Getpid(), name)}
		if err := ip("netns", "add", space.name); err != nil {
			return err
		}
		n.spaces[name] = space
		var err error
		if space.file, err = os.Open(filepath.Join("/run/netns", space.name)); err != nil {
			return err
		}
		if err := ip("-n", space.name, "link", "set", "lo", "up"); err != nil {
			return err
		}
	}
	for i, a := range n.order {
		for _, b := range n.order[i+1:] {
			if err := ip("link", "add", device(b), "netns", n.spaces[a].name, "type", "veth", "peer", "name", device(a), "netns", n.spaces[b].name); err != nil {
				return err
			}
			for _, end := range [][2]string{{a, b}, {b, a}} {
				space := n.spaces[end[0]].name
				if err := ip("-n", space, "addr", "add", n.Addr(end[0], end[1])+"/30", "dev", device(end[1])); err != nil {
					return err
				}
				if err := ip("-n", space, "link", "set", device(end[1]), "up"); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// device names the end of a link that leads toward a namespace.
func device(toward string) string { return "to-" + toward }

// In returns a namespace by its name.
func (n *Network) In(name string) *Namespace { return n.spaces[name] }

// Addr is the address at which a namespace is reached from another.
func (n *Network) Addr(of, from string) string {
	var at [2]int
	for i, name := range n.order {
		if name == of {
			at[0] = i
		}
		if name == from {
			at[1] = i
		}
	}
	host := 1
	if at[0] > at[1] {
		host = 2
	}
	return fmt.Sprintf("10.213.%d.%d", min(at[0], at[1])*len(n.order)+max(at[0], at[1]), host)
}

// Cut takes the link between two namespaces down, as a pulled cable would.
func (n *Network) Cut(a, b string) error { return n.set(a, b, "down") }

// Mend brings a cut link up again.
func (n *Network) Mend(a, b string) error { return n.set(a, b, "up") }

func (n *Network) set(a, b, state string) error {
	return ip("-n", n.spaces[a].name, "link", "set", device(b), state)
}

// Close removes the namespaces and with them the links.
func (n *Network) Close() error {
	var failed error
	for _, space := range n.spaces {
		if space.file != nil {
			space.file.Close()
		}
		failed = errors.Join(failed, ip("netns", "del", space.name))
	}
	clear(n.spaces)
	return failed
}

// removeStrays removes the namespaces of processes that are gone.
func removeStrays() {
	all, err := filepath.Glob(filepath.Join("/run/netns", netPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range all {
		name := filepath.Base(path)
		text, _, _ := strings.Cut(strings.TrimPrefix(name, netPrefix), "-")
		if pid, err := strconv.Atoi(text); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = ip("netns", "del", name)
		}
	}
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// enter moves the calling thread into the namespace. The thread must be locked
// to its goroutine and end with it.
func (s *Namespace) enter() error {
	if s == nil {
		return nil
	}
	if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the namespace %s: %w", s.name, err)
	}
	return nil
}

// Dial connects from inside the namespace. A socket belongs to the namespace in
// which it was made, wherever it is used.
func (s *Namespace) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := func() (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, network, addr) }
	if s == nil {
		return dial()
	}
	type answer struct {
		conn net.Conn
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		if err := s.enter(); err != nil {
			done <- answer{nil, err}
			return
		}
		conn, err := dial()
		done <- answer{conn, err}
	}()
	a := <-done
	return a.conn, a.err
}
