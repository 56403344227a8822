package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/spillway/spillway/functions"
)

// Stage writes the object that ref names into f, which must be empty, and
// returns its SHA-256 in hex, taken while it was written. ErrNotFound means that
// the object is gone; ErrConflict that it is another one now: its ETag, size or
// SHA-256 is not ref's. On any error f holds nothing useful.
func (s *Store) Stage(ctx context.Context, ref functions.ObjectRef, f *os.File) (string, error) {
	if ref.ETag == "" { // then ranges could come from two different contents
		now, err := s.Stat(ctx, ref.Bucket, ref.Key, ref.VersionID)
		if err != nil {
			return "", err
		}
		ref.ETag, ref.Size = now.ETag, now.Size
	}
	stage := s.stageWhole
	if ref.Size >= bigObject {
		stage = s.stageRanges
	}
	sum := sha256.New()
	if err := stage(ctx, ref, f, sum); err != nil {
		return "", err
	}
	got := hex.EncodeToString(sum.Sum(nil))
	if ref.SHA256 != "" && got != ref.SHA256 {
		return "", changed(ref, "SHA-256 "+got+" instead of "+ref.SHA256)
	}
	return got, nil
}

func (s *Store) stageWhole(ctx context.Context, ref functions.ObjectRef, f *os.File, sum hash.Hash) error {
	body, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	defer body.Close()
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(f, sum)}, body, make([]byte, min(copyBuffer, max(ref.Size, 512))))
	if err != nil {
		return fmt.Errorf("stage %s/%s: %w", ref.Bucket, ref.Key, err)
	}
	if n != ref.Size {
		return changed(ref, fmt.Sprintf("%d bytes instead of %d", n, ref.Size))
	}
	return nil
}

func (s *Store) stageRanges(ctx context.Context, ref functions.ObjectRef, f *os.File, sum hash.Hash) error {
	if err := f.Truncate(ref.Size); err != nil {
		return fmt.Errorf("make room for %s/%s: %w", ref.Bucket, ref.Key, err)
	}
	return inPieces(ctx, ref.Size, pieceSize, func(ctx context.Context, off, length int64) error {
		return s.stageRange(ctx, ref, f, off, length)
	}, hashInOrder(sum, f))
}

func (s *Store) stageRange(ctx context.Context, ref functions.ObjectRef, f *os.File, off, length int64) error {
	body, err := s.GetRange(ctx, ref, off, length)
	if err != nil {
		return err
	}
	defer body.Close()
	n, err := io.CopyBuffer(onlyWriter{io.NewOffsetWriter(f, off)}, body, make([]byte, copyBuffer))
	if err != nil {
		return fmt.Errorf("stage %s/%s: %w", ref.Bucket, ref.Key, err)
	}
	if n != length {
		return changed(ref, fmt.Sprintf("%d bytes from %d instead of %d", n, off, length))
	}
	return nil
}

func changed(ref functions.ObjectRef, why string) error {
	return functions.Conflict("object_changed", "%s/%s is not the object that was accepted: %s", ref.Bucket, ref.Key, why)
}
