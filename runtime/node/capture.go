package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

const (
	// longestLine is where a line is cut and goes on as the next. As JSON it grows
	// up to sixfold, and must still fit into one message of 1 MiB.
	longestLine = 128 * functions.KiB
	// longestTail bounds the end of a log, which is kept in memory.
	longestTail = 4 * functions.MiB
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

	mu      sync.Mutex // guards the fields below
	life    int        // of the streams: writers of an earlier one are ignored
	out     line
	err     line
	count   int64 // lines so far
	head    *os.File
	buf     *bufio.Writer
	room    int64 // left in the head
	tail    []functions.LogLine
	tailLen int64
	dropped int64 // lines between head and tail
	recent  []byte
	stderr  []byte
	stdout  []byte // at most mostResult+1
	failed  error  // of writing the head
	live    live
}

// line is a line that has not ended yet.
type line struct{ text []byte }

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
	if c.head != nil {
		c.failed = c.head.Close()
	}
	c.live.skip = max(c.live.skip, c.count) // what was sent live is not sent again
	c.out, c.err, c.count, c.tail, c.tailLen, c.dropped = line{}, line{}, 0, nil, 0, 0
	c.recent, c.stderr, c.stdout = nil, nil, nil
	c.head, c.failed = os.Create(c.path)
	if c.failed != nil {
		c.head = nil
	} else {
		c.buf = bufio.NewWriter(c.head)
	}
	c.room = int64(c.keep - c.tailRoom())
	return &stream{c: c, life: c.life}, &stream{c: c, life: c.life, stderr: true}
}

func (c *capture) tailRoom() functions.Bytes { return min(c.keep/2, longestTail) }

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
		c.split(&c.err, "stderr", p)
	case c.results:
		if free := int(mostResult) + 1 - len(c.stdout); free > 0 {
			c.stdout = append(c.stdout, p[:min(free, len(p))]...)
		}
	default:
		c.split(&c.out, "stdout", p)
	}
	return len(p), nil
}

// split is called with the mutex held, and so are the methods it calls.
func (c *capture) split(l *line, name string, p []byte) {
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		piece := p
		if end >= 0 {
			piece = p[:end]
		}
		if free := int(longestLine) - len(l.text); len(piece) > free {
			l.text = append(l.text, piece[:free]...)
			c.add(name, l.text)
			l.text, p = l.text[:0], p[free:]
			continue
		}
		l.text = append(l.text, piece...)
		if end < 0 {
			return
		}
		c.add(name, bytes.TrimSuffix(l.text, []byte("\r")))
		l.text, p = l.text[:0], p[end+1:]
	}
}

func (c *capture) add(name string, text []byte) {
	c.count++
	entry := functions.LogLine{
		Task: c.key.task, Attempt: c.key.attempt, N: c.count, Stream: name,
		Time: time.Now().UTC(), Text: strings.ToValidUTF8(string(text), "\ufffd"),
	}
	c.recent = keepEnd(c.recent, append([]byte(entry.Text), '\n'), int(tailKept))
	full := !c.store(entry)
	c.live.offer(c, entry, full)
}

// store keeps the line in the head, or in the tail once the head is full.
func (c *capture) store(entry functions.LogLine) (inHead bool) {
	if c.room > 0 && c.buf != nil {
		data, err := json.Marshal(entry)
		if err == nil && int64(len(data)) < c.room {
			c.room -= int64(len(data)) + 1
			_, err = c.buf.Write(append(data, '\n'))
			c.failed = errors.Join(c.failed, err)
			return true
		}
		c.room = 0
	}
	const overhead = 160 // of a line as JSON, about
	c.tail = append(c.tail, entry)
	c.tailLen += int64(len(entry.Text)) + overhead
	drop := 0
	for c.tailLen > int64(c.tailRoom()) && drop < len(c.tail)-1 {
		c.tailLen -= int64(len(c.tail[drop].Text)) + overhead
		drop++
	}
	c.dropped += int64(drop)
	c.tail = c.tail[drop:]
	return false
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
	for name, l := range map[string]*line{"stdout": &c.out, "stderr": &c.err} {
		if len(l.text) > 0 {
			c.add(name, l.text)
			l.text = nil
		}
	}
	c.live.flush()
	if c.head == nil {
		return c.failed
	}
	if c.dropped > 0 {
		c.write(functions.LogLine{
			Task: c.key.task, Attempt: c.key.attempt, N: c.tail[0].N - 1, Stream: "system",
			Time: c.tail[0].Time, Text: fmt.Sprintf("%d lines were dropped here: the log may hold %s (limits.log)", c.dropped, c.keep),
		})
	}
	for _, entry := range c.tail {
		c.write(entry)
	}
	err := errors.Join(c.failed, c.buf.Flush(), c.head.Close())
	c.head, c.buf, c.tail = nil, nil, nil
	return err
}

func (c *capture) write(entry functions.LogLine) {
	data, err := json.Marshal(entry)
	if err == nil {
		_, err = c.buf.Write(append(data, '\n'))
	}
	c.failed = errors.Join(c.failed, err)
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
