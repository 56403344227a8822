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

// children tells when a child may have ended.
func children() <-chan os.Signal {
	c := make(chan os.Signal, 1) // one word is enough for many children
	signal.Notify(c, syscall.SIGCHLD)
	return c
}

// reap takes every child that has ended, those that came from elsewhere too, and
// returns the status of one if it is among them.
func reap(pid int) (found syscall.WaitStatus, ended bool) {
	for {
		var status syscall.WaitStatus
		switch got, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); {
		case err == syscall.EINTR:
		case err != nil || got == 0:
			return found, ended
		case got == pid:
			found, ended = status, true
		}
	}
}

// anyLeft reports whether the command has left processes that are alive.
func anyLeft() bool {
	for {
		switch got, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); {
		case err == syscall.EINTR, got > 0:
		default:
			return err == nil
		}
	}
}
