package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/versity/versitygw/backend/posix"
	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
)

// Attributes of an object's file, as the library names them.
const (
	etagAttr    = "user.etag"
	versionAttr = "user.version-id"
)

// Local opens the objects of a store on this machine as the files that they are.
type Local struct {
	Root string // the store's Config.Root, absolute
}

// Open opens the newest content of the key, if it is just the one that ref names.
// The store replaces a file and never writes to it: what is opened stays as it is,
// whatever becomes of the object. ETag, version and size are compared on the open
// file; its content is not hashed, for the disk is the one that the store trusts.
//
// ErrNotFound means that there is no such file; ErrConflict that it is another
// content, or an older version of it is meant; ErrUnavailable that the two cannot
// be told apart: ref has no ETag, or the store keeps attributes beside the files,
// where they may be another content's for a moment.
func (l *Local) Open(ref functions.ObjectRef) (*os.File, error) {
	if _, err := os.Lstat(filepath.Join(l.Root, "sidecar")); err == nil || ref.ETag == "" {
		return nil, functions.Unavailable("not_local", "the content of %s/%s cannot be told from its file", ref.Bucket, ref.Key)
	}
	missing := functions.NotFound("object_not_found", "%s/%s is not a file of the store", ref.Bucket, ref.Key)
	// Parts of uploads that are not complete are below such a folder.
	if first, _, _ := strings.Cut(ref.Key, "/"); first == posix.MetaTmpDir || ref.Bucket == "" || ref.Key == "" {
		return nil, missing
	}
	root, err := os.OpenRoot(filepath.Join(l.Root, "data"))
	if err != nil {
		return nil, missing.WithCause(err)
	}
	defer root.Close()
	f, err := root.OpenFile(ref.Bucket+"/"+ref.Key, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, missing.WithCause(err)
	}
	if err := holds(f, ref); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// holds compares an open file with what ref says of it.
func holds(f *os.File, ref functions.ObjectRef) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read %s/%s: %w", ref.Bucket, ref.Key, err)
	}
	if !info.Mode().IsRegular() {
		return functions.NotFound("object_not_found", "%s/%s is not a file of the store", ref.Bucket, ref.Key)
	}
	etag, err := attribute(f, etagAttr)
	if err != nil {
		return fmt.Errorf("read the ETag of %s/%s: %w", ref.Bucket, ref.Key, err)
	}
	same := strings.Trim(etag, `"`) == strings.Trim(ref.ETag, `"`) && info.Size() == ref.Size
	if same && ref.VersionID != "" && ref.VersionID != "null" {
		version, err := attribute(f, versionAttr)
		if err != nil {
			return fmt.Errorf("read the version of %s/%s: %w", ref.Bucket, ref.Key, err)
		}
		same = version == ref.VersionID
	}
	if !same {
		return functions.Conflict("object_changed", "the file of %s/%s holds another content", ref.Bucket, ref.Key)
	}
	return nil
}

// attribute is empty when the file has none of that name.
func attribute(f *os.File, name string) (string, error) {
	value := make([]byte, 512)
	n, err := unix.Fgetxattr(int(f.Fd()), name, value)
	if errors.Is(err, unix.ENODATA) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(value[:n]), nil
}
