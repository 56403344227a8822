package runtimetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// holds reports whether a container starts with the entry program. A Fake stands
// in for it then: the image's own program runs when its orders come.
func holds(s runtime.Spec) bool {
	return len(s.Entrypoint) > 1 && s.Entrypoint[0] == wire.Program && s.Entrypoint[1] == wire.RoleHold
}

// hold is what the entry program does in the role of that name, around run. It
// hands over no descriptors, and waits on a real socket: not in a bubble.
func hold(run Program) Program {
	return func(ctx context.Context, p *Process) int {
		socket, err := p.Path(wire.Socket)
		if err != nil {
			return fault(p, err)
		}
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return fault(p, err)
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		to := &speaker{conn: conn}
		hello, err := wire.Hello{V: wire.Version}.Append(nil)
		if err != nil {
			return fault(p, err)
		}
		to.say(wire.KindHello, hello)
		kind, text, err := wire.ReadFrame(conn, nil)
		if err != nil || kind != wire.KindOrders {
			return wire.ExitFault // nobody wants it
		}
		orders, err := wire.ParseOrders(text)
		if err != nil {
			return fault(p, err)
		}
		stdin, feed := io.Pipe()
		defer stdin.Close()
		go listen(conn, feed, p)
		p.Args, p.Stdin = orders.Argv, stdin
		p.Spec.Env = slices.Concat(p.Spec.Env, orders.Env)
		p.Stdout, p.Stderr = to.tee(wire.KindStdout, p.Stdout), to.tee(wire.KindStderr, p.Stderr)
		code := run(ctx, p)
		if ctx.Err() != nil {
			return code // killed: no report
		}
		report, err := wire.Report{Exit: code, MaxRSS: int64(p.usage().PeakMemory)}.Append(nil)
		if err != nil {
			return fault(p, err)
		}
		to.say(wire.KindReport, report)
		return code
	}
}

func fault(p *Process, err error) int {
	fmt.Fprintln(p.Stderr, "entry:", err)
	return wire.ExitFault
}

// listen takes what the agent sends after the orders, until it has gone.
func listen(conn net.Conn, stdin *io.PipeWriter, p *Process) {
	defer stdin.Close()
	for {
		kind, payload, err := wire.ReadFrame(conn, nil)
		switch {
		case err != nil:
			return
		case kind == wire.KindStdin && len(payload) == 0:
			stdin.Close()
		case kind == wire.KindStdin:
			stdin.Write(payload) // a program that has ended reads no more
		case kind == wire.KindSignal && bytes.Equal(payload, []byte{byte(syscall.SIGTERM)}):
			p.terminate()
		}
	}
}

// speaker sends frames. An agent that has gone hears nothing, and that is no
// matter.
type speaker struct {
	mu   sync.Mutex // held while a frame is written
	conn net.Conn
}

func (s *speaker) say(k wire.Kind, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn.Write(wire.AppendFrame(nil, k, payload))
}

// tee returns a writer to the engine's log and to the agent.
func (s *speaker) tee(k wire.Kind, log io.Writer) io.Writer { return &mouth{s, k, log} }

type mouth struct {
	to   *speaker
	kind wire.Kind
	log  io.Writer
}

func (m *mouth) Write(b []byte) (int, error) {
	n, err := m.log.Write(b)
	if n > 0 {
		m.to.say(m.kind, b[:n])
	}
	return n, err
}

// mount opens what the container sees, which stays what it is whatever happens to
// its names.
func (p *Process) mount() {
	p.mounted = make(map[string]*os.File)
	for _, m := range p.Spec.Mounts {
		fd, err := syscall.Open(m.Source, openPath|syscall.O_CLOEXEC, 0)
		if err == nil {
			p.mounted[m.Target] = os.NewFile(uintptr(fd), m.Source)
		}
	}
}

// openPath is O_PATH: for the place itself, whatever is there.
const openPath = 0x200000

func (p *Process) unmount() {
	for _, f := range p.mounted {
		f.Close() // it was only held
	}
}
