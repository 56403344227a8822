package embedded

import (
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
)

// What the library keeps of unfinished things, below a bucket's folder:
//
//	.sgwtmp/HASH.DIGITS                           a file being written, where the file system has none without a name
//	.sgwtmp/multipart/HASH/                       all uploads in parts of the key with that SHA-256
//	.sgwtmp/multipart/HASH/HASH.DIGITS            a part being written
//	.sgwtmp/multipart/HASH/UPLOAD/                an upload, one file per part
//	.sgwtmp/multipart/HASH/UPLOAD.ETAG.inprogress the same while it is being completed
//
// The side-car folder has folders of the same names for attributes. Nothing in
// the library looks at what a killed process left here, and an upload that was
// being completed is out of every client's reach.

var (
	halfFile  = regexp.MustCompile(`^[0-9a-f]{64}\.[0-9]+$`)
	claimName = regexp.MustCompile(`^([^.]+)\.([^.]+)\.inprogress$`)
)

// tidy puts right what a killed process left: an upload that was being completed
// is an upload again, or gone when its object is there, and half files go. It
// works while nothing is served. What it cannot put right it logs and leaves.
func (o *outbox) tidy(attrs meta.MetadataStorer, versions string) error {
	buckets, err := os.ReadDir(o.data)
	if err != nil {
		return err
	}
	for _, b := range buckets {
		if !b.IsDir() {
			continue
		}
		err := errors.Join(
			removeHalf(filepath.Join(o.data, b.Name(), posix.MetaTmpDir)),
			removeHalf(filepath.Join(versions, b.Name(), posix.MetaTmpDir)),
			o.tidyUploads(attrs, b.Name()))
		if err != nil {
			o.log.Warn("leftovers of a killed store not put right", "bucket", b.Name(), "err", err)
		}
	}
	return nil
}

func (o *outbox) tidyUploads(attrs meta.MetadataStorer, bucket string) error {
	keys, err := dirs(filepath.Join(o.data, bucket, posix.MetaTmpMultipartDir))
	for _, key := range keys {
		folder := filepath.Join(posix.MetaTmpMultipartDir, key)
		err = errors.Join(err, removeHalf(filepath.Join(o.data, bucket, folder)))
		uploads, readErr := dirs(filepath.Join(o.data, bucket, folder))
		err = errors.Join(err, readErr)
		for _, name := range uploads {
			if m := claimName.FindStringSubmatch(name); m != nil {
				err = errors.Join(err, o.settle(attrs, bucket, folder, claim{dir: name, upload: m[1], etag: m[2]}))
			}
		}
	}
	if o.sidecar == "" {
		return err
	}
	return errors.Join(err, o.removeDeadAttributes(bucket))
}

// claim is an upload that was being completed.
type claim struct {
	dir    string // its folder's name
	upload string
	etag   string // of the object in the making
}

func (o *outbox) settle(attrs meta.MetadataStorer, bucket, folder string, c claim) error {
	key, err := attrs.RetrieveAttribute(nil, bucket, folder, "objname")
	if err != nil {
		return fmt.Errorf("key of upload %s: %w", c.upload, err)
	}
	made, err := o.made(attrs, bucket, string(key), c)
	if err != nil {
		return fmt.Errorf("object of upload %s: %w", c.upload, err)
	}
	if !made {
		// The attributes first: the claim, which the next start looks for, stays
		// until all is back.
		if o.sidecar != "" {
			if err := giveBack(filepath.Join(o.sidecar, bucket, folder), c); err != nil {
				return err
			}
		}
		o.log.Info("upload given back that a killed store was completing", "bucket", bucket, "key", string(key), "upload", c.upload)
		return giveBack(filepath.Join(o.data, bucket, folder), c)
	}
	if err := o.sync(bucket, string(key)); err != nil { // the parts are all there is of it on the disk
		return err
	}
	if err := os.RemoveAll(filepath.Join(o.data, bucket, folder, c.dir)); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(o.data, bucket, folder)) // other uploads of the key keep it
	return nil
}

// made reports whether the claim's object was published before the end.
func (o *outbox) made(attrs meta.MetadataStorer, bucket, key string, c claim) (bool, error) {
	raw, err := attrs.RetrieveAttribute(nil, bucket, key, "mp-metadata")
	if errors.Is(err, meta.ErrNoSuchKey) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	parts, err := backend.UnmarshalMpUploadMetadata(raw, false)
	if err != nil || parts.UploadID != c.upload {
		return false, err
	}
	if o.sidecar == "" { // these attributes came with the file
		return true, nil
	}
	// Side-car files are written before the object, which may be the one before.
	return hasETag(filepath.Join(o.data, bucket, key), parts.Parts, c.etag)
}

// hasETag reports whether the file, its parts ending at the offsets ends, is the
// object of that ETag. No file has none.
func hasETag(path string, ends []int64, etag string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	sums, from := md5.New(), int64(0)
	for _, end := range ends {
		part := md5.New()
		if _, err := io.CopyN(part, f, end-from); errors.Is(err, io.EOF) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		sums.Write(part.Sum(nil))
		from = end
	}
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	return info.Size() == from && fmt.Sprintf("%x-%d", sums.Sum(nil), len(ends)) == etag, nil
}

// giveBack renames the claim's folder below parent, when it is there, to the
// upload's. A part that came during the completion made that folder anew; it
// replaces the older one of its number, as it would have before.
func giveBack(parent string, c claim) error {
	from, to := filepath.Join(parent, c.dir), filepath.Join(parent, c.upload)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	late, err := os.ReadDir(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range late {
		old := filepath.Join(from, e.Name())
		if err := errors.Join(os.RemoveAll(old), os.Rename(filepath.Join(to, e.Name()), old)); err != nil {
			return err
		}
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}

// removeDeadAttributes removes the attributes of uploads that are gone. The
// library leaves those of every upload that it completed.
func (o *outbox) removeDeadAttributes(bucket string) error {
	parent := filepath.Join(o.sidecar, bucket, posix.MetaTmpMultipartDir)
	keys, err := dirs(parent)
	for _, key := range keys {
		uploads, readErr := dirs(filepath.Join(parent, key))
		err = errors.Join(err, readErr)
		for _, name := range append(uploads, "") { // "" is the key's folder
			dead := filepath.Join(key, name)
			if name == "meta" { // the key's own attributes
				continue
			}
			_, statErr := os.Stat(filepath.Join(o.data, bucket, posix.MetaTmpMultipartDir, dead))
			if errors.Is(statErr, fs.ErrNotExist) {
				err = errors.Join(err, os.RemoveAll(filepath.Join(parent, dead)))
			}
		}
	}
	return err
}

// removeHalf removes the half files in dir, which need not be there.
func removeHalf(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Type().IsRegular() && halfFile.MatchString(e.Name()) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// dirs names the folders in dir, which need not be there.
func dirs(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, err
}
