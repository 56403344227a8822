package framelog

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// MinLimit is the smallest limit of a log; a smaller one is raised to it.
const MinLimit = 4 << 10

const (
	maxPayload = 64 << 10 // of a frame; longer writes become several
	kept       = 2        // files after the first
)

// reserve is room in each file for what is not output: KindOmission at its head
// and KindMore or KindEnd at its end.
const reserve = 3 * (wire.HeaderSize + 8)

// Writer writes one log. Its methods may be called from many goroutines.
type Writer struct {
	path        string
	first, rest int64 // sizes of the files
	// lock is the first file, open and locked for as long as this writer lives,
	// so that followers see when it does not.
	lock *os.File

	mu     sync.Mutex // guards the fields below
	file   *os.File
	number int   // of the file; 0 is the first
	size   int64 // of the file
	came   int64 // bytes of output that were written here, kept or not
	missed bool  // some of them since the last frame
	frame  []byte
}

// Create starts a log of at most limit bytes. What was there under the path is
// replaced.
func Create(path string, limit int64) (*Writer, error) {
	limit = max(limit, MinLimit)
	if err := Remove(path); err != nil {
		return nil, err
	}
	file, err := create(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(os.NewSyscallError("flock", err), file.Close())
	}
	return &Writer{path: path, first: limit / 2, rest: limit / 4, lock: file, file: file}, nil
}

func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// Write keeps bytes of output; kind is KindStdout or KindStderr. An error (a full
// disk) means that some of it is not kept, and is marked in the log once there is
// room again: the caller may go on.
func (w *Writer) Write(kind wire.Kind, output []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return os.ErrClosed
	}
	var failed error
	for len(output) > 0 {
		n, err := w.write(kind, output)
		if err != nil {
			w.missed, failed = true, err
		}
		w.came += int64(n)
		output = output[n:]
	}
	return failed
}

// write keeps as much as one frame can take, and returns how much of the output
// it dealt with.
func (w *Writer) write(kind wire.Kind, output []byte) (int, error) {
	if w.room() <= 0 {
		if err := w.rotate(); err != nil {
			return len(output), err
		}
	}
	if w.missed {
		if err := w.append(wire.KindOmission, w.position()); err != nil {
			return len(output), err
		}
		w.missed = false
	}
	n := int(min(int64(len(output)), maxPayload, max(w.room(), 1)))
	return n, w.append(kind, output[:n])
}

// room is for the payload of one more frame.
func (w *Writer) room() int64 {
	limit := w.rest
	if w.number == 0 {
		limit = w.first
	}
	return limit - w.size - reserve - wire.HeaderSize
}

// rotate goes on in the next file, which is there before the old one names it.
func (w *Writer) rotate() error {
	next, err := create(segment(w.path, w.number+1))
	if err != nil {
		return err
	}
	old := w.size
	head := wire.AppendFrame(w.frame[:0], wire.KindOmission, w.position())
	if _, err := next.Write(head); err == nil {
		err = w.append(wire.KindMore, nil)
	}
	if err != nil || w.size == old {
		return errors.Join(err, next.Close(), os.Remove(next.Name()))
	}
	if w.file != w.lock {
		w.file.Close()
	}
	w.file, w.number, w.size, w.missed = next, w.number+1, int64(len(head)), false
	if out := w.number - kept; out > 0 {
		os.Remove(segment(w.path, out))
	}
	return nil
}

// append writes a frame, or leaves the file as it was.
func (w *Writer) append(kind wire.Kind, payload []byte) error {
	w.frame = wire.AppendFrame(w.frame[:0], kind, payload)
	if _, err := w.file.WriteAt(w.frame, w.size); err != nil {
		return errors.Join(err, w.file.Truncate(w.size))
	}
	w.size += int64(len(w.frame))
	return nil
}

// position is the payload of KindOmission.
func (w *Writer) position() []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(w.came))
}

// Close marks the end of the log, for which followers wait.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return os.ErrClosed
	}
	var err error
	if w.missed {
		err = w.append(wire.KindOmission, w.position())
	}
	err = errors.Join(err, w.append(wire.KindEnd, nil))
	if w.file != w.lock {
		err = errors.Join(err, w.file.Close())
	}
	w.file = nil
	return errors.Join(err, w.lock.Close())
}

// segment is the name of a log's file; 0 is the first.
func segment(path string, number int) string {
	if number == 0 {
		return path
	}
	return path + "." + strconv.Itoa(number)
}
