// Package shares opens files of shared folders: NFS or anything else that is
// mounted at the same name, though not at the same path, on several machines.
//
// A file is opened from the folder's root downward, one element at a time. Each
// element is looked at, opened without leaving the folder that holds it, and
// compared with what was looked at. What is returned is therefore the very file
// that was checked, whatever others move meanwhile. Links are followed by name,
// from the root again, and never out of the folder.
//
// The agent may be root, and must not lend that: a file is opened only when its
// mode bits let the container's own user read it, and search every folder on the
// way.
package shares

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spillway/spillway/functions"
)

// Folders are shared folders that are mounted on this machine. They may be used
// from many goroutines.
type Folders struct {
	roots map[string]string
	user  User
}

// User is who reads the files in the end.
type User struct{ UID, GID uint32 }

// New returns the folders of roots: absolute paths by name. Nothing is opened
// yet: a share may be mounted later.
func New(roots map[string]string, user User) (*Folders, error) {
	for name, root := range roots {
		if err := functions.ShareName(name); err != nil {
			return nil, err
		}
		if !filepath.IsAbs(root) {
			return nil, functions.Invalid("bad_share", "the shared folder %s: %q is not an absolute path", name, root)
		}
	}
	return &Folders{roots: maps.Clone(roots), user: user}, nil
}

// Mounted lists the folders that hold something, sorted. One that is empty has
// no file to give, and is most often a mount point without its mount.
func (f *Folders) Mounted() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(f.roots)) {
		if mounted(f.roots[name]) {
			names = append(names, name)
		}
	}
	return names
}

func mounted(root string) bool {
	d, err := os.Open(root)
	if err != nil {
		return false
	}
	defer d.Close()
	some, err := d.ReadDir(1)
	return err == nil && len(some) > 0
}

// Open opens SHARE/path for reading and says what it holds: its size, and an
// ETag that changes with size or time of change. ErrUnavailable: the share is not
// mounted here. ErrNotFound: no such file. ErrForbidden: the container's user may
// not read it, or it is no regular file, or it is not inside the share.
func (f *Folders) Open(file string) (*os.File, functions.ObjectRef, error) {
	share, rel, err := functions.SharedFile(file)
	if err != nil {
		return nil, functions.ObjectRef{}, err
	}
	dir := f.roots[share]
	if dir == "" {
		return nil, functions.ObjectRef{}, functions.Unavailable("no_share", "the shared folder %s is not configured here", share)
	}
	opened, info, err := f.open(dir, rel)
	switch {
	case err == nil:
		return opened, functions.ObjectRef{Size: info.Size(), ETag: fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano())}, nil
	case !mounted(dir):
		return nil, functions.ObjectRef{}, functions.Unavailable("no_share", "the shared folder %s is not mounted here, or is empty", share).WithCause(err)
	}
	return nil, functions.ObjectRef{}, explain(file, err)
}

// The ways in which a path is no file that may be read.
var (
	errEscapes    = errors.New("it leads out of the shared folder")
	errLinks      = errors.New("it goes through too many links")
	errNotRegular = errors.New("it is not a regular file")
	errRights     = errors.New("its permissions do not let containers read it")
	errMoved      = errors.New("it was replaced while it was opened")
)

func explain(file string, err error) error {
	forbidden := func(hint string) error {
		return functions.NewError(functions.ErrForbidden, "share_refused", "%s: %s", file, err.Error()).WithHint("%s", hint).WithField("file")
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return functions.NotFound("input_not_found", "%s does not exist", file).WithHint("files are named SHARE/path, as the server and the nodes see the share").WithField("file")
	case errors.Is(err, errRights), errors.Is(err, fs.ErrPermission):
		err = errRights
		return forbidden("make it readable by everybody (chmod o+r), and its folders searchable (chmod o+x)")
	case errors.Is(err, errEscapes), errors.Is(err, errLinks), errors.Is(err, errNotRegular):
		return forbidden("name a regular file inside the shared folder")
	}
	return functions.Unavailable("share_failed", "%s cannot be opened", file).WithCause(err)
}

