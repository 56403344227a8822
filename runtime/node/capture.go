package node

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

const (
	// longestLine is where a line is cut and goes on as the next. As JSON it grows
	// up to sixfold, and must still fit into one message of 1 MiB.
	longestLine = 128 * functions.KiB
	// stderrKept is how much of standard error is searched for a cause.
	stderrKept = 64 * functions.KiB
	// tailKept is how much of the log travels with the outcome.
	tailKept = 4 * functions.KiB

	batchLines = 100
	batchTime  = 100 * time.Millisecond
)

// capture is what a container has written: the log on disk, and what must be
// known of it at once. The log keeps its head and its tail; the head is a file,
// the tail is in memory, because an agent that restarts reads the container's
// output again from its beginning.
type capture struct {
	key     key
	path    string
	keep    functions.Bytes // head and tail together
	results bool            // standard output is the result and not log

	mu     sync.Mutex // guards the fields below
	life   int        // of the streams: writers of an earlier one are ignored
	parts  [2][]byte  // lines that have not ended yet, of stdout and stderr
	count  int64      // lines so far
	kept   *logFile   // nil before the first life
	recent []byte     // end of the log
	stderr []byte     // end of standard error
	stdout []byte     // the result; at most mostResult+1
	live   live
}

func newCapture(k key, path string, s functions.Spec) *capture {
	return &capture{key: k, path: path, keep: s.Limits.Log, results: s.Stdout == functions.StdoutResult}
}

// feed says where lines go as they come. Call it before streams.
func (c *capture) feed(lines func([]functions.LogLine), progress func(string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = live{send: lines, progress: progress}
}

// streams begins the log anew and returns the two ends to write it to.
func (c *capture) streams() (stdout, stderr *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life++
	if c.kept != nil {
		c.kept.abandon()
	}
	c.live.skip = max(c.live.skip, c.count) // what was sent live is not sent again
	c.parts, c.count, c.recent, c.stderr, c.stdout = [2][]byte{}, 0, nil, nil, nil
	c.kept = newLogFile(c.path, c.keep)
	return &stream{c: c, life: c.life}, &stream{c: c, life: c.life, stderr: true}
}

// stream is one standard stream of one life of the capture.
type stream struct {
	c      *capture
	life   int
	stderr bool
}

var errOldStream = errors.New("the output is read anew elsewhere")

// Write never fails for a reason of the log: a program must not die because its
// log cannot be kept.
func (s *stream) Write(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.life != c.life {
		return 0, errOldStream
	}
	switch {
	case s.stderr:
		c.stderr = keepEnd(c.stderr, p, int(stderrKept))
		c.split(1, "stderr", p)
	case c.results:
		if free := int(mostResult) + 1 - len(c.stdout); free > 0 {
			c.stdout = append(c.stdout, p[:min(free, len(p))]...)
		}
	default:
		c.split(0, "stdout", p)
	}
	return len(p), nil
}

// split is called with the mutex held, and so is add.
func (c *capture) split(part int, name string, p []byte) {
	for len(p) > 0 {
		text := c.parts[part]
		piece, rest, whole := bytes.Cut(p, []byte("\n"))
		if free := int(longestLine) - len(text); len(piece) > free {
			piece, rest, whole = p[:free], p[free:], true
		}
		text = append(text, piece...)
		if whole {
			c.add(name, bytes.TrimSuffix(text, []byte("\r")))
			text = text[:0]
		}
		c.parts[part], p = text, rest
	}
}

func (c *capture) add(name string, text []byte) {
	c.count++
	entry := functions.LogLine{
		Task: c.key.task, Attempt: c.key.attempt, N: c.count, Stream: name,
		Time: time.Now().UTC(), Text: strings.ToValidUTF8(string(text), "\ufffd"),
	}
	c.recent = keepEnd(c.recent, append([]byte(entry.Text), '\n'), int(tailKept))
	inHead := c.kept != nil && c.kept.add(entry)
	c.live.offer(c, entry, !inHead)
}

// note adds a line of our own.
func (c *capture) note(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add("system", []byte(text))
}

// finish ends the log: nothing is written to it any more, and the file is whole.
func (c *capture) finish() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life++
	for part, name := range []string{"stdout", "stderr"} {
		if text := c.parts[part]; len(text) > 0 {
			c.add(name, text)
			c.parts[part] = nil
		}
	}
	c.live.flush()
	if c.kept == nil {
		return nil
	}
	err := c.kept.finish()
	c.kept = nil
	return err
}

// stderrTail is the end of standard error.
func (c *capture) stderrTail() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(lastOf(c.stderr, int(stderrKept)))
}

// lastError is the last line of standard error that says something.
func (c *capture) lastError() string {
	text := strings.TrimSpace(strings.ToValidUTF8(c.stderrTail(), "\ufffd"))
	return clip(text[strings.LastIndexByte(text, '\n')+1:], 300)
}

// ending is the end of the whole log.
func (c *capture) ending() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ToValidUTF8(string(lastOf(c.recent, int(tailKept))), "")
}

// result is standard output, and whether that is all of it.
func (c *capture) result() ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stdout, len(c.stdout) <= int(mostResult)
}

// keepEnd appends p and keeps the last n bytes. It copies only now and then.
func keepEnd(kept, p []byte, n int) []byte {
	if len(p) >= n {
		return append(kept[:0], p[len(p)-n:]...)
	}
	kept = append(kept, p...)
	if len(kept) > 4*n {
		kept = append(kept[:0], kept[len(kept)-n:]...)
	}
	return kept
}

func lastOf(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
