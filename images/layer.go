package images

import (
	"crypto/sha256"
	"encoding/hex"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Our layers are not compressed: they go to an engine on the same machine, and
// compressing is most of the time that it would take to make them.
const uncompressed = types.DockerUncompressedLayer

// layer is a tar stream that can be opened again and again.
type layer struct {
	open func() (io.ReadCloser, error)
	hash v1.Hash
	size int64
}

// newLayer reads the stream once for its digest and size.
func newLayer(open func() (io.ReadCloser, error)) (*layer, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return nil, err
	}
	return &layer{open: open, size: n, hash: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}}, nil
}

func (l *layer) Digest() (v1.Hash, error)             { return l.hash, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.hash, nil }
func (l *layer) Compressed() (io.ReadCloser, error)   { return l.open() }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.open() }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return uncompressed, nil }

// pipe lets a writer be read. The goroutine ends when write does, and write
// ends with an error as soon as the reader is closed.
func pipe(write func(io.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	go func() { w.CloseWithError(write(w)) }()
	return r
}
