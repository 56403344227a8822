package main

import (
	"os"
	"os/signal"
	"syscall"
)

// forwarded are the signals that are passed on to the command.
var forwarded = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
}

// surviveBrokenPipes keeps this process alive when nobody reads its output any
// more. It does not ignore the signal: the command would inherit that.
func surviveBrokenPipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// reap waits for every child, those that came from elsewhere too, and sends the
// status of one.
func reap(pid int) <-chan syscall.WaitStatus {
	exited := make(chan syscall.WaitStatus, 1)
	go func() {
		for {
			var status syscall.WaitStatus
			switch got, err := syscall.Wait4(-1, &status, 0, nil); {
			case err == syscall.EINTR:
			case err != nil:
				return // no children any more
			case got == pid:
				exited <- status
			}
		}
	}()
	return exited
}
