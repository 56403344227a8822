package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/spillway/spillway/functions"
)

// mostRead bounds one answer of ReadLog, in bytes of text: as JSON it must fit
// into one message of 1 MiB.
const mostRead = 128 * functions.KiB

// ReadLog returns lines after a line number, in order, as many as fit into one
// answer; none means that there are no more yet. An attempt that the node does
// not hold any more is ErrNotFound: its log is in the store.
func (n *Node) ReadLog(_ context.Context, task functions.TaskID, number int, after int64) ([]functions.LogLine, error) {
	n.mu.Lock()
	a := n.attempts[key{task, number}]
	n.mu.Unlock()
	if a == nil {
		return nil, functions.NotFound("no_such_attempt", "attempt %d of task %s is not on this node", number, task)
	}
	return a.output.read(after)
}

func (c *capture) read(after int64) (lines []functions.LogLine, err error) {
	var tail []functions.LogLine
	c.mu.Lock()
	if c.kept != nil {
		tail, err = c.kept.flush()
	}
	c.mu.Unlock()
	if err != nil {
		return nil, functions.Unavailable("disk", "the log cannot be read").WithCause(err)
	}
	size := 0
	take := func(l functions.LogLine) bool {
		if l.N <= after {
			return true
		}
		if size > 0 && size+len(l.Text) > int(mostRead) || len(lines) == 1000 {
			return false
		}
		size += len(l.Text)
		lines = append(lines, l)
		return true
	}
	f, err := os.Open(c.path)
	if errors.Is(err, fs.ErrNotExist) { // nothing was written
		return nil, nil
	}
	if err != nil {
		return nil, functions.Unavailable("disk", "the log cannot be read").WithCause(err)
	}
	defer f.Close()
	for dec := json.NewDecoder(bufio.NewReader(f)); ; {
		var l functions.LogLine
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // the end, or a line being written
			break
		}
		if err != nil {
			return nil, functions.Unavailable("disk", "the log cannot be read").WithCause(err)
		}
		if !take(l) {
			return lines, nil
		}
	}
	for _, l := range tail {
		if len(lines) > 0 && l.N <= lines[len(lines)-1].N {
			continue // it was written to the file meanwhile
		}
		if !take(l) {
			break
		}
	}
	return lines, nil
}
