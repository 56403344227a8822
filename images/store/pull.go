package store

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/spillway/spillway/functions"
)

// Pull makes an image present, for this machine's platform. One that is present
// is not pulled again. Callers who want the same one at the same time share one
// pull, and images share their layers. progress, which may be nil, is called as
// bytes come.
//
// ErrInvalid: not the name of an image, or an image that cannot be used.
// ErrNotFound: no such image. ErrForbidden: the registry wants other credentials.
// ErrUnavailable: the registry does not answer. ErrTooLarge: the disk budget does
// not hold it.
func (s *Store) Pull(ctx context.Context, ref string, progress func(Progress)) error {
	n, err := parse(ref)
	if err != nil {
		return err
	}
	if present, err := s.has(n); present || err != nil {
		return err
	}
	if n.id != "" {
		return notHere(ref)
	}
	return s.pulls.Do(ctx, n.full, progress, func(ctx context.Context, report func(Progress)) error {
		if present, err := s.has(n); present || err != nil { // since the look before
			return err
		}
		img, err := s.find(ctx, n)
		if err != nil {
			return err
		}
		if err := s.install(ctx, img, []string{n.full}, report); err != nil {
			return pullError(n, err)
		}
		return nil
	})
}

// has reports whether an image is present, and notes the use if it is.
func (s *Store) has(n imageName) (bool, error) {
	unlock, err := s.lock(shared)
	if err != nil {
		return false, err
	}
	defer unlock()
	id, err := s.resolve(n)
	if err == nil {
		_, err = s.read(id)
	}
	if errors.Is(err, functions.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, s.touch(id)
}

// find asks the registry what an image is.
func (s *Store) find(ctx context.Context, n imageName) (manifest, error) {
	ref := n.ref
	if listed(s.cfg.Insecure, ref.Context().RegistryStr()) {
		var err error
		if ref, err = name.ParseReference(n.full, name.Insecure); err != nil {
			return manifest{}, fmt.Errorf("name an insecure registry: %w", err)
		}
	}
	described, err := remote.Get(ref,
		remote.WithContext(ctx), remote.WithAuthFromKeychain(s.cfg.Auth), remote.WithTransport(s.cfg.Transport),
		remote.WithPlatform(platform()), remote.WithUserAgent("spillway"))
	if err != nil {
		return manifest{}, pullError(n, err)
	}
	if !described.MediaType.IsIndex() && !described.MediaType.IsImage() {
		return manifest{}, functions.Invalid("bad_image", "%s is no image, but %s", n, described.MediaType)
	}
	img, err := described.Image()
	var m manifest
	if err == nil {
		m, err = manifestOf(img)
	}
	if err != nil && described.MediaType.IsIndex() {
		if lacks, other := lacksPlatform(described); lacks {
			return manifest{}, functions.NotFound("image_platform", "image %s is not made for %s", n, platform()).
				WithHint("it is made for %s", strings.Join(other, ", "))
		}
	}
	if err != nil {
		return manifest{}, pullError(n, err)
	}
	return m, nil
}

// platform is what this machine runs.
func platform() v1.Platform { return v1.Platform{OS: "linux", Architecture: goruntime.GOARCH} }

// lacksPlatform reports whether an index has no image for this machine, and what
// it has.
func lacksPlatform(d *remote.Descriptor) (lacks bool, other []string) {
	index, err := d.ImageIndex()
	if err != nil {
		return false, nil
	}
	m, err := index.IndexManifest()
	if err != nil {
		return false, nil
	}
	for _, of := range m.Manifests {
		if of.Platform == nil || of.Platform.Satisfies(platform()) {
			return false, nil
		}
		other = append(other, of.Platform.String())
	}
	return true, other
}
