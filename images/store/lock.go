package store

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// How a file is locked.
const (
	shared    = unix.LOCK_SH
	exclusive = unix.LOCK_EX
)

// lock guards what is on disk against other goroutines and processes, for as
// short as possible: shared to look, exclusive to change.
func (s *Store) lock(how int) (unlock func(), err error) {
	f, err := lockFile(s.path("lock"), how)
	if err != nil {
		return nil, fmt.Errorf("lock the folder of images: %w", err)
	}
	return func() { f.Close() }, nil
}

// claim keeps an image or a layer from being removed, until release. The caller
// holds the lock.
func (s *Store) claim(what string) (release func(), err error) {
	f, err := lockFile(s.path("locks", what), shared)
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", what, err)
	}
	return sync.OnceFunc(func() { f.Close() }), nil
}

// unclaimed reports whether nobody has a claim. While the caller holds the lock,
// this stays so.
func (s *Store) unclaimed(what string) (bool, error) {
	f, err := lockFile(s.path("locks", what), exclusive|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for claims on %s: %w", what, err)
	}
	return true, f.Close()
}

// lockFile opens a file, or makes it, and locks it. Closing it unlocks it, and so
// does the end of the process.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// temp is a folder for what is not finished. It is locked while its maker lives.
type temp struct {
	dir  string
	hold *os.File
}

// temp makes a folder that only the caller has to do with, who closes it.
func (s *Store) temp() (*temp, error) {
	unlock, err := s.lock(shared) // sweep must not find it before it is locked
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.tempLocked()
}

func (s *Store) tempLocked() (*temp, error) {
	dir, err := os.MkdirTemp(s.path("tmp"), "")
	if err != nil {
		return nil, err
	}
	hold, err := os.Open(dir)
	if err == nil {
		err = flock(hold, exclusive)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &temp{dir, hold}, nil
}

// close deletes the folder.
func (t *temp) close() error { return errors.Join(os.RemoveAll(t.dir), t.hold.Close()) }

// sweep deletes the unfinished work of processes that died.
func (s *Store) sweep() error {
	unlock, err := s.lock(exclusive)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(s.path("tmp"))
	var dead []*temp
	for _, e := range entries {
		dir := s.path("tmp", e.Name())
		hold, openErr := os.Open(dir)
		if openErr != nil {
			continue // finished meanwhile
		}
		if flock(hold, exclusive|unix.LOCK_NB) != nil {
			hold.Close() // its maker lives
			continue
		}
		dead = append(dead, &temp{dir, hold})
	}
	unlock()
	for _, t := range dead {
		err = errors.Join(err, t.close())
	}
	return err
}
