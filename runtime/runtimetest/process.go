package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// The two ways in which a container of a Fake is killed.
var (
	errKilled      = errors.New("killed")
	errOutOfMemory = errors.New("killed for its memory limit")
)

// Process is what a Program sees of its container.
type Process struct {
	Spec   runtime.Spec
	Args   []string // entrypoint and command together
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer

	terminated chan struct{}
	defaultTo  context.CancelCauseFunc
	mounted    map[string]*os.File // what is behind each mount's target; nil = found by its name

	mu      sync.Mutex // guards the fields below
	trapped bool
	asked   bool
	memory  functions.Bytes
	peak    functions.Bytes
}

// errTerminated ends a program that does not trap SIGTERM.
var errTerminated = errors.New("terminated")

// Trap returns a channel that is closed when SIGTERM comes. A program that never
// calls it dies of the signal.
func (p *Process) Trap() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trapped = true
	return p.terminated
}

// Getenv returns a variable of the container.
func (p *Process) Getenv(name string) string {
	value := ""
	for _, kv := range p.Spec.Env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			value = v
		}
	}
	return value
}

// Path returns the host path behind a path of the container, by its mounts.
// A path that is not in a mount has none, and is an error.
func (p *Process) Path(target string) (string, error) {
	best := runtime.Mount{}
	for _, m := range p.Spec.Mounts {
		if (target == m.Target || strings.HasPrefix(target, m.Target+"/")) && len(m.Target) > len(best.Target) {
			best = m
		}
	}
	if best.Target == "" {
		return "", fmt.Errorf("open %s: read-only file system", target)
	}
	source := best.Source
	if f := p.mounted[best.Target]; f != nil { // whatever its name is by now
		source = "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	}
	return filepath.Join(source, strings.TrimPrefix(target, best.Target)), nil
}

// Use takes n bytes of memory; over the container's limit the kernel kills it,
// and Use does not return before ctx has ended.
func (p *Process) Use(ctx context.Context, n functions.Bytes) {
	p.mu.Lock()
	p.memory = n
	p.peak = max(p.peak, n)
	over := p.Spec.Memory > 0 && n > p.Spec.Memory
	p.mu.Unlock()
	if over {
		p.defaultTo(errOutOfMemory)
		<-ctx.Done()
	}
}

func (p *Process) usage() runtime.Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return runtime.Usage{Memory: p.memory, PeakMemory: p.peak}
}

func (p *Process) terminate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked {
		return
	}
	p.asked = true
	close(p.terminated)
	if !p.trapped {
		p.defaultTo(errTerminated)
	}
}

// container is one container of a Fake; its driver's mutex guards its fields.
type container struct {
	id      runtime.ID
	number  int
	spec    runtime.Spec
	program Program
	process *Process
	alive   context.Context // ends when it is killed; a container has a life of its own
	kill    context.CancelCauseFunc
	started time.Time
	exit    runtime.Exit
	exited  chan struct{}

	output    transcript
	followers sync.WaitGroup
}

func newContainer(number int, spec runtime.Spec, program Program) *container {
	c := &container{
		id: runtime.ID(fmt.Sprintf("fake-%d", number)), number: number,
		spec: spec, program: program, exited: make(chan struct{}),
	}
	c.alive, c.kill = context.WithCancelCause(context.Background())
	c.output.more = sync.NewCond(&c.output.mu)
	c.process = &Process{
		Spec: spec, Args: append(append([]string(nil), spec.Entrypoint...), spec.Command...),
		Stdout: &side{to: &c.output, dead: c.alive.Err}, Stderr: &side{to: &c.output, err: true, dead: c.alive.Err},
		terminated: make(chan struct{}), defaultTo: c.kill,
	}
	return c
}

// execute runs the program to its end, or until the container is killed.
func (c *container) execute(stdin []byte) runtime.Exit {
	c.process.Stdin = bytes.NewReader(stdin)
	program := c.program
	if holds(c.spec) {
		program = hold(program)
		c.process.mount()
	}
	code := make(chan int, 1)
	go func() {
		defer c.process.unmount()
		code <- program(c.alive, c.process)
	}()
	defer c.output.close()
	select {
	case n := <-code:
		if c.alive.Err() == nil {
			return runtime.Exit{Code: n}
		}
	case <-c.alive.Done():
	}
	switch context.Cause(c.alive) {
	case errTerminated:
		return runtime.Exit{Code: 128 + 15}
	case errOutOfMemory:
		return runtime.Exit{Code: 128 + 9, OOMKilled: true}
	}
	return runtime.Exit{Code: 128 + 9}
}

func (c *container) state() runtime.ContainerState {
	if c.started.IsZero() {
		return runtime.Created
	}
	select {
	case <-c.exited:
		return runtime.Exited
	default:
		return runtime.Up
	}
}

func (c *container) carries(labels map[string]string) bool {
	for k, v := range labels {
		if have, ok := c.spec.Labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// follow copies the output from its beginning to its end.
func (c *container) follow(streams runtime.Streams) {
	c.followers.Go(func() { c.output.copyTo(discard(streams.Stdout), discard(streams.Stderr)) })
}

// transcript is everything that a container has written, in order.
type transcript struct {
	mu     sync.Mutex // guards the fields below
	more   *sync.Cond
	pieces []piece
	closed bool
}

type piece struct {
	data []byte
	err  bool
}

// side is one of the two streams of a container.
type side struct {
	to   *transcript
	err  bool
	dead func() error // not nil once the container is killed
}

func (s *side) Write(p []byte) (int, error) {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if s.to.closed || s.dead() != nil {
		return 0, io.ErrClosedPipe
	}
	s.to.pieces = append(s.to.pieces, piece{bytes.Clone(p), s.err})
	s.to.more.Broadcast()
	return len(p), nil
}

func (t *transcript) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.more.Broadcast()
}

// copyTo writes every piece; a writer that fails gets no more of them.
func (t *transcript) copyTo(stdout, stderr io.Writer) {
	for i := 0; ; i++ {
		t.mu.Lock()
		for i == len(t.pieces) && !t.closed {
			t.more.Wait()
		}
		if i == len(t.pieces) {
			t.mu.Unlock()
			return
		}
		next := t.pieces[i]
		t.mu.Unlock()
		if next.err {
			if _, err := stderr.Write(next.data); err != nil {
				stderr = io.Discard
			}
		} else if _, err := stdout.Write(next.data); err != nil {
			stdout = io.Discard
		}
	}
}
