package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/spillway/spillway/functions"
	"golang.org/x/sys/unix"
)

// freeDisk is the room that is left on the file system of a folder.
func freeDisk(path string) (functions.Bytes, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, &fs.PathError{Op: "read free disk", Path: path, Err: err}
	}
	return functions.Bytes(s.Bavail) * functions.Bytes(s.Bsize), nil
}

// roomError refuses what would leave too little free disk.
type roomError struct{ free, need, floor functions.Bytes }

func (e *roomError) Error() string {
	return fmt.Sprintf("the node has %s of disk free, and the inputs take %s of it", e.free, e.need)
}

func (e *roomError) failure() *functions.Failure {
	return &functions.Failure{Class: functions.Infra, Message: e.Error(), Hint: fmt.Sprintf("free disk space on the node: it keeps %s", e.floor)}
}

// room returns nil when the disk has room for need and the floor. Before it says
// no, the cache gives up what is missing; a refusal is a *roomError.
func (n *Node) room(need functions.Bytes) error {
	free, err := freeDisk(n.cfg.DataDir)
	if missing := n.cfg.DiskFloor + need - free; err == nil && missing > 0 {
		n.cache.shrink(missing)
		free, err = freeDisk(n.cfg.DataDir)
	}
	switch {
	case err != nil:
		return err
	case free-need < n.cfg.DiskFloor:
		return &roomError{free, need, n.cfg.DiskFloor}
	}
	return nil
}

// takes is what an input will add to the disk, as far as it is known beforehand.
// What is on the machine already adds nothing.
func (n *Node) takes(in functions.Input) functions.Bytes {
	object := in.File == "" && in.URL == ""
	if in.File != "" || object && (n.cfg.Local != nil || n.cache.has(identity(in.ObjectRef))) {
		return 0
	}
	return functions.Bytes(max(in.Size, 0))
}

// checkRoom refuses to stage what would fill the disk.
func (n *Node) checkRoom(a *attempt) *functions.Failure {
	var need functions.Bytes
	for _, in := range a.Assignment.Task.Inputs {
		need += n.takes(in)
	}
	err := n.room(need)
	if full, ok := errors.AsType[*roomError](err); ok {
		return full.failure()
	}
	if err != nil {
		return diskFailure("make room for the inputs", err)
	}
	return nil
}

// watchDisk looks at what the container writes, until it is too much.
func (n *Node) watchDisk(ctx context.Context, a *attempt, over chan<- *functions.Failure) {
	for functions.Sleep(ctx, n.time.Disk) {
		began := time.Now()
		if f := n.checkDisk(a); f != nil {
			over <- f
			return
		}
		// Many files take long to count: never more than a fifth of the time.
		if !functions.Sleep(ctx, min(4*time.Since(began), 10*time.Second)) {
			return
		}
	}
}

// checkDisk compares what the container has written with its limit.
func (n *Node) checkDisk(a *attempt) *functions.Failure {
	var total functions.Bytes
	entries := 0
	for _, dir := range []string{a.folder.work(), a.folder.tmp()} {
		size, count, err := diskUsage(dir)
		if err != nil {
			return diskFailure("measure what the container wrote", err)
		}
		total += size
		entries += count
	}
	limit := a.spec.Limits.Disk
	switch {
	case total > limit:
		return &functions.Failure{Class: functions.DiskExceeded, Message: fmt.Sprintf("wrote %s to %s and /tmp; its limit is %s", total, taskDir, limit)}
	case entries > mostEntries:
		return &functions.Failure{Class: functions.DiskExceeded, Message: fmt.Sprintf("made over %d files in %s and /tmp", mostEntries, taskDir)}
	}
	return nil
}

// mostEntries bounds files and folders together: empty ones take room as well.
const mostEntries = 20 * mostOutputs

// diskUsage sums what is under a folder: for each file the larger of its length
// and its blocks, for a file with holes is uploaded at its length. Files that
// vanish meanwhile do not count. It stops counting past mostEntries.
func diskUsage(dir string) (size functions.Bytes, entries int, err error) {
	size, entries, err = quickUsage(dir)
	if !errors.Is(err, errDeep) {
		return size, entries, err
	}
	size, entries = 0, 0
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, 0, err
	}
	defer root.Close()
	err = walk(root, func(_ string, e fs.DirEntry) error {
		entries++
		if entries > mostEntries {
			return fs.SkipAll
		}
		info, err := e.Info()
		if err != nil || e.IsDir() {
			return nil // gone; or a folder, whose size is the file system's
		}
		length := info.Size()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			length = max(length, st.Blocks*512)
		}
		size += functions.Bytes(length)
		return nil
	})
	return size, entries, err
}

// errDeep says that folders are nested deeper than quickUsage goes.
var errDeep = errors.New("too deep to be counted quickly")

// quickDepth is how many folders quickUsage holds open.
const quickDepth = 8

// quickUsage is diskUsage for what most tasks leave, which is little and not
// deep: a fraction of the system calls.
func quickUsage(dir string) (size functions.Bytes, entries int, err error) {
	var count func(at int, name string, depth int) error
	count = func(at int, name string, depth int) error {
		if depth == 0 {
			return errDeep
		}
		fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &fs.PathError{Op: "open", Path: name, Err: err}
		}
		defer unix.Close(fd)
		names, err := namesIn(fd)
		if err != nil {
			return &fs.PathError{Op: "read", Path: name, Err: err}
		}
		for _, name := range names {
			if entries++; entries > mostEntries {
				return nil
			}
			var s unix.Stat_t
			if unix.Fstatat(fd, name, &s, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue // gone
			}
			if s.Mode&unix.S_IFMT != unix.S_IFDIR {
				size += functions.Bytes(max(s.Size, s.Blocks*512))
				continue
			}
			if err := count(fd, name, depth-1); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	err = count(unix.AT_FDCWD, dir, quickDepth)
	return size, entries, err
}

// walk visits everything under root, follows no link, and takes no offence at
// what disappears meanwhile.
func walk(root *os.Root, visit func(name string, e fs.DirEntry) error) error {
	return fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		return visit(name, e)
	})
}

func removeFile(path string) error {
	err := unix.Unlink(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &fs.PathError{Op: "remove", Path: path, Err: err}
}

func fullDisk(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

func diskFailure(what string, err error) *functions.Failure {
	f := &functions.Failure{Class: functions.Infra, Message: what + ": " + err.Error()}
	if errors.Is(err, fs.ErrPermission) {
		// The agent may do anything in its own folders: the container has locked what
		// is its own, and would again.
		f.Class = functions.BadOutput
	}
	if fullDisk(err) {
		f.Hint = "free disk space on the node"
	}
	return f
}
