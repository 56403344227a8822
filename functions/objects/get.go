package objects

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/functions"
)

// Get opens the object that ref names; the caller closes it. When ref has an
// ETag, any other content of that key is ErrConflict.
func (s *Store) Get(ctx context.Context, ref functions.ObjectRef) (io.ReadCloser, error) {
	return s.open(ctx, ref, minio.GetObjectOptions{})
}

// GetRange opens length bytes of the object from off; a negative length means
// to its end. A range that begins behind the end is ErrInvalid.
func (s *Store) GetRange(ctx context.Context, ref functions.ObjectRef, off, length int64) (io.ReadCloser, error) {
	var opts minio.GetObjectOptions
	var err error
	switch {
	case off < 0 || length == 0:
		err = errors.New("range is empty")
	case length > 0:
		err = opts.SetRange(off, off+length-1)
	case off > 0:
		err = opts.SetRange(off, 0)
	}
	if err != nil {
		return nil, functions.Invalid("bad_range", "bytes %d, %d long, are not a range", off, length).WithCause(err)
	}
	return s.open(ctx, ref, opts)
}

func (s *Store) open(ctx context.Context, ref functions.ObjectRef, opts minio.GetObjectOptions) (io.ReadCloser, error) {
	if err := checkRead(ref.Bucket, ref.Key); err != nil {
		return nil, err
	}
	opts.VersionID = ref.VersionID
	if ref.ETag != "" {
		if err := opts.SetMatchETag(ref.ETag); err != nil {
			return nil, translate(ctx, err, "get object", ref.Bucket, ref.Key)
		}
	}
	body, _, _, err := s.core.GetObject(ctx, ref.Bucket, ref.Key, opts)
	if err != nil {
		return nil, translate(ctx, err, "get object", ref.Bucket, ref.Key)
	}
	return &reader{body, func(err error) error { return translate(ctx, err, "read object", ref.Bucket, ref.Key) }}, nil
}

// reader gives the errors of a broken stream their class.
type reader struct {
	io.ReadCloser
	class func(error) error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.class(err)
	}
	return n, err
}

// Stat returns what the store knows of an object; version may be empty for the
// newest. SHA256 is filled when the store verified one on upload.
func (s *Store) Stat(ctx context.Context, bucket, key, version string) (functions.ObjectRef, error) {
	if err := checkRead(bucket, key); err != nil {
		return functions.ObjectRef{}, err
	}
	info, err := s.core.StatObject(ctx, bucket, key, minio.StatObjectOptions{VersionID: version, Checksum: true})
	if err != nil {
		return functions.ObjectRef{}, translate(ctx, err, "stat object", bucket, key)
	}
	return refOf(bucket, info), nil
}

// wholeGet is up to which size an object is read whole for its first bytes: that
// takes one request instead of two.
const wholeGet = 64 << 10

// Head returns what Stat does, and the first bytes of the object, at most so many;
// they are never nil. An object that is expected to be small takes one request;
// functions.UnknownSize expects nothing. Content that was replaced while it was
// looked at is ErrConflict, or ErrNotFound.
func (s *Store) Head(ctx context.Context, bucket, key, version string, expect, most int64) (functions.ObjectRef, []byte, error) {
	if most > 0 && expect >= 0 && expect <= wholeGet {
		return s.headWhole(ctx, bucket, key, version, most)
	}
	ref, err := s.Stat(ctx, bucket, key, version)
	if err != nil || ref.Size == 0 || most <= 0 {
		return ref, []byte{}, err
	}
	body, err := s.GetRange(ctx, ref, 0, most)
	if err != nil {
		return ref, nil, err
	}
	defer body.Close()
	head, err := io.ReadAll(io.LimitReader(body, most))
	return ref, head, err
}

