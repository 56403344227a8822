package node

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spillway/spillway/functions"
)

const (
	// longestTail bounds the end of a log, which is kept in memory.
	longestTail = 4 * functions.MiB
	// lineOverhead is what a line takes as JSON besides its text, about.
	lineOverhead = 160
)

// logFile is a log of bounded size: its head goes to the file as it comes, its
// tail when it is finished.
type logFile struct {
	path    string
	keep    functions.Bytes
	file    *os.File // nil until there is something to write: most programs say nothing
	buf     *bufio.Writer
	room    int64 // left in the head
	tail    []functions.LogLine
	length  int64 // of the tail
	dropped int64 // lines between head and tail
	failed  error
}

func newLogFile(path string, keep functions.Bytes) *logFile {
	l := &logFile{path: path, keep: keep}
	l.room = int64(keep - l.tailRoom())
	l.failed = removeFile(path) // of an earlier life
	return l
}

// put writes one line to the file.
func (l *logFile) put(line []byte) {
	if l.file == nil && l.failed == nil {
		if l.file, l.failed = os.Create(l.path); l.failed == nil {
			l.buf = bufio.NewWriter(l.file)
		}
	}
	if l.failed == nil {
		_, l.failed = l.buf.Write(append(line, '\n'))
	}
}

func (l *logFile) tailRoom() functions.Bytes { return min(l.keep/2, longestTail) }

// add reports whether the line went to the head.
func (l *logFile) add(entry functions.LogLine) (inHead bool) {
	if l.room > 0 && l.failed == nil {
		data, err := json.Marshal(entry)
		if err == nil && int64(len(data)) < l.room {
			l.room -= int64(len(data)) + 1
			if l.put(data); l.failed == nil {
				return true
			}
		}
		l.room = 0
	}
	l.tail = append(l.tail, entry)
	l.length += int64(len(entry.Text)) + lineOverhead
	drop := 0
	for l.length > int64(l.tailRoom()) && drop < len(l.tail)-1 {
		l.length -= int64(len(l.tail[drop].Text)) + lineOverhead
		drop++
	}
	l.dropped += int64(drop)
	l.tail = l.tail[drop:]
	return false
}

// finish writes the tail behind the head.
func (l *logFile) finish() error {
	if l.dropped > 0 {
		gap := l.tail[0]
		gap.N, gap.Stream = gap.N-1, "system"
		gap.Text = fmt.Sprintf("%d lines were dropped here: the log may hold %s (limits.log)", l.dropped, l.keep)
		l.write(gap)
	}
	for _, entry := range l.tail {
		l.write(entry)
	}
	if l.file == nil {
		return l.failed
	}
	return errors.Join(l.failed, l.buf.Flush(), l.file.Close())
}

func (l *logFile) write(entry functions.LogLine) {
	data, err := json.Marshal(entry)
	if err != nil {
		l.failed = errors.Join(l.failed, err)
		return
	}
	l.put(data)
}

// abandon lets go of a log that is begun anew.
func (l *logFile) abandon() {
	if l.file != nil {
		l.file.Close() // its content is replaced
	}
}

// flush makes the head readable, and returns the tail.
func (l *logFile) flush() ([]functions.LogLine, error) {
	var err error
	if l.buf != nil {
		err = l.buf.Flush()
	}
	return append([]functions.LogLine(nil), l.tail...), err
}
