package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/functions"
)

// abortTime bounds how long a failed upload looks after what it leaves behind.
// What it cannot abort the store removes when it has grown old.
const abortTime = 10 * time.Second

// putFile uploads f in parts, several at a time, while one hasher follows.
func (s *Store) putFile(ctx context.Context, ref functions.ObjectRef, f *file, size int64) (_ functions.ObjectRef, err error) {
	id, err := s.NewMultipart(ctx, ref, false)
	if err != nil {
		return ref, err
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
			defer cancel()
			_ = s.AbortMultipart(ctx, ref, id)
		}
	}()
	piece := partFor(size)
	parts := make([]minio.CompletePart, (size+piece-1)/piece)
	sum := sha256.New()
	moving, stop := context.WithCancel(ctx)
	defer stop()
	f.stop = stop // the library would send a part again, which cannot help
	err = inPieces(moving, size, piece, func(ctx context.Context, off, length int64) error {
		n := int(off/piece) + 1
		body := io.NewSectionReader(f, off, length)
		p, err := s.core.PutObjectPart(ctx, ref.Bucket, ref.Key, id, n, body, length, minio.PutObjectPartOptions{})
		parts[n-1] = minio.CompletePart{PartNumber: n, ETag: p.ETag}
		return err
	}, hashInOrder(sum, f))
	if err := f.failure(); err != nil { // the library reports it as a broken connection
		return ref, fmt.Errorf("read the content of %s/%s: %w", ref.Bucket, ref.Key, err)
	}
	if err != nil {
		return ref, translate(ctx, err, "put a part of", ref.Bucket, ref.Key)
	}
	info, err := s.core.CompleteMultipartUpload(ctx, ref.Bucket, ref.Key, id, parts, minio.PutObjectOptions{})
	if err != nil {
		return ref, translate(ctx, err, "put object", ref.Bucket, ref.Key)
	}
	ref.ETag, ref.VersionID, ref.Size = info.ETag, info.VersionID, size
	ref.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return ref, nil
}

// file reads content from where it is, from many goroutines, and keeps its
// reader's error apart from the connection's.
type file struct {
	r     io.ReaderAt
	start int64 // where in r the content begins
	size  int64
	stop  func() // called when r fails

	mu  sync.Mutex // guards err
	err error      // the first one
}

// fileAt is r as a file of size bytes from where it stands; ok is false for what
// can only be read through, such as a pipe.
func fileAt(r io.Reader, size int64) (f *file, ok bool) {
	at, ok := r.(io.ReaderAt)
	if !ok {
		return nil, false
	}
	seeker, ok := r.(io.Seeker)
	if !ok {
		return nil, false
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	return &file{r: at, start: start, size: size}, err == nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.r.ReadAt(p, f.start+off)
	if err == nil || n == len(p) {
		return n, err
	}
	kept := err
	if errors.Is(err, io.EOF) { // nobody reads behind size
		kept = short(off+int64(n), f.size)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = kept
		f.stop()
	}
	return n, err
}

func (f *file) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
