// Package wire is what the entry program and the agent say to each other, and
// the form in which output is kept. It is part of both, so it imports as little
// as can be: the program is to stay under 2 MB.
package wire

import (
	"encoding/binary"
	"errors"
	"io"
)

// Where a container finds its entry program and the agent. Both are mounted
// read-only; connecting to a socket below a read-only mount works.
const (
	Program = "/run/spillway-entry"
	Dir     = "/run/spillway"
	Socket  = Dir + "/agent.sock"
)

// The roles of the program: its first argument.
const (
	// RoleHold is a container's first process of ours: it connects to Socket, says
	// Hello, waits for Orders and runs them.
	RoleHold = "hold"
	// RoleInit is process 1 where the engine brings none: it runs its arguments,
	// forwards signals, reaps orphans, and exits as they do.
	RoleInit = "init"
	// RoleLog writes what comes on descriptors 3 and 4 to a log of frames, as
	// containerd's binary loggers do.
	RoleLog = "log"
	// RoleMonitor stands beside a container of a runtime that has no daemon: it
	// keeps its output and its exit, whatever becomes of the agent.
	RoleMonitor = "monitor"
)

// Flags of the roles.
const (
	FlagAPI   = "-api"   // hold: listen on 127.0.0.1:PortAPI
	FlagS3    = "-s3"    // hold: listen on 127.0.0.1:PortS3
	FlagConns = "-conns" // hold: this many sockets that are not connected
	FlagRead  = "-read"  // hold: the command that is to be expected, to read ahead
	FlagStdin = "-stdin" // init: the file to read standard input from
)

// Exit codes of the program itself, as shells and Docker have them.
const (
	ExitFault   = 125 // the program or the agent failed
	ExitNoExec  = 126 // the command cannot be executed
	ExitMissing = 127 // there is no such command
)

// Kind says what a frame holds.
type Kind byte

const (
	KindHello    Kind = 'h' // entry to agent: Hello, with the descriptors beside it
	KindOrders   Kind = 'o' // agent to entry: Orders
	KindStdin    Kind = 'i' // agent to entry: bytes of standard input; empty is its end
	KindSignal   Kind = 's' // agent to entry: one byte, the signal's number
	KindMark     Kind = 'm' // agent to entry, and back once all output that was written before has been sent
	KindStdout   Kind = '1' // bytes of standard output
	KindStderr   Kind = '2' // bytes of standard error
	KindReport   Kind = 'r' // entry to agent: Report, the last frame
	KindOmission Kind = '~' // in a log: bytes may be missing here; see package framelog
	KindMore     Kind = '>' // in a log: it goes on in the next file
	KindEnd      Kind = '.' // in a log: nothing comes after
)

// MaxFrame bounds the payload of a frame.
const MaxFrame = 1 << 20

// HeaderSize is a frame's kind and the length of its payload, big-endian.
const HeaderSize = 5

// ErrFrame means that what came is no frame of this protocol.
var ErrFrame = errors.New("a frame is longer than the protocol has them")

// PutHeader writes a frame's header into b, where its payload follows already.
func PutHeader(b []byte, k Kind, size int) {
	b[0] = byte(k)
	binary.BigEndian.PutUint32(b[1:HeaderSize], uint32(size))
}

// AppendFrame appends a frame to b.
func AppendFrame(b []byte, k Kind, payload []byte) []byte {
	b = append(b, byte(k))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// ReadFrame reads one frame into buf, which it grows where needed. Between two
// frames the end of r is io.EOF, inside of one io.ErrUnexpectedEOF. One over
// MaxFrame is ErrFrame.
func ReadFrame(r io.Reader, buf []byte) (Kind, []byte, error) {
	var header [HeaderSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size > MaxFrame {
		return 0, nil, ErrFrame
	}
	if int(size) > cap(buf) {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(r, buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return Kind(header[0]), buf, nil
}
