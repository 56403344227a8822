package images

import (
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/spillway/spillway/functions"
)

// parseTag reads a reference that names an image by tag, such as
// spillway/echo:latest. Without a tag it means latest.
func parseTag(ref string) (name.Tag, error) {
	tag, err := name.NewTag(ref, name.WeakValidation)
	if err != nil {
		return name.Tag{}, functions.Invalid("bad_image_ref", "%q does not name an image", short(ref)).
			WithHint("write repository:tag in lower case, such as spillway/echo:latest").WithField("image").WithCause(err)
	}
	return tag, nil
}

// short keeps hostile input from flooding an error message.
func short(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
