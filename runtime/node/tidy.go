package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// likeness is how an attempt's empty folder looks: equal ones serve alike.
type likeness struct{ top, work, in, out, tmp, mark entryLook }

// entryLook is all of a file or folder that a task could tell, but its times.
type entryLook struct {
	mode, uid, gid uint32
	links          uint64
	size           int64
	attributes     string // names of the extended ones, lists of access rights among them
}

// tidy removes from the folder what an empty one does not hold, follows no link
// on the way, and says how what is left looks. The journal and event.json stay as
// they are: only the agent writes them, from their beginning. Nothing may run that
// has the folder mounted.
func (f folder) tidy() (l likeness, err error) {
	mark := f.path("work", "event.json")
	var s unix.Stat_t
	if err := unix.Lstat(mark, &s); err != nil {
		return l, &fs.PathError{Op: "lstat", Path: mark, Err: err}
	}
	l.mark = lookOf(&s)
	for _, d := range []struct {
		look *entryLook
		path string
		keep []string
	}{
		{&l.out, f.path("work", "out"), nil},
		{&l.in, f.path("work", "in"), nil},
		{&l.tmp, f.tmp(), nil},
		{&l.work, f.work(), []string{"in", "out", "event.json"}},
		{&l.top, string(f), []string{"attempt.jsonl", "event.json", "tmp", "work"}},
	} {
		if *d.look, err = tidyFolder(d.path, d.keep); err != nil {
			return l, fmt.Errorf("tidy the task folder: %w", err)
		}
	}
	return l, nil
}

// tidyFolder removes all but keep from a folder.
func tidyFolder(path string, keep []string) (look entryLook, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return look, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	names, err := namesIn(fd)
	if err != nil {
		return look, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	for _, name := range names {
		if slices.Contains(keep, name) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(path, name)); err != nil {
			return look, err
		}
	}
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return look, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	look = lookOf(&s)
	var list [256]byte
	n, err := unix.Flistxattr(fd, list[:])
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return look, &fs.PathError{Op: "list attributes", Path: path, Err: err}
	}
	look.attributes = string(list[:max(n, 0)])
	return look, nil
}

// namesIn is what an open folder holds.
func namesIn(fd int) (names []string, err error) {
	var buf [4096]byte
	for {
		n, err := unix.Getdents(fd, buf[:])
		if err != nil || n == 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func lookOf(s *unix.Stat_t) entryLook {
	return entryLook{mode: s.Mode, uid: s.Uid, gid: s.Gid, links: uint64(s.Nlink), size: s.Size}
}