// maxLinks is how many links Linux follows in one path.
const maxLinks = 40

// open walks from root to rel.
func (f *Folders) open(dir, rel string) (*os.File, fs.FileInfo, error) {
	for links := 0; links <= maxLinks; links++ {
		file, info, link, err := f.walk(dir, rel)
		if err != nil || link == "" {
			return file, info, err
		}
		rel = link
	}
	return nil, nil, errLinks
}

// walk goes down rel element by element. When it meets a link it stops, and
// returns the path that the link stands for.
func (f *Folders) walk(dir, rel string) (file *os.File, info fs.FileInfo, link string, err error) {
	at, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, "", err
	}
	defer func() { at.Close() }()
	if info, err = at.Stat("."); err != nil {
		return nil, nil, "", err
	}
	elems := strings.Split(rel, "/")
	for i, elem := range elems {
		if !f.may(info, 0o1) {
			return nil, nil, "", errRights
		}
		seen, err := at.Lstat(elem)
		if err != nil {
			return nil, nil, "", err
		}
		switch mode := seen.Mode(); {
		case mode&fs.ModeSymlink != 0:
			target, err := at.Readlink(elem)
			if err != nil {
				return nil, nil, "", err
			}
			link, err = resolve(path.Join(elems[:i]...), target, path.Join(elems[i+1:]...))
			return nil, nil, link, err
		case i == len(elems)-1:
			file, info, err = f.take(at, elem, seen)
			return file, info, "", err
		case !mode.IsDir():
			return nil, nil, "", fs.ErrNotExist
		}
		next, err := at.OpenRoot(elem)
		if err != nil {
			return nil, nil, "", err
		}
		at.Close()
		at = next
		if info, err = at.Stat("."); err != nil {
			return nil, nil, "", err
		}
		if !os.SameFile(seen, info) {
			return nil, nil, "", errMoved
		}
	}
	return nil, nil, "", fs.ErrNotExist
}

// resolve is the path that a link in the folder in stands for, with what came
// after the link. A link may go up only at its beginning: what is above a folder
// that may be a link itself cannot be told by name.
func resolve(in, target, rest string) (string, error) {
	down := strings.TrimLeft(target, "./")
	if path.IsAbs(target) || slices.Contains(strings.Split(down, "/"), "..") {
		return "", errEscapes
	}
	joined := path.Join(in, target, rest)
	if joined == "." || joined == ".." || strings.HasPrefix(joined, "../") {
		return "", errEscapes
	}
	return joined, nil
}

// take opens the last element, which was seen to be as info says.
func (f *Folders) take(at *os.Root, name string, seen fs.FileInfo) (_ *os.File, _ fs.FileInfo, err error) {
	if !seen.Mode().IsRegular() {
		return nil, nil, errNotRegular
	}
	if !f.may(seen, 0o4) {
		return nil, nil, errRights
	}
	// Without blocking: it may be a pipe by now.
	file, err := at.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !os.SameFile(seen, info):
		return nil, nil, errMoved
	case !info.Mode().IsRegular():
		return nil, nil, errNotRegular
	case !f.may(info, 0o4):
		return nil, nil, errRights
	}
	return file, info, nil
}

// may reports whether the mode bits give the user a right: 4 to read, 1 to search.
func (f *Folders) may(info fs.FileInfo, right fs.FileMode) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	perm := info.Mode().Perm()
	switch {
	case st.Uid == f.user.UID:
		perm >>= 6
	case st.Gid == f.user.GID:
		perm >>= 3
	}
	return perm&right != 0
}

// Look returns what Open does, with the first most bytes instead of the file.
func (f *Folders) Look(file string, most int64) (functions.ObjectRef, []byte, error) {
	opened, ref, err := f.Open(file)
	if err != nil {
		return ref, nil, err
	}
	defer opened.Close()
	head, err := io.ReadAll(io.LimitReader(opened, most))
	if err != nil {
		return ref, nil, functions.Unavailable("share_failed", "%s cannot be read", file).WithCause(err)
	}
	return ref, head, nil
}
