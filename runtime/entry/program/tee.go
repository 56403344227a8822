package main

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// tap is one stream of the command, on its way to the agent and to where the
// engine keeps it.
type tap struct {
	from, own *os.File
	kind      wire.Kind

	mu    sync.Mutex // guards the fields below, and is held while the pipe is read
	taken int64      // bytes that were read
	sent  int64      // of them, given to the agent
	over  bool
}

// tee copies to the end of the stream, or to the pipe's deadline.
func (t *tap) tee(to *agent) {
	defer t.advance(0, true)
	raw, err := t.from.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, wire.HeaderSize+64<<10)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			t.mu.Lock()
			defer t.mu.Unlock()
			var err error
			for n, err = syscall.Read(int(fd), buf[wire.HeaderSize:]); err == syscall.EINTR; {
				n, err = syscall.Read(int(fd), buf[wire.HeaderSize:])
			}
			t.taken += int64(max(n, 0))
			return err != syscall.EAGAIN
		})
		if err != nil || n <= 0 {
			return
		}
		wire.PutHeader(buf, t.kind, n)
		to.send(buf[:wire.HeaderSize+n])
		t.advance(n, false)
		t.own.Write(buf[wire.HeaderSize:][:n]) // an engine that takes it no more is no matter of the command's
	}
}

func (t *tap) advance(n int, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent += int64(n)
	t.over = t.over || over
}

// written is how much the command has written so far.
func (t *tap) written() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return t.taken
	}
	waiting := 0
	if raw, err := t.from.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) // works on every pipe
	}
	return t.taken + int64(waiting)
}

func (t *tap) has(sent int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over || t.sent >= sent
}

// mark sends the agent's mark back, behind all that the command has written
// until now.
func mark(taps []*tap, to *agent, id []byte) {
	goals := make([]int64, len(taps))
	for i, t := range taps {
		goals[i] = t.written()
	}
	for i, t := range taps {
		for wait := 20 * time.Microsecond; !t.has(goals[i]); wait = min(2*wait, time.Millisecond) {
			time.Sleep(wait)
		}
	}
	to.send(wire.AppendFrame(nil, wire.KindMark, id))
}
