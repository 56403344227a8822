package main

import (
	"os"
	"sync"
	"syscall"
)

// pipe is one of the command's standard streams. Its own end blocks, as
// programs expect; ours has deadlines.
type pipe struct {
	ours   *os.File
	theirs int
}

func openPipes() (in, out, err pipe, failed error) {
	var fds [3][2]int
	for i := range fds {
		if e := syscall.Pipe2(fds[i][:], syscall.O_CLOEXEC); e != nil {
			return in, out, err, e // and this process ends
		}
	}
	in = pipe{end(fds[0][1]), fds[0][0]}
	out = pipe{end(fds[1][0]), fds[1][1]}
	err = pipe{end(fds[2][0]), fds[2][1]}
	return in, out, err, nil
}

func end(fd int) *os.File {
	syscall.SetNonblock(fd, true) // fails for no pipe
	return os.NewFile(uintptr(fd), "pipe")
}

// input is the command's standard input on its way from the agent. It takes all
// that comes, so that a command which does not read holds up no signal.
type input struct {
	to *os.File

	mu    sync.Mutex // guards the fields below
	more  *sync.Cond
	queue [][]byte
	ended bool
}

func newInput(to *os.File) *input {
	i := &input{to: to}
	i.more = sync.NewCond(&i.mu)
	return i
}

func (i *input) add(p []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.ended {
		i.queue = append(i.queue, p)
		i.more.Signal()
	}
}

func (i *input) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	i.more.Signal()
}

// feed writes what was added, until the end of it or until the command closes
// its standard input.
func (i *input) feed() {
	defer i.to.Close()
	for {
		p, ok := i.next()
		if !ok {
			return
		}
		if _, err := i.to.Write(p); err != nil {
			i.end()
			return
		}
	}
}

func (i *input) next() ([]byte, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(i.queue) == 0 && !i.ended {
		i.more.Wait()
	}
	if len(i.queue) == 0 {
		return nil, false
	}
	p := i.queue[0]
	i.queue = i.queue[1:]
	return p, true
}
