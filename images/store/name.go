package store

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/spillway/spillway/functions"
)

// imageName is how a caller names an image: by a reference, or by its ID.
type imageName struct {
	ref  name.Reference
	full string // the reference with everything that it leaves out
	id   string // in hex; empty = by reference
}

// parse reads a reference such as busybox, registry:5000/a/b:tag or a/b@sha256:…,
// or the ID of an image.
func parse(ref string) (imageName, error) {
	if id, ok := strings.CutPrefix(ref, "sha256:"); ok && isDigest(id) {
		return imageName{id: id}, nil
	}
	r, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return imageName{}, functions.Invalid("bad_image", "%q is not the name of an image", short(ref)).
			WithHint("write registry/repository:tag in lower case; registry and tag may be left out").WithField("image").WithCause(err)
	}
	return imageName{ref: r, full: r.Name()}, nil
}

// String is the name as people write it.
func (n imageName) String() string {
	if n.id != "" {
		return "sha256:" + n.id
	}
	return familiar(n.full)
}

// isTag reports whether the name is a tag, which may move.
func (n imageName) isTag() bool {
	_, ok := n.ref.(name.Tag)
	return ok
}

// familiar leaves out what Docker leaves out.
func familiar(full string) string {
	const hub = name.DefaultRegistry + "/"
	return strings.TrimPrefix(strings.TrimPrefix(full, hub), "library/")
}

func isDigest(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 2*sha256.Size
}

// nameFile is where it is written which image a name means: a name may be longer
// than a file's.
func (s *Store) nameFile(full string) string {
	sum := sha256.Sum256([]byte(full))
	return s.path("names", hex.EncodeToString(sum[:]))
}

func notHere(ref string) error {
	return functions.NotFound("image_missing", "image %s is not on the node", short(ref)).
		WithHint("check the image's name, and that the node can pull it or has it loaded")
}
