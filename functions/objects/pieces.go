package objects

import (
	"context"
	"hash"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Large content moves in pieces through buffers of 1 MiB. At least bigObject is
// moved as pieces of pieceSize by several movers, which gains where one TCP
// stream stays below the line rate (20 to 25 % even on loopback) and loses on
// smaller content.
const (
	copyBuffer = 1 << 20
	bigObject  = 32 << 20
	pieceSize  = 16 << 20
	movers     = 4
)

// inPieces calls move for the pieces of size bytes, each of them piece bytes but
// the last, several at a time; and follow for each once it has moved, in order,
// while its bytes are still in the page cache. The first error ends everything.
func inPieces(ctx context.Context, size, piece int64, move func(ctx context.Context, off, length int64) error, follow func(off, length int64) error) error {
	count := (size + piece - 1) / piece
	done := make([]chan struct{}, count) // each closed when its piece has moved
	for i := range done {
		done[i] = make(chan struct{})
	}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(movers, count) {
		g.Go(func() error {
			for i := next.Add(1) - 1; i < count; i = next.Add(1) - 1 {
				if err := move(ctx, i*piece, min(piece, size-i*piece)); err != nil {
					return err
				}
				close(done[i])
			}
			return nil
		})
	}
	g.Go(func() error {
		for i := range done {
			select {
			case <-done[i]:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			off := int64(i) * piece
			if err := follow(off, min(piece, size-off)); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// hashInOrder returns a follow that hashes what is in r.
func hashInOrder(sum hash.Hash, r io.ReaderAt) func(off, length int64) error {
	buf := make([]byte, copyBuffer)
	return func(off, length int64) error {
		_, err := io.CopyBuffer(onlyWriter{sum}, io.NewSectionReader(r, off, length), buf)
		return err
	}
}

// onlyWriter hides every other method, so that CopyBuffer uses its buffer.
type onlyWriter struct{ io.Writer }
