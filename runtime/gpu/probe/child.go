package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// maxStuck processes may be left behind in the kernel before no more are started.
	maxStuck = 4
	// lastWait is how long a process may take to be gone once it was killed or has
	// closed its output. One that the driver holds may never be.
	lastWait = time.Second
	// symbolMissing is the status with which the dynamic loader ends a process.
	symbolMissing = 127
	// maxOutput is how much of a program's output is kept.
	maxOutput = 1 << 20
	// maxComplaint is how much of the end of standard error is kept.
	maxComplaint = 1 << 10
)

var errStuck = errors.New("earlier GPU probes hang in the kernel and cannot be killed: this machine needs a reboot")

// child is a running gpuprobe.
type child struct {
	lines <-chan line // closed at the end of its output
	ask   func()      // wants a reading at once
	end   func() end  // says how it ended; it is killed if it has not
	stop  func()      // kills it, and waits a moment for its end
}

// end is how a process ended.
type end struct {
	code int // its status; -1 = by a signal, or not at all
	text string
}

// programs starts processes, and never waits long for one.
type programs struct {
	env  []string
	room chan struct{} // holds one for each process that is not gone
}

// launch starts a process; gone is closed when the kernel has let it go.
func (p *programs) launch(cmd *exec.Cmd) (gone <-chan struct{}, err error) {
	select {
	case p.room <- struct{}{}:
	default:
		return nil, errStuck
	}
	// The driver's library has functions less than gpuprobe knows: all that it may
	// need must not be looked for at its start.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "LD_BIND_NOW=") })
	cmd.Env = append(cmd.Env, p.env...)
	// An interrupt at the terminal is the agent's to handle.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = lastWait / 2 // for whoever holds its standard error still
	if err := cmd.Start(); err != nil {
		<-p.room
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		<-p.room
		close(done)
	}()
	return done, nil
}

// start starts gpuprobe.
func (p *programs) start(path string, args ...string) (*child, error) {
	out, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	complaint := &kept{most: maxComplaint, last: true}
	cmd.Stdout, cmd.Stderr = theirs, complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, errors.Join(err, out.Close(), theirs.Close())
	}
	gone, err := p.launch(cmd)
	theirs.Close()
	if err != nil {
		return nil, errors.Join(err, out.Close(), in.Close())
	}
	lines, quit, read := make(chan line), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		defer close(lines)
		readLines(out, func(l line) bool {
			select {
			case lines <- l:
				return true
			case <-quit:
				return false
			}
		})
	}()
	finish := func() end {
		if !within(gone, lastWait) {
			_ = cmd.Process.Kill()
		}
		if !within(gone, lastWait) {
			return end{-1, "it closed its output, and cannot be killed"}
		}
		return how(cmd.ProcessState, complaint.String())
	}
	stop := func() {
		_ = cmd.Process.Kill() // if it is gone already, so much the better
		in.Close()
		close(quit)
		out.Close() // ends a read that a stuck process would hold
		<-read
		within(gone, lastWait)
	}
	ask := func() { _, _ = io.WriteString(in, "now\n") } // one that is dead is noticed by its output
	return &child{lines: lines, ask: ask, end: finish, stop: stop}, nil
}

// output runs a program to its end, for at most limit, and returns what it wrote.
func (p *programs) output(ctx context.Context, limit time.Duration, path string, args ...string) (string, end, error) {
	cmd := exec.Command(path, args...)
	out := &kept{most: maxOutput}
	cmd.Stdout, cmd.Stderr = out, out
	gone, err := p.launch(cmd)
	if err != nil {
		return "", end{}, err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-gone:
		return out.String(), how(cmd.ProcessState, ""), nil
	case <-timer.C:
		err = fmt.Errorf("no answer in %v", limit)
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = cmd.Process.Kill()
	within(gone, lastWait)
	return "", end{}, err
}

// how puts the end of a process into words, with the last that it said.
func how(s *os.ProcessState, complaint string) end {
	e := end{s.ExitCode(), s.String()} // "exit status 127", "signal: killed"
	if complaint = strings.TrimSpace(complaint); complaint != "" {
		e.text += ": " + complaint
	}
	return e
}

func within(gone <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-gone:
		return true
	case <-timer.C:
		return false
	}
}

// kept holds the first or the last bytes written to it.
type kept struct {
	most int
	last bool

	mu   sync.Mutex // guards text
	text []byte
}

func (k *kept) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.text = append(k.text, p...)
	if over := len(k.text) - k.most; over > 0 && k.last {
		k.text = slices.Delete(k.text, 0, over)
	}
	k.text = k.text[:min(len(k.text), k.most)]
	return len(p), nil
}

func (k *kept) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return string(k.text)
}
