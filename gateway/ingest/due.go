package ingest

import (
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// watch is a function with triggers, and what decides which objects are due to
// it. Stores tell times to the second, so bounds are cut to it.
type watch struct {
	fn       functions.Function
	versions []functions.Function // oldest first
	mark     functions.Mark
}

// longUpload is how long an upload in parts may take and still be found: AWS
// dates its object from the beginning.
const longUpload = 24 * time.Hour

// recent reports whether no complete listing has passed the object yet.
func (w watch) recent(o functions.Listed) bool {
	seen := w.mark.Until
	if strings.Contains(o.ETag, "-") { // came in parts
		seen = seen.Add(-longUpload)
	}
	return !before(o, seen) && !before(o, w.mark.From)
}

// wanted is since when the function has wanted the object, by its name: the
// birth of the oldest version of which, and of all after which, some trigger
// matches. So a version that adds a place does not run over what was there, and
// one that changes a trigger forgets nothing that it still wants.
func (w watch) wanted(f find) (since time.Time) {
	for _, v := range slices.Backward(w.versions) {
		if len(match([]functions.Function{v}, f)) == 0 {
			break
		}
		since = v.CreatedAt
	}
	return since
}

// watches reports whether a trigger names the bucket.
func (w watch) watches(bucket string) bool {
	return slices.ContainsFunc(w.fn.Triggers, func(t functions.Trigger) bool { return t.Bucket == bucket })
}

func before(o functions.Listed, bound time.Time) bool {
	return o.Modified.Before(bound.Truncate(time.Second))
}

// place is what one listing covers.
type place struct {
	bucket, prefix string
	since          time.Time // nothing older is due to anyone
}

// places are what must be listed for all watches. Outputs are listed as a whole:
// their keys begin with the ids of tasks.
func (in *Ingest) places(all []watch) []place {
	var places []place
	for _, w := range all {
		since := w.mark.Merge(functions.Mark{From: w.mark.Until.Add(-longUpload)}).From
		if len(w.versions) > 0 {
			since = functions.Mark{From: since}.Merge(functions.Mark{From: w.versions[0].CreatedAt}).From
		}
		for _, t := range w.fn.Triggers {
			p := place{t.Bucket, t.Prefix, since}
			if t.Bucket == in.Results {
				p.prefix = ""
			}
			places = append(places, p)
		}
	}
	return merge(places)
}

// merge joins the places that another covers to that one, so that nothing is
// listed twice.
func merge(all []place) (kept []place) {
	slices.SortStableFunc(all, func(a, b place) int { return len(a.prefix) - len(b.prefix) })
next:
	for _, p := range all {
		for i, k := range kept {
			if k.bucket == p.bucket && strings.HasPrefix(p.prefix, k.prefix) {
				if p.since.Before(k.since) {
					kept[i].since = p.since
				}
				continue next
			}
		}
		kept = append(kept, p)
	}
	return kept
}
