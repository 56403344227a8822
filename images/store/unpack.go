package store

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
)

// Limits of one layer. entryCost is what an entry takes of the disk at least: a
// block, or an inode.
const (
	mostEntries = 2_000_000
	entryCost   = 4096
)

// unpacker writes one layer into a folder. Every name of the stream is hostile:
// no step of a path follows a link, and none leaves the folder.
type unpacker struct {
	root    *os.Root
	fd      int                         // of root
	spend   func(functions.Bytes) error // asked before anything is written
	entries int
	buf     []byte

	parentPath string // of the folder that parent is open on
	parent     *os.File
	dirs       []dirTime // times that are set last, as writing into a folder changes its own
}

type dirTime struct {
	path string
	time time.Time
}

// unpack writes the layer that is a tar stream into dir, which is there and
// empty, as overlayfs wants it: what the layer removes from those below is a
// device 0:0, or the xattr trusted.overlay.opaque on a folder.
func unpack(dir string, stream io.Reader, spend func(functions.Bytes) error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	top, err := root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	u := &unpacker{root: root, fd: int(top.Fd()), spend: spend, buf: make([]byte, 256<<10)}
	defer u.closeParent()
	for entries := tar.NewReader(stream); ; {
		h, err := entries.Next()
		switch {
		case errors.Is(err, io.EOF):
			return u.setTimes()
		case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrInsecurePath):
			return badLayer("its tar stream is damaged: %v", err)
		case err != nil:
			return err
		}
		if err := u.entry(h, entries); err != nil {
			return fmt.Errorf("unpack %q: %w", short(h.Name), err)
		}
	}
}

func badLayer(format string, args ...any) error {
	return functions.Invalid("bad_layer", "the image has a layer that cannot be used: "+format, args...).
		WithHint("build the image again, and do not trust where it came from")
}

// entry writes one entry of the stream.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if u.entries++; u.entries > mostEntries {
		return badLayer("it has over %d files", mostEntries)
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if err := u.spend(entryCost); err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return badLayer("its root is not a folder")
		}
		return u.finish(u.fd, ".", name, h)
	}
	dir, base := path.Split(name)
	parent, err := u.folder(path.Clean(dir))
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteout) {
		return u.whiteout(parent, path.Clean(dir), base)
	}
	removed, err := u.makeWay(parent, name, base, h.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	if err := u.create(parent, base, h, content); err != nil {
		return err
	}
	if removed { // the layer replaces the folder of those below, it does not add to it
		if err := setxattr(parent, base, opaque, []byte("y")); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeLink {
		return nil // the file has its owner and mode
	}
	return u.finish(parent, base, name, h)
}

// clean makes a name relative to the layer's root, and refuses one that leaves it.
func clean(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", badLayer("a name holds a zero byte")
	}
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", badLayer("the name %q leaves the image", short(name))
	}
	return path.Clean(strings.TrimLeft(name, "/")), nil // of nothing it makes a dot
}

// folder opens a folder of the layer, and makes it when the stream did not name
// it. Links on the way are refused.
func (u *unpacker) folder(dir string) (int, error) {
	if dir == "." {
		return u.fd, nil
	}
	if u.parent != nil && u.parentPath == dir {
		return int(u.parent.Fd()), nil
	}
	fd, err := u.openFolder(dir)
	if errors.Is(err, unix.ENOENT) {
		var above int
		if above, err = u.folder(path.Dir(dir)); err != nil {
			return 0, err
		}
		if err := u.spend(entryCost); err != nil {
			return 0, err
		}
		if err = unix.Mkdirat(above, path.Base(dir), 0o755); err == nil {
			err = unix.Fchmodat(above, path.Base(dir), 0o755, 0) // whatever the umask
		}
		if err == nil {
			fd, err = u.openFolder(dir)
		}
	}
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EXDEV):
		return 0, badLayer("%q is below something that is not a folder", short(dir))
	case errors.Is(err, unix.ENAMETOOLONG):
		return 0, badLayer("the name %q is too long", short(dir))
	case err != nil:
		return 0, err
	}
	u.closeParent()
	u.parentPath, u.parent = dir, os.NewFile(uintptr(fd), dir)
	return fd, nil
}

func (u *unpacker) openFolder(dir string) (int, error) {
	return unix.Openat2(u.fd, dir, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
}

func (u *unpacker) closeParent() {
	if u.parent != nil {
		u.parent.Close()
		u.parent, u.parentPath = nil, ""
	}
}

// makeWay removes what an earlier entry of the layer left at the name, unless
// both are folders. It reports whether that was a whiteout under a folder.
func (u *unpacker) makeWay(parent int, name, base string, folder bool) (whiteoutGone bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case errors.Is(err, unix.ENAMETOOLONG):
		return false, badLayer("the name %q is too long", short(base))
	case err != nil:
		return false, err
	}
	isFolder := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if isFolder && folder {
		return false, nil
	}
	if isFolder {
		gone := func(p string) bool { return p == name || strings.HasPrefix(p, name+"/") }
		if gone(u.parentPath) {
			u.closeParent()
		}
		u.dirs = slices.DeleteFunc(u.dirs, func(d dirTime) bool { return gone(d.path) })
		return false, u.root.RemoveAll(name)
	}
	return folder && isWhiteout(st), unix.Unlinkat(parent, base, 0)
}

// create makes what an entry is, without its owner, mode and times. The
// type's mode goes last.
func (u *unpacker) create(parent int, base string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(parent, base, h.Size, content)
	case tar.TypeDir:
		err := unix.Mkdirat(parent, base, 0o700)
		if errors.Is(err, unix.EEXIST) {
			return nil // makeWay has left a folder only
		}
		return err
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return badLayer("the link %q leads nowhere", short(h.Name))
		}
		return refused(unix.Symlinkat(h.Linkname, parent, base), h.Name)
	case tar.TypeLink:
		return u.link(parent, base, h)
	case tar.TypeFifo:
		return unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar, tar.TypeBlock:
		kind := uint32(unix.S_IFCHR)
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		if h.Devmajor < 0 || h.Devmajor > math.MaxUint32 || h.Devminor < 0 || h.Devminor > math.MaxUint32 {
			return badLayer("the device %q has no such numbers", short(h.Name))
		}
		return unix.Mknodat(parent, base, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	}
	return badLayer("%q is of the unknown kind %q", short(h.Name), h.Typeflag)
}

// link makes a hard link to an entry that came before.
func (u *unpacker) link(parent int, base string, h *tar.Header) error {
	target, err := clean(h.Linkname)
	if err != nil {
		return err
	}
	dir, file := path.Split(target)
	// Not by u.folder: it would close parent, and make folders.
	from := u.fd
	if dir = path.Clean(dir); dir != "." {
		if from, err = u.openFolder(dir); err == nil {
			defer unix.Close(from)
		}
	}
	if err == nil {
		err = unix.Linkat(from, file, parent, base, 0)
	}
	if err != nil && !errors.Is(err, unix.ENOSPC) {
		return badLayer("the link %q leads to %q, which is no file before it: %v", short(h.Name), short(h.Linkname), err)
	}
	return err
}

// refused translates what the kernel says to a link that cannot be.
func refused(err error, name string) error {
	if errors.Is(err, unix.ENAMETOOLONG) {
		return badLayer("the link %q leads to a name that is too long", short(name))
	}
	return err
}
