package framelog

import (
	"os"
	"strconv"
	"syscall"
	"time"
)

// The pauses between two looks at a file: as a safeguard where the kernel tells
// of changes, and where it does not (no file yet, a file system that tells
// nothing, no more watches to be had).
const (
	watchedPause   = 100 * time.Millisecond
	unwatchedPause = 2 * time.Millisecond
)

// watch tells when a file may have grown.
type watch struct {
	news chan struct{}
	done chan struct{} // closed when nothing is read any more
	fd   int           // of events
	// events is the kernel's inotify; nil where there is none.
	events *os.File
	mark   int // the watch of the present file; -1 = none
}

func newWatch() *watch {
	w := &watch{news: make(chan struct{}, 1), done: make(chan struct{}), mark: -1}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		close(w.done)
		return w
	}
	w.fd, w.events = fd, os.NewFile(uintptr(fd), "inotify")
	go w.listen()
	return w
}

// listen passes events on, which may be several at once, until close.
func (w *watch) listen() {
	defer close(w.done)
	buf := make([]byte, 4096)
	for {
		if _, err := w.events.Read(buf); err != nil {
			return
		}
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
}

// on watches another file instead.
func (w *watch) on(f *os.File) {
	if w.events == nil {
		return
	}
	if w.mark >= 0 {
		syscall.InotifyRmWatch(w.fd, uint32(w.mark)) // a file that is deleted has none
	}
	mark, err := syscall.InotifyAddWatch(w.fd, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), syscall.IN_MODIFY|syscall.IN_CLOSE_WRITE)
	if err != nil {
		mark = -1
	}
	w.mark = mark
}

// pause is how long to wait at most before the next look.
func (w *watch) pause() time.Duration {
	if w.mark >= 0 {
		return watchedPause
	}
	return unwatchedPause
}

func (w *watch) close() {
	if w.events != nil {
		w.events.Close()
	}
	<-w.done
}
