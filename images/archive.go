package images

import (
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// WriteArchives writes images, by reference, as one archive that `docker load`
// reads. A layer that they share is written once.
func WriteArchives(w io.Writer, byRef map[string]v1.Image) error {
	tagged := make(map[name.Tag]v1.Image, len(byRef))
	for ref, img := range byRef {
		tag, err := parseTag(ref)
		if err != nil {
			return err
		}
		tagged[tag] = img
	}
	if err := tarball.MultiWrite(tagged, w); err != nil {
		return fmt.Errorf("write the image archive: %w", err)
	}
	return nil
}

// Digest is the digest of the image's manifest: equal digests, equal images.
func Digest(img v1.Image) (string, error) {
	h, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("compute the image's digest: %w", err)
	}
	return h.String(), nil
}
