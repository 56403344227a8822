package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/images/debian"
)

// lowerLayers makes the layers of Debian packages, and keeps them in a folder.
type lowerLayers struct {
	cache  string
	source func() (*debian.Source, error) // asks apt on its first call; never called when all layers are kept
}

// open returns an opener of the layer, made now unless it is kept, and nil when
// there is none.
func (l lowerLayers) open(ctx context.Context, layer *debian.Config) (func() (io.ReadCloser, error), error) {
	if layer == nil {
		return nil, nil
	}
	key, err := layerKey(layer)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(l.cache, "debian-"+key[:16]+".tar")
	open := func() (io.ReadCloser, error) { return os.Open(file) }
	if _, err := os.Stat(file); err == nil {
		return open, nil
	}
	source, err := l.source()
	if err != nil {
		return nil, fmt.Errorf("ask apt for Debian packages: %w", err)
	}
	err = writeFile(file, func(w io.Writer) error { return source.WriteLayer(ctx, *layer, w) })
	if err != nil {
		return nil, fmt.Errorf("make the layer of Debian packages: %w", err)
	}
	return open, nil
}

// inputsOf is the digest of all that goes into an image.
func inputsOf(program string, gr group) (string, error) {
	f, err := os.Open(program)
	if err != nil {
		return "", functions.NotFound("no_program", "there is no program %s", program).
			WithHint("build the programs of functions/catalog first, with CGO_ENABLED=0").WithCause(err)
	}
	defer f.Close()
	key, err := layerKey(gr.layer)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, recipe, key, gr.env)
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", program, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func layerKey(layer *debian.Config) (string, error) {
	if layer == nil {
		return "scratch", nil
	}
	body, err := json.Marshal(layer)
	if err != nil {
		return "", fmt.Errorf("encode the layer's inputs: %w", err)
	}
	sum := sha256.Sum256(append(body, recipe...))
	return hex.EncodeToString(sum[:]), nil
}
