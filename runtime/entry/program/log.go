package main

import (
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spillway/spillway/runtime/entry/framelog"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// The descriptors of a containerd binary logger.
const (
	logStdout = 3
	logStderr = 4
	logReady  = 5
)

// keepLog writes both streams to a log until they end. Its argument is the
// log's limit and path: containerd passes one query pair in a known order, and
// several in none.
func keepLog(args []string) int {
	limit, path, ok := "", "", false
	if len(args) == 1 {
		limit, path, ok = strings.Cut(args[0], ":")
	}
	size, err := strconv.ParseInt(limit, 10, 64)
	if !ok || err != nil {
		return fault("log: its argument is LIMIT:PATH")
	}
	// containerd sends SIGTERM as soon as it has closed the streams: what is
	// still in them is to be kept. It kills in the end.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	log, err := framelog.Create(path, size)
	if err != nil {
		return fault("log: " + err.Error())
	}
	ready := os.NewFile(logReady, "ready")
	ready.Write([]byte{1}) // the newer form of the protocol waits for a byte, the older for the end
	ready.Close()
	var copying sync.WaitGroup
	copying.Go(func() { drain(logStdout, log, wire.KindStdout) })
	copying.Go(func() { drain(logStderr, log, wire.KindStderr) })
	copying.Wait()
	if err := log.Close(); err != nil {
		return fault("log: " + err.Error())
	}
	return 0
}

// drain keeps one stream to its end. What cannot be kept is read all the same.
func drain(fd uintptr, log *framelog.Writer, kind wire.Kind) {
	from := os.NewFile(fd, "stream")
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			log.Write(kind, buf[:n]) // the log marks what it has no room for
		}
		if err != nil {
			return
		}
	}
}
