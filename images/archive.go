package images

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/spillway/spillway/functions"
)

// WriteArchive writes one image as the archive that `docker load` reads.
func WriteArchive(w io.Writer, ref string, img v1.Image) error {
	return WriteArchives(w, map[string]v1.Image{ref: img})
}

// WriteArchives writes several images, by reference, as one archive. A layer
// that they share is written once.
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

// OpenArchive reads the image named ref from an archive that `docker save` or
// WriteArchive wrote. An empty ref means the only image of the archive.
func OpenArchive(file, ref string) (v1.Image, error) {
	var want *name.Tag
	if ref != "" {
		tag, err := parseTag(ref)
		if err != nil {
			return nil, err
		}
		want = &tag
	}
	img, err := tarball.ImageFromPath(file, want)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, functions.NotFound("no_archive", "there is no archive %s", file).WithCause(err)
	case err != nil:
		return nil, functions.Invalid("bad_archive", "%s does not hold that image", file).WithCause(err)
	}
	return img, nil
}

// Digest is the digest of the image's manifest: equal digests, equal images.
func Digest(img v1.Image) (string, error) {
	h, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("compute the image's digest: %w", err)
	}
	return h.String(), nil
}
