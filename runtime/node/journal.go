package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spillway/spillway/functions"
)

// entry is one line of attempt.jsonl, the agent's memory of an attempt. One of
// its fields is set; of two lines of a kind the later counts.
//
// It is one file that only grows: to make, sync, rename and delete three small
// files took longer than all else that the agent does for an attempt.
type entry struct {
	Held    *record            `json:"held,omitempty"`    // what the node has promised to run
	State   *state             `json:"state,omitempty"`   // how far it has come
	Outcome *functions.Outcome `json:"outcome,omitempty"` // how it ended; only the log does not know yet
}

// forget makes the journal say nothing. It is cut to one byte, a line break, and
// not to none: ext4 brings a file that was emptied to the disk when it is next
// written and closed, and another attempt may use this one.
func (f folder) forget() error {
	if err := os.Truncate(f.journal(), int64(len(lineBreak))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("empty attempt.jsonl: %w", err)
	}
	return nil
}

const lineBreak = "\n"

// note appends a line. It outlives the agent; after sync and syncNames, the
// machine as well.
func (f folder) note(e entry) (err error) {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode a line of attempt.jsonl: %w", err)
	}
	file, err := os.OpenFile(f.journal(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write attempt.jsonl: %w", err)
	}
	// The line break in front: what a full disk has cut must not spoil this line.
	_, err = file.Write(slices.Concat([]byte(lineBreak), line, []byte(lineBreak)))
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write attempt.jsonl: %w", err)
	}
	return nil
}

// sync brings every line so far to the disk.
func (f folder) sync() error {
	if err := syncPath(f.journal()); err != nil {
		return fmt.Errorf("sync attempt.jsonl: %w", err)
	}
	return nil
}

// syncNames makes sure that a crash of the machine loses the file's name as little
// as its lines. Only an outcome is worth it: no container outlives such a crash.
func (f folder) syncNames() error {
	return errors.Join(syncPath(string(f)), syncPath(filepath.Dir(string(f))))
}

// memory is what the lines say together. A line that was cut off is passed over:
// nobody has been told that it was written.
func (f folder) memory() (m entry, err error) {
	data, err := os.ReadFile(f.journal())
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil || string(data) == lineBreak { // nothing is promised yet, or any more
		return m, err
	}
	for line := range bytes.Lines(data) {
		var e entry
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if e.Held != nil {
			m.Held = e.Held
		}
		if e.State != nil {
			m.State = e.State
		}
		if e.Outcome != nil {
			m.Outcome = e.Outcome
		}
	}
	if m.Held == nil {
		return m, errors.New("attempt.jsonl holds no assignment")
	}
	return m, nil
}
