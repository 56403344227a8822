package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/functions"
)

// Put stores what r gives under key and returns what was stored, its SHA-256
// taken while the bytes passed. size is in bytes; -1 means until r ends, up to
// 156 GiB. An object of that key is replaced, at once and as a whole: readers see
// the old one or the new one. r's own error is returned as it is, and nothing is
// stored then.
//
// However large the content is, little of it is in memory: of a stream one part
// of 16 MiB, or more beyond 156 GiB; of a file just copy buffers, because parts
// are read from where they are. A file is anything that can read and seek at
// will; what it holds must not change meanwhile.
func (s *Store) Put(ctx context.Context, bucket, key string, r io.Reader, size int64, contentType string) (functions.ObjectRef, error) {
	ref := functions.ObjectRef{Bucket: bucket, Key: key, ContentType: contentType}
	if err := checkWrite(bucket, key); err != nil {
		return ref, err
	}
	if ref.ContentType == "" {
		ref.ContentType = "application/octet-stream"
	}
	if f, ok := fileAt(r, size); ok && size >= bigObject {
		return s.putFile(ctx, ref, f, size)
	}
	src := &source{r: r, sum: sha256.New()}
	body, size, err := small(src, size)
	if err != nil {
		return ref, fmt.Errorf("read the content of %s/%s: %w", bucket, key, err)
	}
	info, err := s.core.Client.PutObject(ctx, bucket, key, body, size, minio.PutObjectOptions{
		ContentType: ref.ContentType,
		PartSize:    uint64(partFor(size)),
	})
	if src.err != nil { // the library reports it as a broken connection
		return ref, fmt.Errorf("read the content of %s/%s: %w", bucket, key, src.err)
	}
	if err != nil {
		if src.ended && src.n < size {
			return ref, short(src.n, size)
		}
		return ref, translate(ctx, err, "put object", bucket, key)
	}
	ref.ETag, ref.VersionID, ref.Size = info.ETag, info.VersionID, src.n
	ref.SHA256 = hex.EncodeToString(src.sum.Sum(nil))
	return ref, nil
}

// partFor is the size of the parts of an object of size bytes, of which there
// are at most maxParts. An unknown size is negative.
func partFor(size int64) int64 {
	return max(pieceSize, (size+maxParts-1)/maxParts)
}

// small takes content of at most smallPut bytes into memory, where its size is
// known and it can be sent twice. It returns the rest as it is.
func small(src *source, size int64) (io.Reader, int64, error) {
	limit := int64(smallPut)
	if size >= 0 {
		limit = min(limit, size)
	}
	var head bytes.Buffer
	if _, err := io.CopyN(&head, src, limit); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	n := int64(head.Len())
	switch {
	case size < 0 && n < limit, size == n:
		return bytes.NewReader(head.Bytes()), n, nil
	case size >= 0 && n < limit:
		return nil, 0, short(n, size)
	case size < 0:
		return io.MultiReader(&head, src), -1, nil
	}
	return io.MultiReader(&head, io.LimitReader(src, size-n)), size, nil
}

func short(n, size int64) error {
	return functions.Invalid("short_body", "the content ended after %d of %d bytes", n, size)
}

// source hashes and counts what is read, and keeps the reader's error apart
// from the connection's.
type source struct {
	r     io.Reader
	sum   hash.Hash
	n     int64
	ended bool // r gave io.EOF
	err   error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		s.ended = true
	case err != nil:
		s.err = err
	}
	return n, err
}
