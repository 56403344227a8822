package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/spillway/spillway/functions"
)

// record is the file of one image.
type record struct {
	ID     string          `json:"id"`     // in hex
	Layers []string        `json:"layers"` // diff ids in hex, the lowest first, each once
	Size   functions.Bytes `json:"size"`
	Config v1.Config       `json:"config"`

	names []string  // full; known from the folder of names
	used  time.Time // the file's own time
}

// named is a file in the folder of names.
type named struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}

func (r record) image() Image {
	c := r.Config
	img := Image{
		ID: "sha256:" + r.ID, Size: r.Size, Entrypoint: c.Entrypoint, Command: c.Cmd, Env: c.Env,
		WorkDir: c.WorkingDir, User: c.User, Labels: c.Labels, Used: r.used,
	}
	for _, n := range r.names {
		img.Names = append(img.Names, familiar(n))
	}
	return img
}

// has reports whether n means this image.
func (r record) has(n imageName) bool {
	return n.id == r.ID || n.id == "" && slices.Contains(r.names, n.full)
}

func (s *Store) imageFile(id string) string { return s.path("images", id+".json") }

// resolve returns the ID of the image that a name means. The caller holds the
// lock, here and below.
func (s *Store) resolve(n imageName) (string, error) {
	if n.id != "" {
		return n.id, nil
	}
	var to named
	err := readJSON(s.nameFile(n.full), &to)
	if errors.Is(err, fs.ErrNotExist) {
		return "", notHere(n.String())
	}
	return to.Image, err
}

// read reads one image, without its names.
func (s *Store) read(id string) (record, error) {
	var r record
	file := s.imageFile(id)
	err := readJSON(file, &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, notHere("sha256:" + id)
	}
	if err != nil {
		return r, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return r, fmt.Errorf("read image: %w", err)
	}
	r.used = info.ModTime()
	return r, nil
}

// list reads all images, the one used last in front.
func (s *Store) list() ([]record, error) {
	files, err := os.ReadDir(s.path("images"))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var all []record
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		r, err := s.read(id)
		if err != nil {
			return nil, err
		}
		r.names = names[id]
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b record) int {
		return cmp.Or(b.used.Compare(a.used), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

// names reads the names of all images, by ID.
func (s *Store) names() (map[string][]string, error) {
	files, err := os.ReadDir(s.path("names"))
	if err != nil {
		return nil, fmt.Errorf("list names of images: %w", err)
	}
	names := map[string][]string{}
	for _, f := range files {
		var to named
		if err := readJSON(s.path("names", f.Name()), &to); err != nil {
			return nil, err
		}
		names[to.Image] = append(names[to.Image], to.Name)
	}
	for _, of := range names {
		slices.Sort(of)
	}
	return names, nil
}

// touch notes that an image is used now.
func (s *Store) touch(id string) error {
	now := s.cfg.Now()
	if err := os.Chtimes(s.imageFile(id), now, now); err != nil {
		return fmt.Errorf("note the use of an image: %w", err)
	}
	return nil
}

// commit makes an image present, whose layers are there and claimed, and gives it
// the names. A name that meant another image means this one from now on.
func (s *Store) commit(r record, names []string) error {
	unlock, err := s.lock(exclusive)
	if err != nil {
		return err
	}
	defer unlock()
	for _, l := range r.Layers {
		size, err := s.layerSize(l)
		if err != nil {
			return err
		}
		r.Size += size
	}
	if err := s.writeJSON(s.imageFile(r.ID), r); err != nil {
		return err
	}
	if err := s.touch(r.ID); err != nil {
		return err
	}
	for _, n := range names {
		if err := s.writeJSON(s.nameFile(n), named{n, r.ID}); err != nil {
			return err
		}
	}
	return nil
}

func readJSON(file string, v any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}

// writeJSON replaces a file whole.
func (s *Store) writeJSON(file string, v any) (err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	t, err := s.tempLocked()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	part := t.dir + "/file"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(part, file)
}

func removeFile(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
