// Package wire is what the entry program and the agent say to each other, and
// the form in which output is kept. It is part of both, so it imports as little
// as can be: the program is to stay under 2 MB.
package wire

import (
	"encoding/binary"
	"fmt"
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

// Exit codes of the program itself, as shells and Docker have them.
const (
	ExitFault   = 125 // the program or the agent failed
	ExitNoExec  = 126 // the command cannot be executed
	ExitMissing = 127 // there is no such command
)

// Kind says what a frame holds.
type Kind byte

const (
	KindHello    Kind = 'h' // entry to agent: Hello as JSON, with the descriptors beside it
	KindOrders   Kind = 'o' // agent to entry: Orders as JSON
	KindStdin    Kind = 'i' // agent to entry: bytes of standard input; empty is its end
	KindSignal   Kind = 's' // agent to entry: one byte, the signal's number
	KindStdout   Kind = '1' // bytes of standard output
	KindStderr   Kind = '2' // bytes of standard error
	KindReport   Kind = 'r' // entry to agent: Report as JSON, the last frame
	KindOmission Kind = '~' // in a log: that many bytes were dropped here, 8 bytes
)

// MaxFrame bounds the payload of a frame.
const MaxFrame = 1 << 20

// Hello is the first frame. Descriptors names, in order, the sockets that came
// with it: "api" listens on 127.0.0.1:9001, "s3" on 127.0.0.1:9002, and each
// "conn" is a TCP socket of the container that is not connected.
type Hello struct {
	V           int      `json:"v"`
	Descriptors []string `json:"fds,omitempty"`
}

// Version is of this protocol.
const Version = 1

// Orders say what to run. Env is added to the entry's own environment and wins.
type Orders struct {
	V    int      `json:"v"`
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"cwd,omitempty"` // empty keeps the image's
	// Exec replaces the entry program by the command: nothing of it remains, and
	// the engine alone tells the exit. Otherwise the entry stays as the parent,
	// sends the output and the Report, and exits with the command's code.
	Exec bool `json:"exec,omitempty"`
}

// Report is how a command ended.
type Report struct {
	Exit     int    `json:"exit"`             // 128 and the number for a signal
	Signal   int    `json:"signal,omitempty"` // that ended it
	MaxRSS   int64  `json:"maxrss,omitempty"` // bytes, of the largest of its processes
	UserUS   int64  `json:"utime_us,omitempty"`
	SystemUS int64  `json:"stime_us,omitempty"`
	Error    string `json:"error,omitempty"` // why it could not be run
}

// headerSize is a frame's kind and the length of its payload, big-endian.
const headerSize = 5

// AppendFrame appends a frame to b.
func AppendFrame(b []byte, k Kind, payload []byte) []byte {
	b = append(b, byte(k))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// ReadFrame reads one frame into buf, which it grows where needed. Between two
// frames the end of r is io.EOF, inside of one io.ErrUnexpectedEOF.
func ReadFrame(r io.Reader, buf []byte) (Kind, []byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size > MaxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes is over %d", size, MaxFrame)
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
