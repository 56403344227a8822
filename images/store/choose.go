package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// kept is what there is to know of an image when room is needed.
type kept struct {
	id     string
	layers []string
	used   time.Time
	leased bool
}

// choose names the images to remove so that what stays takes at most budget: the
// least recently used first, and never one that is leased. sizes has every layer
// on disk, and pinned those that stay whatever becomes of images. When all that
// may go is not enough, it names none of them unless partly is set: to remove
// images for something that does not fit anyway helps nobody.
func choose(images []kept, sizes map[string]functions.Bytes, pinned map[string]bool, budget functions.Bytes, partly bool) (remove []string) {
	holders := map[string]int{} // of each layer
	for _, img := range images {
		for _, l := range img.layers {
			holders[l]++
		}
	}
	var total functions.Bytes
	for l, size := range sizes {
		if holders[l] > 0 || pinned[l] {
			total += size
		}
	}
	oldest := slices.SortedStableFunc(slices.Values(images), func(a, b kept) int {
		return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.id, b.id))
	})
	for _, img := range oldest {
		if total <= budget {
			return remove
		}
		if img.leased {
			continue
		}
		remove = append(remove, img.id)
		for _, l := range img.layers {
			if holders[l]--; holders[l] == 0 && !pinned[l] {
				total -= sizes[l]
			}
		}
	}
	if total > budget && !partly {
		return nil
	}
	return remove
}
