package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
)

// GC deletes what no image needs, and then, while the layers take more than the
// budget, the images that were used least recently. What is leased, or being
// pulled, stays. It returns what was freed.
func (s *Store) GC(context.Context) (freed functions.Bytes, err error) {
	if err := s.sweep(); err != nil {
		return 0, fmt.Errorf("clear the folder of images: %w", err)
	}
	return s.collect(0, true)
}

// collect makes room for need within the budget.
func (s *Store) collect(need functions.Bytes, partly bool) (functions.Bytes, error) {
	trash, err := s.condemn(need, partly)
	if err != nil || trash == nil {
		return 0, err
	}
	return trash.size, trash.empty()
}

func (s *Store) condemn(need functions.Bytes, partly bool) (*trash, error) {
	unlock, err := s.lock(exclusive)
	if err != nil {
		return nil, err
	}
	defer unlock()
	records, err := s.list()
	if err != nil {
		return nil, err
	}
	sizes, err := s.layerSizes()
	if err != nil {
		return nil, err
	}
	pinned := map[string]bool{}
	for l := range sizes {
		free, err := s.unclaimed("layer-" + l)
		if err != nil {
			return nil, err
		}
		pinned[l] = !free
	}
	images := make([]kept, len(records))
	for i, r := range records {
		free, err := s.unclaimed("image-" + r.ID)
		if err != nil {
			return nil, err
		}
		images[i] = kept{id: r.ID, layers: r.Layers, used: r.used, leased: !free}
	}
	var remove []string
	if s.cfg.Budget > 0 {
		remove = choose(images, sizes, pinned, s.cfg.Budget-need, partly)
	}
	for _, r := range records {
		if !slices.Contains(remove, r.ID) {
			continue
		}
		if _, err := s.drop(r); err != nil {
			return nil, err
		}
		s.cfg.Log.Info("image removed to make room", "image", r.ID, "names", r.names, "used", r.used)
	}
	gone := map[string]bool{}
	for l := range sizes {
		gone[l] = !slices.ContainsFunc(records, func(r record) bool {
			return !slices.Contains(remove, r.ID) && slices.Contains(r.Layers, l)
		})
	}
	var dead []string
	for l, is := range gone {
		if is {
			dead = append(dead, l)
		}
	}
	return s.bury(dead)
}

// drop deletes an image's names and file, unless it is leased. The caller holds
// the lock, exclusively.
func (s *Store) drop(r record) (bool, error) {
	free, err := s.unclaimed("image-" + r.ID)
	if err != nil || !free {
		return false, err
	}
	for _, n := range r.names {
		if err := removeFile(s.nameFile(n)); err != nil {
			return false, err
		}
	}
	return true, errors.Join(removeFile(s.imageFile(r.ID)), removeFile(s.path("locks", "image-"+r.ID)))
}

// orphans are the layers that only one image has.
func orphans(all []record, id string) (layers []string) {
	shared := map[string]bool{}
	for _, r := range all {
		for _, l := range r.Layers {
			shared[l] = shared[l] || r.ID != id
		}
	}
	for l, is := range shared {
		if !is {
			layers = append(layers, l)
		}
	}
	return layers
}

// trash is layers that are out of the store, and wait to be deleted.
type trash struct {
	where *temp
	size  functions.Bytes
}

// bury moves layers that no image has out of the store, but for those that a pull
// needs. The caller holds the lock, exclusively, and empties the trash after it.
func (s *Store) bury(layers []string) (*trash, error) {
	if len(layers) == 0 {
		return nil, nil
	}
	where, err := s.tempLocked()
	if err != nil {
		return nil, err
	}
	t := &trash{where: where}
	for _, l := range layers {
		free, err := s.unclaimed("layer-" + l)
		if err == nil && free {
			var size functions.Bytes
			if size, err = s.layerSize(l); err == nil {
				t.size += size
				err = errors.Join(os.Rename(s.path("layers", l), filepath.Join(where.dir, l)), removeFile(s.path("locks", "layer-"+l)))
			}
		}
		if err != nil {
			return nil, errors.Join(err, where.close())
		}
	}
	return t, nil
}

func (t *trash) empty() error {
	if t == nil {
		return nil
	}
	return t.where.close()
}

// layerSize is what a layer takes of the disk, as it was counted when it came.
func (s *Store) layerSize(diffID string) (functions.Bytes, error) {
	text, err := os.ReadFile(s.path("layers", diffID, "size"))
	if err != nil {
		return 0, fmt.Errorf("read the size of a layer: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the size of a layer: %w", err)
	}
	return functions.Bytes(n), nil
}

func (s *Store) layerSizes() (map[string]functions.Bytes, error) {
	entries, err := os.ReadDir(s.path("layers"))
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	sizes := make(map[string]functions.Bytes, len(entries))
	for _, e := range entries {
		if sizes[e.Name()], err = s.layerSize(e.Name()); err != nil {
			return nil, err
		}
	}
	return sizes, nil
}
