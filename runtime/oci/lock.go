package oci

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
)

// lockTime is how long the lock of a driver that was killed may outlive it, in a
// child that it had forked and that had not yet become a monitor.
const lockTime = 3 * time.Second

func awaitLock(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	for {
		f, err := takeLock(path)
		if !errors.Is(err, unix.EWOULDBLOCK) || !functions.Sleep(ctx, 10*time.Millisecond) {
			return f, err
		}
	}
}

// takeLock opens a file and locks it for as long as it is open.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// isLocked says whether a process holds the lock. No file is no lock.
func isLocked(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
