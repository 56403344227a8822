package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spillway/spillway/functions"
	"golang.org/x/sys/unix"
)

// Local gives the files of an object store that keeps its objects on this
// machine as plain files and never writes to one again: an overwrite makes
// another file.
type Local interface {
	// Open opens the file of just the content that ref names. Any error means that
	// it comes through Objects, which also says why when it is gone.
	Open(ref functions.ObjectRef) (*os.File, error)
}

// linkLocal makes the target a hard link to the store's own file, and reports
// whether it is there now. An error means that the disk has no room for it: unlike
// a link, all else takes some. The object was opened and checked before, and it is the
// open file that is linked: whatever the store does with the name, the task sees
// this content. The container sees it in a folder that is mounted read-only, under
// which nobody can write to the file, change its mode or link to it from outside.
//
// The file itself could not be mounted as safely: its name may mean another
// object a moment later, and engines refuse to mount an open descriptor. Content
// is not hashed again: the ETag and the size were compared, and the disk is the
// one that the store itself trusts.
func (n *Node) linkLocal(ref functions.ObjectRef, target string) (bool, error) {
	if n.cfg.Local == nil {
		return false, nil
	}
	f, err := n.cfg.Local.Open(ref)
	if err != nil {
		n.cfg.Log.Debug("input not taken from the store's disk", "bucket", ref.Bucket, "key", ref.Key, "err", err)
		return false, n.room(functions.Bytes(max(ref.Size, 0)))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if info.Mode()&0o004 != 0 { // the container's user is another
		err := linkOpen(f, target)
		if err == nil {
			return true, nil
		}
		n.cfg.Log.Debug("input copied from the store's disk", "err", err)
	}
	if err := n.room(functions.Bytes(info.Size())); err != nil {
		return false, err
	}
	return true, copyTo(target, f)
}

// linkOpen gives an open file one more name. It fails between file systems, and on
// those without hard links.
func linkOpen(f *os.File, target string) error {
	return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, target, unix.AT_SYMLINK_FOLLOW)
}

// copyTo makes the target a copy that nobody writes to. The kernel copies, without
// reading where the file system can share blocks.
func copyTo(target string, from *os.File) error {
	return create(target, func(f *os.File) error {
		if _, err := io.Copy(f, from); err != nil {
			return fmt.Errorf("copy the content: %w", err)
		}
		return nil
	})
}

// create makes a file that everybody may read and nobody write.
func create(file string, write func(f *os.File) error) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o444)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Chmod(0o444), f.Close())
}
