package store

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
)

// How a layer says that it removes something of those below, and how overlayfs
// wants to hear it.
const (
	whiteout       = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutOther  = ".wh..wh." // of file systems long gone
	opaque         = "trusted.overlay.opaque"
)

// xattrPrefix marks extended attributes in a tar stream.
const xattrPrefix = "SCHILY.xattr."

// whiteout hides a name of the layers below, or all of them.
func (u *unpacker) whiteout(parent int, dir, base string) error {
	switch {
	case base == whiteoutOpaque:
		return setxattr(parent, ".", opaque, []byte("y"))
	case strings.HasPrefix(base, whiteoutOther):
		return nil
	}
	hidden := strings.TrimPrefix(base, whiteout)
	if hidden == "" || hidden == "." || hidden == ".." {
		return badLayer("it removes %q", short(path.Join(dir, hidden)))
	}
	err := unix.Mknodat(parent, hidden, unix.S_IFCHR, 0)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	// The layer has the name itself, and hides what is below it there.
	var st unix.Stat_t
	if err := unix.Fstatat(parent, hidden, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	return setxattr(parent, hidden, opaque, []byte("y"))
}

func isWhiteout(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// file writes a regular file. Blocks of zeros become holes.
func (u *unpacker) file(parent int, base string, size int64, content io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	for at := int64(0); at < size; {
		n, err := io.ReadFull(content, u.buf[:min(int64(len(u.buf)), size-at)])
		if err != nil {
			return fmt.Errorf("read the layer: %w", err)
		}
		if err := u.spend(functions.Bytes(n)); err != nil {
			return err
		}
		if err := writeSparse(f, u.buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Close()
}

// writeSparse writes what is not zero of a piece of a file.
func writeSparse(f *os.File, piece []byte, at int64) error {
	for len(piece) > 0 {
		data := 0 // length of what comes first and is not zero
		for data < len(piece) && !allZero(piece[data:min(data+entryCost, len(piece))]) {
			data = min(data+entryCost, len(piece))
		}
		if _, err := f.WriteAt(piece[:data], at); err != nil {
			return err
		}
		next := min(data+entryCost, len(piece)) // past the zeros
		piece, at = piece[next:], at+int64(next)
	}
	return nil
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// finish gives an entry its owner, attributes, mode and times, in this order: an
// owner takes setuid bits and capabilities away.
func (u *unpacker) finish(parent int, base, name string, h *tar.Header) error {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= 1<<32-1 || int64(h.Gid) >= 1<<32-1 {
		return badLayer("%q belongs to %d:%d", short(name), h.Uid, h.Gid)
	}
	if err := unix.Fchownat(parent, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		if strings.HasPrefix(attr, "trusted.") { // would steer overlayfs to other files
			return badLayer("%q has the attribute %q", short(name), short(attr))
		}
		if err := setxattr(parent, base, attr, []byte(value)); err != nil {
			return err
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(parent, base, modeOf(h), 0); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeDir {
		u.dirs = append(u.dirs, dirTime{name, h.ModTime})
		return nil
	}
	return setTime(parent, base, h.ModTime)
}

// modeOf is the entry's permission bits as the kernel takes them.
func modeOf(h *tar.Header) uint32 { return uint32(h.Mode) & 0o7777 }

// setTimes sets the times of folders, when nothing is written there any more.
func (u *unpacker) setTimes() error {
	for _, d := range u.dirs {
		if err := u.root.Chtimes(d.path, d.time, d.time); err != nil {
			return err
		}
	}
	return nil
}

func setTime(parent int, base string, t time.Time) error {
	at, err := unix.TimeToTimespec(t)
	if err != nil { // out of the kernel's range
		at = unix.Timespec{}
	}
	return unix.UtimesNanoAt(parent, base, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

// setxattr sets an attribute of a name in an open folder, which is not followed.
func setxattr(parent int, base, attr string, value []byte) error {
	err := unix.Lsetxattr("/proc/self/fd/"+strconv.Itoa(parent)+"/"+base, attr, value, 0)
	if err != nil {
		return &fs.PathError{Op: "set attribute " + short(attr) + " of", Path: base, Err: err}
	}
	return nil
}

// short keeps hostile input from flooding an error message.
func short(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
