package main

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// backlog is how many connections may wait while the agent is slow.
const backlog = 128

// agent is the connection to the agent.
type agent struct {
	socket *os.File
	frames chan frame // closed when the agent has gone

	mu   sync.Mutex // guards the field below, and writing
	gone bool
}

// frame is one that the agent sent.
type frame struct {
	kind    wire.Kind
	payload []byte
}

// greet connects to the agent, hands over the sockets that were asked for and
// keeps none of them.
func greet(a asked) (*agent, error) {
	hello := wire.Hello{V: wire.Version}
	var fds []int
	defer func() {
		for _, fd := range fds {
			syscall.Close(fd)
		}
	}()
	add := func(name string, port int) error {
		fd, err := tcpSocket(port)
		if err == nil {
			fds = append(fds, fd)
			hello.Descriptors = append(hello.Descriptors, name)
		}
		return err
	}
	var failed error
	if a.api {
		failed = add(wire.NameAPI, wire.PortAPI)
	}
	if a.s3 {
		failed = errors.Join(failed, add(wire.NameS3, wire.PortS3))
	}
	for range a.conns {
		failed = errors.Join(failed, add(wire.NameConn, 0))
	}
	if failed != nil {
		return nil, errors.New("make sockets: " + failed.Error())
	}
	text, err := hello.Append(nil)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errors.New("make a socket: " + err.Error())
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: wire.Socket}); err != nil {
		return nil, errors.New("cannot reach the agent at " + wire.Socket + ": " + err.Error())
	}
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	if err := syscall.Sendmsg(fd, wire.AppendFrame(nil, wire.KindHello, text), rights, nil, 0); err != nil {
		return nil, errors.New("hand over to the agent: " + err.Error())
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	to := &agent{socket: os.NewFile(uintptr(fd), wire.Socket), frames: make(chan frame)}
	go to.listen()
	return to, nil
}

// tcpSocket makes a socket that listens on a port of 127.0.0.1; with port 0 one
// that does nothing yet.
func tcpSocket(port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil || port == 0 {
		return fd, err
	}
	err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = syscall.Listen(fd, backlog)
	}
	if err != nil {
		syscall.Close(fd)
	}
	return fd, err
}

// listen passes on what the agent sends, until it has gone.
func (a *agent) listen() {
	defer close(a.frames)
	for {
		kind, payload, err := wire.ReadFrame(a.socket, nil)
		if err != nil {
			return
		}
		a.frames <- frame{kind, payload}
	}
}

// send writes whole frames. Once the agent has gone it does nothing: the command
// runs on, and its output goes where the engine keeps it.
func (a *agent) send(frames []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone {
		return
	}
	if _, err := a.socket.Write(frames); err != nil {
		a.gone = true
	}
}

// limit bounds the time for all that is still to be sent.
func (a *agent) limit(d time.Duration) { a.socket.SetWriteDeadline(time.Now().Add(d)) }

func (a *agent) report(r wire.Report) {
	text, err := r.Append(nil)
	if err != nil { // its error is of the agent's own words, which had no NUL byte
		return
	}
	a.send(wire.AppendFrame(nil, wire.KindReport, text))
}
