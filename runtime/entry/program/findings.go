package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// unstarted is a runtime that did not start the container.
type unstarted struct {
	status syscall.WaitStatus
	words  string
}

func (r unstarted) Error() string {
	if r.words != "" {
		return r.words
	}
	if r.status.Signaled() {
		return "the OCI runtime was killed by signal " + strconv.Itoa(int(r.status.Signal()))
	}
	return "the OCI runtime exited with " + strconv.Itoa(r.status.ExitStatus())
}

// tail reads what a pipe holds now.
func tail(fd int) string {
	_ = unix.SetNonblock(fd, true) // or it would wait, as it must not
	buf := make([]byte, 8<<10)
	n, _ := unix.Read(fd, buf)
	return strings.TrimSpace(strings.ReplaceAll(string(buf[:max(n, 0)]), "\x00", ""))
}

func readPID() (int, error) {
	text, err := os.ReadFile(wire.FilePID)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// oomKills reads how many processes the kernel has killed for a group's memory
// limit, under either version of cgroups.
func oomKills(dir string) int {
	for _, name := range []string{"/memory.events", "/memory.oom_control"} {
		text, err := os.ReadFile(dir + name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
				n, _ := strconv.Atoi(strings.TrimSpace(count)) // the kernel writes a number
				return n
			}
		}
	}
	return 0
}
