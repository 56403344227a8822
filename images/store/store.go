package store

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/flight"
)

// Config makes a Store.
type Config struct {
	Dir    string          // absolute; made when it is not there; only root can look inside
	Budget functions.Bytes // most disk for unpacked layers; 0 = no limit

	Auth      authn.Keychain    // credentials for registries; nil = none
	Insecure  []string          // registries, as host or host:port, that may be spoken to without TLS; loopback always may
	Transport http.RoundTripper // to registries; nil = Go's own

	Log *slog.Logger     // nil discards
	Now func() time.Time // nil means time.Now
}

// Store is the images of one folder. Its methods may be called from many
// goroutines, and several processes may have the folder open. It starts nothing
// that outlives its calls, and needs no closing.
type Store struct {
	cfg   Config
	pulls flight.Group[Progress]
	fetch flight.Group[functions.Bytes] // of layers, by their digest; reports compressed bytes

	mu      sync.Mutex // guards the field below
	pending functions.Bytes
}

// Progress is how far a pull has come.
type Progress struct {
	Done, Total functions.Bytes // compressed
	Layers      int             // that are complete
	Of          int
}

// Image describes an image that is present.
type Image struct {
	Names      []string
	ID         string // digest of its configuration
	Size       functions.Bytes
	Entrypoint []string
	Command    []string
	Env        []string // K=V
	WorkDir    string
	User       string
	Labels     map[string]string
	Used       time.Time // when it was last pulled, loaded or leased
}

// Open makes the folder ready, and clears away what a process that died has left.
func Open(c Config) (*Store, error) {
	if !filepath.IsAbs(c.Dir) {
		return nil, functions.Invalid("bad_image_dir", "the folder of images %q is not an absolute path", c.Dir)
	}
	if c.Auth == nil {
		c.Auth = authn.NewMultiKeychain()
	}
	c.Transport = guard{next: cmp.Or[http.RoundTripper](c.Transport, http.DefaultTransport), plain: c.Insecure}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler)).With("component", "images")
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Store{cfg: c}
	for _, dir := range []string{"", "names", "images", "layers", "locks", "tmp"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return nil, fmt.Errorf("make the folder of images: %w", err)
		}
	}
	if err := s.sweep(); err != nil {
		return nil, fmt.Errorf("clear the folder of images: %w", err)
	}
	return s, nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir}, parts...)...)
}

// Image describes an image that is present.
func (s *Store) Image(_ context.Context, ref string) (Image, error) {
	n, err := parse(ref)
	if err != nil {
		return Image{}, err
	}
	unlock, err := s.lock(shared)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	id, err := s.resolve(n)
	if err != nil {
		return Image{}, err
	}
	r, err := s.read(id)
	if err != nil {
		return Image{}, err
	}
	names, err := s.names()
	if err != nil {
		return Image{}, err
	}
	r.names = names[id]
	return r.image(), nil
}

// Images describes every image that is present, the one used last in front.
func (s *Store) Images(context.Context) ([]Image, error) {
	unlock, err := s.lock(shared)
	if err != nil {
		return nil, err
	}
	defer unlock()
	records, err := s.list()
	if err != nil {
		return nil, err
	}
	all := make([]Image, len(records))
	for i, r := range records {
		all[i] = r.image()
	}
	return all, nil
}

// RemoveImage takes a name from an image, and deletes the image with its last
// name. The last name of one that is leased stays, and is ErrConflict. Removing
// what is gone succeeds.
func (s *Store) RemoveImage(_ context.Context, ref string) error {
	n, err := parse(ref)
	if err != nil {
		return err
	}
	trash, err := s.remove(n)
	if err != nil {
		return err
	}
	return trash.empty()
}

func (s *Store) remove(n imageName) (*trash, error) {
	unlock, err := s.lock(exclusive)
	if err != nil {
		return nil, err
	}
	defer unlock()
	all, err := s.list()
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if !r.has(n) {
			continue
		}
		if len(r.names) > 1 && n.id == "" {
			return nil, removeFile(s.nameFile(n.full))
		}
		gone, err := s.drop(r)
		if err != nil {
			return nil, err
		}
		if !gone {
			return nil, functions.Conflict("image_in_use", "image %s is in use", n.String()).
				WithHint("remove the containers that use it first")
		}
		return s.bury(orphans(all, r.ID))
	}
	return nil, nil
}

// Layers leases the unpacked layers of an image, the lowest first: until release,
// no one removes them. Each folder is there once, and is never changed.
func (s *Store) Layers(_ context.Context, ref string) (dirs []string, release func(), err error) {
	n, err := parse(ref)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := s.lock(shared)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	id, err := s.resolve(n)
	if err != nil {
		return nil, nil, err
	}
	r, err := s.read(id)
	if err != nil {
		return nil, nil, err
	}
	release, err = s.claim("image-" + id)
	if err != nil {
		return nil, nil, err
	}
	if err := s.touch(id); err != nil {
		release()
		return nil, nil, err
	}
	for _, l := range r.Layers {
		dirs = append(dirs, s.path("layers", l, "fs"))
	}
	return dirs, release, nil
}
