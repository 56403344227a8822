package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// initialize is process 1 of a container: it runs its arguments as if they were
// it, and reaps what they leave behind.
func initialize(args []string) int {
	stdin := 0
	if len(args) > 1 && args[0] == wire.FlagStdin {
		fd, err := syscall.Open(args[1], syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return fault("open standard input " + args[1] + ": " + err.Error())
		}
		stdin, args = fd, args[2:]
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return fault("init: no command")
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	c, no := prepare(args, os.Environ(), "")
	died := children()
	var pid int
	if no == nil {
		pid, no = c.start(stdin, 1, 2)
	}
	if no != nil {
		os.Stderr.WriteString(no.words + "\n")
		return no.code
	}
	if stdin != 0 {
		syscall.Close(stdin)
	}
	for {
		select {
		case s := <-signals:
			syscall.Kill(pid, s.(syscall.Signal))
		case <-died:
			if status, ended := reap(pid); ended {
				return codeOf(status)
			}
		}
	}
}