func (s *Store) headWhole(ctx context.Context, bucket, key, version string, most int64) (functions.ObjectRef, []byte, error) {
	if err := checkRead(bucket, key); err != nil {
		return functions.ObjectRef{}, nil, err
	}
	body, info, _, err := s.core.GetObject(ctx, bucket, key, minio.GetObjectOptions{VersionID: version, Checksum: true})
	if err != nil {
		return functions.ObjectRef{}, nil, translate(ctx, err, "get object", bucket, key)
	}
	defer body.Close()
	head, err := io.ReadAll(io.LimitReader(body, most))
	if err == nil && info.Size <= wholeGet { // the rest, so that the connection can be used again
		_, err = io.Copy(io.Discard, body)
	}
	return refOf(bucket, info), head, translate(ctx, err, "read object", bucket, key)
}

// List gives every object whose key begins with prefix, in key order, starting
// behind startAfter. It ends after the first error. Content types are not
// listed.
func (s *Store) List(ctx context.Context, bucket, prefix, startAfter string) iter.Seq2[functions.ObjectRef, error] {
	return func(yield func(functions.ObjectRef, error) bool) {
		for info, err := range s.infos(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, StartAfter: startAfter, Recursive: true}) {
			if !yield(refOf(bucket, info), err) {
				return
			}
		}
	}
}

// ListSince gives every object that was stored at since or later, the store's
// clock to the second, with all its versions where the bucket keeps them. Delete
// markers are left out. An object from before the bucket had versions has the
// version "null".
func (s *Store) ListSince(ctx context.Context, bucket, prefix string, since time.Time) iter.Seq2[functions.Listed, error] {
	return func(yield func(functions.Listed, error) bool) {
		versions, err := s.Versioned(ctx, bucket)
		if err != nil {
			yield(functions.Listed{}, err)
			return
		}
		opts := minio.ListObjectsOptions{Prefix: prefix, Recursive: true, WithVersions: versions}
		for info, err := range s.infos(ctx, bucket, opts) {
			if err == nil && info.LastModified.Before(since.Truncate(time.Second)) {
				continue
			}
			if !yield(functions.Listed{ObjectRef: refOf(bucket, info), Modified: info.LastModified}, err) {
				return
			}
		}
	}
}

// infos leaves delete markers out and ends after the first error.
func (s *Store) infos(ctx context.Context, bucket string, opts minio.ListObjectsOptions) iter.Seq2[minio.ObjectInfo, error] {
	return func(yield func(minio.ObjectInfo, error) bool) {
		if err := functions.BucketName(bucket); err != nil {
			yield(minio.ObjectInfo{}, err)
			return
		}
		for info := range s.core.ListObjectsIter(ctx, bucket, opts) {
			if info.Err != nil {
				yield(minio.ObjectInfo{}, translate(ctx, info.Err, "list objects of", bucket, ""))
				return
			}
			if !info.IsDeleteMarker && !yield(info, nil) {
				return
			}
		}
	}
}

// Delete removes an object, or the version that ref names. Deleting what is
// gone succeeds.
func (s *Store) Delete(ctx context.Context, ref functions.ObjectRef) error {
	if err := checkRead(ref.Bucket, ref.Key); err != nil {
		return err
	}
	err := s.core.RemoveObject(ctx, ref.Bucket, ref.Key, minio.RemoveObjectOptions{VersionID: ref.VersionID})
	err = translate(ctx, err, "delete object", ref.Bucket, ref.Key)
	if errors.Is(err, functions.ErrNotFound) {
		return nil
	}
	return err
}

func refOf(bucket string, info minio.ObjectInfo) functions.ObjectRef {
	return functions.ObjectRef{
		Bucket: bucket, Key: info.Key, VersionID: info.VersionID, ETag: info.ETag, Size: info.Size,
		ContentType: info.ContentType, SHA256: fullSHA256(info),
	}
}

// fullSHA256 is the store's SHA-256 of the whole object in hex. One of a
// multipart upload is a hash of hashes, and no use here.
func fullSHA256(info minio.ObjectInfo) string {
	raw, err := base64.StdEncoding.DecodeString(info.ChecksumSHA256)
	if err != nil || len(raw) != 32 || info.ChecksumMode == "COMPOSITE" {
		return ""
	}
	return hex.EncodeToString(raw)
}
