package serve

import (
	"bytes"
	"io"
	"sync"

	"github.com/spillway/spillway/functions"
)

const (
	// longestLine is where a line is cut that must be read whole to know its task.
	longestLine = 128 << 10
	// stderrKept is how much of standard error is searched for a cause.
	stderrKept = 64 << 10
)

// Words are where the output of one invocation goes. A nil writer discards.
type Words struct{ Stdout, Stderr io.Writer }

// output gives what a container writes to the task that it is about. With one
// task at a time that is whatever is written between hand-out and answer. With
// several it is each line that is JSON and holds the task's id. What belongs to
// no task is dropped.
type output struct {
	mu      sync.Mutex // guards the fields below
	several bool
	tasks   map[functions.TaskID]Words
	parts   [2][]byte // lines that have not ended yet; only with several
	stderr  []byte    // the end of it
}

// newOutput is for a container that starts: all that it says then belongs to the
// task that it starts for.
func newOutput() *output { return &output{tasks: make(map[functions.TaskID]Words)} }

func (o *output) attach(id functions.TaskID, w Words) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.tasks) == 0 {
		o.stderr = nil
	}
	o.tasks[id] = w
}

func (o *output) detach(id functions.TaskID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.tasks, id)
}

// drop gives the task of the start no more words. From now on there may be
// several tasks at a time.
func (o *output) drop(id functions.TaskID, several bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.tasks, id)
	o.several = several
}

// errors is the end of standard error since the first of the present tasks began.
func (o *output) errors() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.stderr)
}

// side is one of the two streams: 0 or 1.
type side struct {
	o *output
	n int
}

func (s side) Write(p []byte) (int, error) {
	o := s.o
	o.mu.Lock()
	defer o.mu.Unlock()
	if s.n == 1 {
		o.stderr = append(o.stderr, p...)
		if len(o.stderr) > 2*stderrKept {
			o.stderr = append(o.stderr[:0], o.stderr[len(o.stderr)-stderrKept:]...)
		}
	}
	if o.several {
		s.split(p)
		return len(p), nil
	}
	for _, w := range o.tasks { // one at most
		s.give(w, p)
	}
	return len(p), nil
}

// split is called with the mutex held, and so is give.
func (s side) split(p []byte) {
	o := s.o
	for len(p) > 0 {
		piece, rest, whole := bytes.Cut(p, []byte("\n"))
		part := append(o.parts[s.n], piece...)
		p, o.parts[s.n] = rest, part
		if !whole && len(part) < longestLine {
			return
		}
		if line := bytes.TrimSpace(part); bytes.HasPrefix(line, []byte("{")) {
			for id, w := range o.tasks {
				if bytes.Contains(line, []byte(id)) {
					s.give(w, append(line, '\n'))
					break
				}
			}
		}
		o.parts[s.n] = part[:0]
	}
}

func (s side) give(w Words, p []byte) {
	to := w.Stdout
	if s.n == 1 {
		to = w.Stderr
	}
	if to != nil {
		_, _ = to.Write(p) // a log that cannot be kept is no reason to stop reading
	}
}

// beginning keeps the first of what is written to it.
type beginning struct {
	mu   sync.Mutex // guards the field below
	kept []byte
}

func (b *beginning) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if free := 1<<10 - len(b.kept); free > 0 {
		b.kept = append(b.kept, p[:min(free, len(p))]...)
	}
	return len(p), nil
}

func (b *beginning) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return clip(bytes.TrimSpace(b.kept), 300)
}
