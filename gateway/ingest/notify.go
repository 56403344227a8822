package ingest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// Notifier sets a bucket's notification rules and keeps those of others.
type Notifier interface {
	SetNotifications(ctx context.Context, bucket string, targets []string, triggers []functions.Trigger) error
}

// Subscribe keeps the store reporting to targets until ctx ends: it sets the
// rules of every watched bucket now, after every Deployed, and each minute, in
// case that a bucket has appeared or lost its rules. While the store does not
// answer it tries again sooner.
func (in *Ingest) Subscribe(ctx context.Context, store Notifier, targets []string) error {
	const first, most = time.Second, time.Minute
	wait := first
	for {
		if err := in.SetNotifications(ctx, store, targets); err != nil && !permanent(err) {
			wait = min(2*wait, most)
		} else {
			wait = most
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-in.wake:
			wait = first
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		t.Stop()
	}
}

// Deployed tells Subscribe that other buckets may be watched now.
func (in *Ingest) Deployed() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// SetNotifications has the store report the new objects of every triggered
// bucket to targets. Where it refuses, it is logged and shown, and listing finds
// the objects all the same, later.
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
	buckets[in.Uploads] = append(buckets[in.Uploads], functions.Trigger{Bucket: in.Uploads, Prefix: intake.InputPrefix})
	var failed error
	for _, bucket := range slices.Sorted(maps.Keys(buckets)) {
		err := store.SetNotifications(ctx, bucket, targets, buckets[bucket])
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, functions.ErrNotFound) {
			err = nil // the bucket does not exist yet
		}
		in.notified(bucket, err)
		failed = errors.Join(failed, err)
	}
	return failed
}

// notified takes down whether a bucket reports to us, and logs what is new.
func (in *Ingest) notified(bucket string, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	if !in.figures.notified(bucket, why) || err == nil {
		return
	}
	hint := "until it does, new objects are found by listing"
	var known *functions.Error
	if errors.As(err, &known) && known.Hint != "" {
		hint = known.Hint
	}
	in.Logger.Warn("the store does not report new objects", "bucket", bucket, "err", err, "hint", hint)
}
