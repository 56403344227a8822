package store

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
)

// takes is what the images and the pinned layers take together.
func takes(images []kept, sizes map[string]functions.Bytes, pinned map[string]bool) (total functions.Bytes) {
	for l, size := range sizes {
		if pinned[l] || slices.ContainsFunc(images, func(k kept) bool { return slices.Contains(k.layers, l) }) {
			total += size
		}
	}
	return total
}

func TestChoose(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layers := []string{"a", "b", "c", "d", "e", "f"}
		sizes, pinned := map[string]functions.Bytes{}, map[string]bool{}
		for _, l := range layers {
			sizes[l] = functions.Bytes(rapid.IntRange(0, 100).Draw(t, "size"))
			pinned[l] = rapid.IntRange(0, 5).Draw(t, "pinned") == 0
		}
		var images []kept
		for i := range rapid.IntRange(0, 8).Draw(t, "images") {
			images = append(images, kept{
				id: string(rune('A' + i)), layers: rapid.SliceOfNDistinct(rapid.SampledFrom(layers), 0, 4, rapid.ID).Draw(t, "layers"),
				used: time.Unix(rapid.Int64Range(0, 5).Draw(t, "used"), 0), leased: rapid.Bool().Draw(t, "leased"),
			})
		}
		budget := functions.Bytes(rapid.IntRange(-50, 500).Draw(t, "budget"))
		partly := rapid.Bool().Draw(t, "partly")
		remove := choose(images, sizes, pinned, budget, partly)

		gone := func(k kept) bool { return slices.Contains(remove, k.id) }
		stay := slices.DeleteFunc(slices.Clone(images), gone)
		for _, k := range images {
			if k.leased && gone(k) {
				t.Fatalf("%s is leased and goes", k.id)
			}
			for _, other := range stay {
				if gone(k) && !other.leased && other.used.Before(k.used) {
					t.Fatalf("%s goes and %s, which was used before it, stays", k.id, other.id)
				}
			}
		}
		after := takes(stay, sizes, pinned)
		leased := slices.DeleteFunc(slices.Clone(images), func(k kept) bool { return !k.leased })
		possible := takes(leased, sizes, pinned) <= budget
		switch {
		case possible && after > budget:
			t.Fatalf("%d stay, over the budget of %d", after, budget)
		case !possible && !partly && len(remove) > 0:
			t.Fatalf("%v go although it is not enough", remove)
		case !possible && partly && len(stay) != len(leased):
			t.Fatalf("%d of %d stay, and there is still too much", len(stay), len(images))
		}
		if n := len(remove); n > 0 { // without the last one it would be too much
			fewer := slices.DeleteFunc(slices.Clone(images), func(k kept) bool { return slices.Contains(remove[:n-1], k.id) })
			if takes(fewer, sizes, pinned) <= budget {
				t.Fatalf("%s goes without need", remove[n-1])
			}
		}
	})
}
