package entry

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// signalTime is how long a signal waits for room on its way to the entry
// program, which takes all that comes unless its container is paused.
const signalTime = 10 * time.Second

// Session is the agent's hold of one container's entry program, from its Hello
// to its end. Close it when the container is gone: sockets that are still held
// keep the container's network alive. Its methods may be called from many
// goroutines.
type Session struct {
	conn      *net.UnixConn
	listeners map[string]net.Listener
	sockets   *sockets

	turn    chan struct{} // holds a token while nobody writes to conn
	started atomic.Bool
	work    chan assignment // has the one that Start made
	owned   sync.WaitGroup  // the goroutines of this session
	marks   marks

	settled chan struct{} // closed when report and err are known and all output is copied
	report  wire.Report
	err     error
	gone    chan struct{} // closed when the entry program has gone
}

// assignment is what Start gave.
type assignment struct {
	exec           bool
	stdout, stderr io.Writer
}

func newSession(conn *net.UnixConn, given *handover) *Session {
	s := &Session{
		conn: conn, listeners: given.listeners, sockets: newSockets(given.conns),
		turn: make(chan struct{}, 1), work: make(chan assignment, 1),
		settled: make(chan struct{}), gone: make(chan struct{}),
	}
	s.turn <- struct{}{}
	s.owned.Go(s.listen)
	return s
}

// Listener returns what the entry program handed over under a name, wire.NameAPI
// or wire.NameS3, or nil when Command did not ask for it. Close closes it.
func (s *Session) Listener(name string) net.Listener { return s.listeners[name] }

// Start gives the orders, once; V is filled in. It does not wait for the command:
// see Wait. stdin is fed and output copied in the background; a writer that fails
// gets no more of it. ErrConflict is a second Start, ErrUnavailable an entry
// program that has gone.
func (s *Session) Start(orders wire.Orders, streams runtime.Streams) error {
	if len(orders.Argv) == 0 {
		return functions.Invalid("no_command", "there is no command to run").
			WithHint("give the image an entrypoint, or the function a command")
	}
	orders.V = wire.Version
	text, err := orders.Append(nil)
	if err != nil || len(text) > wire.MaxFrame {
		return functions.Invalid("bad_command", "the command and its environment have a NUL byte in them, or %d bytes, over %d", len(text), wire.MaxFrame).
			WithHint("pass what is large as a file").WithCause(err)
	}
	if !s.started.CompareAndSwap(false, true) {
		return functions.Conflict("started", "this container has had its orders").
			WithHint("a container takes one command; start another one")
	}
	s.work <- assignment{exec: orders.Exec, stdout: orDiscard(streams.Stdout), stderr: orDiscard(streams.Stderr)}
	first := wire.AppendFrame(nil, wire.KindOrders, text)
	rest := streams.Stdin
	switch {
	case orders.Exec: // keeps the container's own standard input
		rest = nil
	case len(rest) <= chunk: // the usual case goes in one write
		first = appendStdin(first, rest)
		rest = nil
	}
	if err := s.send(first, signalTime); err != nil {
		return err
	}
	if rest != nil {
		s.owned.Go(func() { s.feed(rest) })
	}
	return nil
}

// chunk is how much of standard input goes in one frame, so that a signal need
// not wait for all of it.
const chunk = 64 << 10

// appendStdin appends the whole of a short standard input, and its end.
func appendStdin(b, stdin []byte) []byte {
	if len(stdin) > 0 {
		b = wire.AppendFrame(b, wire.KindStdin, stdin)
	}
	return wire.AppendFrame(b, wire.KindStdin, nil)
}

// feed sends standard input to its end, or to the end of the entry program.
func (s *Session) feed(stdin []byte) {
	var frame []byte
	for len(stdin) > 0 {
		n := min(len(stdin), chunk)
		frame = wire.AppendFrame(frame[:0], wire.KindStdin, stdin[:n])
		if n == len(stdin) {
			frame = wire.AppendFrame(frame, wire.KindStdin, nil)
		}
		if s.send(frame, 0) != nil {
			return
		}
		stdin = stdin[n:]
	}
}

// send writes whole frames. limit bounds the wait for a turn, and then the write;
// 0 = none but the session's end.
func (s *Session) send(frames []byte, limit time.Duration) error {
	var late <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-s.turn:
	case <-s.gone:
		return gone(nil)
	case <-late:
		return functions.Unavailable("entry_stuck", "the entry program of the container does not take what it is sent").
			WithHint("stop the container")
	}
	var deadline time.Time
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	s.conn.SetWriteDeadline(deadline)
	_, err := s.conn.Write(frames)
	s.turn <- struct{}{}
	if err != nil {
		s.conn.Close() // half a frame may be out
		return gone(err)
	}
	return nil
}

// Signal sends a signal to the command's process group. It does not wait for it
// to have an effect. Once the command has ended, or took the entry program's
// place, there is nobody to send it: ErrUnavailable.
func (s *Session) Signal(n syscall.Signal) error {
	return s.send(wire.AppendFrame(nil, wire.KindSignal, []byte{byte(n)}), signalTime)
}

// Wait returns how the command ended, once all of its output is copied. A
// command that could not be run is a Report with an Error, not an error. With
// Orders.Exec the Report is empty unless the command could not be run. An entry
// program that ended without a report (its container was killed) is
// ErrUnavailable.
func (s *Session) Wait(ctx context.Context) (wire.Report, error) {
	select {
	case <-s.settled:
		return s.report, s.err
	case <-ctx.Done():
		return wire.Report{}, context.Cause(ctx)
	}
}

// Done is closed when the entry program has gone: it ended, with its container
// or by itself, or the command took its place.
func (s *Session) Done() <-chan struct{} { return s.gone }

// Close ends the session and everything that came with it: the listeners are
// closed and connections break. An entry program that has no orders ends; a
// command that runs, runs on. A write to the streams of Start that is under way
// is waited for.
func (s *Session) Close() error {
	err := s.conn.Close()
	for _, l := range s.listeners {
		if e := l.Close(); !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	s.sockets.close()
	s.owned.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil // a second Close
	}
	return err
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// gone is the error for an entry program that is there no more.
func gone(cause error) error {
	return functions.Unavailable("entry_gone", "the entry program of the container has gone without a report").
		WithHint("the engine knows how the container ended").WithCause(cause)
}
