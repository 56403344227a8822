package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/spillway/spillway/functions"
)

// manifest is an image that is not present yet.
type manifest struct {
	id     string // in hex
	raw    []byte // the configuration as it is
	config *v1.ConfigFile
	layers []*fetching // the lowest first
}

// fetching is a layer on its way.
type fetching struct {
	diffID v1.Hash                       // of the tar stream
	size   functions.Bytes               // as it comes
	open   func() (io.ReadCloser, error) // compressed or not
}

// newManifest makes an image of its configuration and of layers that do not know
// their diff ids yet.
func newManifest(config []byte, layers []*fetching) (manifest, error) {
	m := manifest{raw: config, layers: layers, config: &v1.ConfigFile{}}
	bad := func(format string, args ...any) (manifest, error) {
		return manifest{}, functions.Invalid("bad_image", "the image cannot be used: "+format, args...)
	}
	if err := json.Unmarshal(config, m.config); err != nil {
		return bad("its configuration is not one: %v", err)
	}
	diffs := m.config.RootFS.DiffIDs
	if len(diffs) != len(layers) {
		return bad("it has %d layers, and its configuration names %d", len(layers), len(diffs))
	}
	for i, d := range diffs {
		if d.Algorithm != "sha256" || !isDigest(d.Hex) { // it becomes the name of a folder
			return bad("a layer has the digest %q", short(d.String()))
		}
		layers[i].diffID = d
	}
	if p := platform(); m.config.OS != p.OS || m.config.Architecture != p.Architecture {
		return manifest{}, functions.NotFound("image_platform", "the image is made for %s/%s, and this machine is %s", m.config.OS, m.config.Architecture, p)
	}
	id, _, err := v1.SHA256(bytes.NewReader(config))
	m.id = id.Hex
	return m, err
}

// manifestOf reads what an image of a registry is.
func manifestOf(img v1.Image) (manifest, error) {
	config, err := img.RawConfigFile()
	if err != nil {
		return manifest{}, fmt.Errorf("read the image's configuration: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return manifest{}, fmt.Errorf("read the image's layers: %w", err)
	}
	all := make([]*fetching, len(layers))
	for i, l := range layers {
		size, err := l.Size()
		if err != nil {
			return manifest{}, fmt.Errorf("read the size of a layer: %w", err)
		}
		all[i] = &fetching{size: functions.Bytes(size), open: l.Compressed}
	}
	return newManifest(config, all)
}

// uncompressed opens the layer's tar stream; count hears of the bytes as they
// come, before they are uncompressed.
func (l *fetching) uncompressed(count func(int)) (io.ReadCloser, error) {
	layer, err := partial.CompressedToLayer(counted{fetching: l, count: count})
	if err != nil {
		return nil, err
	}
	return layer.Uncompressed()
}

// counted is a layer whose only use is to be uncompressed.
type counted struct {
	partial.CompressedLayer // nil: nobody asks for more than Compressed
	*fetching
	count func(int)
}

func (c counted) Compressed() (io.ReadCloser, error) {
	rc, err := c.open()
	if err != nil {
		return nil, err
	}
	return countingReader{rc, c.count}, nil
}

type countingReader struct {
	io.ReadCloser
	count func(int)
}

func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if n > 0 {
		c.count(n)
	}
	return n, err
}
