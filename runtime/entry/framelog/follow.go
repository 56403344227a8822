package framelog

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// settleTime is how long a log may stand still after its container has exited,
// while its writer lives.
const settleTime = 10 * time.Second

// Follow copies a log to the streams, from its beginning and as it grows, until
// its end. A log that is not there yet is waited for. ended is closed when the
// container has exited: from then on a log without a writer is over, because one
// whose writer was killed has no end of its own; and one with a writer is waited
// for only as long as something comes, with pauses of ten seconds at most. A nil
// writer discards, and one that fails gets nothing more. Follow returns how many
// bytes of output the log no longer had; its error is ctx's, or that the log
// cannot be read.
func Follow(ctx context.Context, path string, stdout, stderr io.Writer, ended <-chan struct{}) (dropped int64, err error) {
	f := &follower{path: path, stdout: stdout, stderr: stderr, watch: newWatch(), buf: make([]byte, 2*maxPayload)}
	defer f.close()
	var (
		exited, last bool
		still        <-chan time.Time
	)
	for ctx.Err() == nil {
		moved, done, err := f.step()
		switch {
		case done || err != nil:
			return f.dropped, err
		case moved && exited:
			still = time.After(settleTime)
			continue
		case moved:
			continue
		case last:
			return f.dropped, nil
		case exited && abandoned(path):
			last = true // what came before it was abandoned is read once more
			continue
		}
		select {
		case <-f.watch.news:
		case <-time.After(f.watch.pause()):
		case <-ended:
			ended, exited, still = nil, true, time.After(settleTime)
		case <-still:
			return f.dropped, nil
		case <-ctx.Done():
		}
	}
	return f.dropped, context.Cause(ctx)
}

// follower is one reader of a log. Only Follow's goroutine uses it.
type follower struct {
	path           string
	stdout, stderr io.Writer
	watch          *watch

	file    *os.File
	number  int   // of the file, or of the one to open next
	at      int64 // where the next frame begins in the file
	buf     []byte
	seen    int64 // bytes of output passed on or dropped
	dropped int64
}

func (f *follower) close() {
	f.watch.close()
	if f.file != nil {
		f.file.Close()
	}
}

// step passes on what is new. moved says that there was something, done that the
// log is at its end.
func (f *follower) step() (moved, done bool, err error) {
	if f.file == nil {
		if err := f.open(); err != nil || f.file == nil {
			return false, false, err
		}
	}
	return f.read()
}

// open opens the next file, or when it is gone already the oldest after it. No
// file yet is no error.
func (f *follower) open() error {
	file, err := os.Open(segment(f.path, f.number))
	for errors.Is(err, os.ErrNotExist) {
		var numbers []int
		if numbers, err = segments(f.path); err != nil {
			break
		}
		for len(numbers) > 0 && numbers[0] < f.number {
			numbers = numbers[1:]
		}
		if len(numbers) == 0 {
			return nil
		}
		f.number = numbers[0]
		file, err = os.Open(segment(f.path, f.number))
	}
	if err != nil {
		return err
	}
	f.file = file
	f.watch.on(file)
	return nil
}

// read passes on the whole frames that are new in the file. One that is not
// whole yet is read again, because a writer without room takes it back.
func (f *follower) read() (moved, done bool, err error) {
	n, err := f.file.ReadAt(f.buf, f.at)
	if err != nil && err != io.EOF {
		return false, false, err
	}
	for rest := f.buf[:n]; ; moved = true {
		kind, payload, size, ok := frame(rest)
		if !ok {
			return moved, false, nil
		}
		rest = rest[size:]
		f.at += int64(size)
		switch kind {
		case wire.KindEnd:
			return true, true, nil
		case wire.KindMore:
			f.file.Close()
			f.file, f.at, f.number = nil, 0, f.number+1
			return true, false, nil
		case wire.KindOmission:
			f.catchUp(payload)
		case wire.KindStdout:
			f.seen += int64(len(payload))
			pass(&f.stdout, payload)
		case wire.KindStderr:
			f.seen += int64(len(payload))
			pass(&f.stderr, payload)
		}
	}
}

// catchUp counts what came before an omission and was not seen.
func (f *follower) catchUp(payload []byte) {
	if len(payload) != 8 {
		return
	}
	if missing := int64(binary.BigEndian.Uint64(payload)) - f.seen; missing > 0 {
		f.dropped += missing
		f.seen += missing
	}
}

// frame splits the first whole frame off.
func frame(b []byte) (kind wire.Kind, payload []byte, size int, ok bool) {
	if len(b) < wire.HeaderSize {
		return 0, nil, 0, false
	}
	size = wire.HeaderSize + int(binary.BigEndian.Uint32(b[1:wire.HeaderSize]))
	if len(b) < size {
		return 0, nil, 0, false
	}
	return wire.Kind(b[0]), b[wire.HeaderSize:size], size, true
}

// pass writes to a stream that may be nil, and drops one that fails.
func pass(to *io.Writer, p []byte) {
	if *to != nil {
		if _, err := (*to).Write(p); err != nil {
			*to = nil
		}
	}
}
