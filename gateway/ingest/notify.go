package ingest

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/spillway/spillway/functions"
)

// Notifier sets a bucket's notification rules and keeps those of others.
type Notifier interface {
	SetNotifications(ctx context.Context, bucket string, targets []string, triggers []functions.Trigger) error
}

// SetNotifications has the store report the new objects of every triggered
// bucket to targets. It is called at start and after each deployment. Without
// it, listing finds the objects all the same, later.
func (in *Ingest) SetNotifications(ctx context.Context, store Notifier, targets []string) error {
	buckets := make(map[string][]functions.Trigger)
	for _, f := range in.Functions.List() {
		for _, t := range f.Triggers {
			if t.Bucket != in.Results {
				buckets[t.Bucket] = append(buckets[t.Bucket], t)
			}
		}
	}
	// Awaited uploads are reported as well.
	buckets[in.Uploads] = append(buckets[in.Uploads], functions.Trigger{Bucket: in.Uploads, Prefix: awaitedPrefix})
	var failed error
	for _, bucket := range slices.Sorted(maps.Keys(buckets)) {
		err := store.SetNotifications(ctx, bucket, targets, buckets[bucket])
		if errors.Is(err, functions.ErrNotFound) {
			continue // the bucket does not exist yet
		}
		failed = errors.Join(failed, err)
	}
	return failed
}
