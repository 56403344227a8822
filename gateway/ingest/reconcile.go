package ingest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// Run lists every triggered prefix now and at every interval, and offers what
// has no task yet. It returns nil when ctx ends. A listing that fails is logged
// and tried again at the next interval.
func (in *Ingest) Run(ctx context.Context) error {
	tick := time.NewTicker(in.Every)
	defer tick.Stop()
	for {
		n, err := in.Reconcile(ctx)
		if n > 0 {
			in.Recovered(n)
			in.Logger.Info("objects found by listing", "count", n)
		}
		if err != nil && ctx.Err() == nil {
			in.Logger.Warn("objects not listed", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Reconcile lists once and returns how many tasks it started. What it cannot
// list or start it skips, and returns the errors of.
func (in *Ingest) Reconcile(ctx context.Context) (started int, err error) {
	var last error // of one object; the newest stands for all: there may be thousands
	for _, place := range in.places() {
		for ref, lerr := range in.Objects.ListSince(ctx, place.bucket, place.prefix, place.since) {
			if errors.Is(lerr, functions.ErrNotFound) {
				break // a trigger may name a bucket that does not exist yet
			}
			if lerr != nil {
				err = errors.Join(err, lerr)
				break
			}
			n, oerr := in.recover(ctx, ref)
			started += n
			if oerr != nil {
				last = oerr
			}
			if ctx.Err() != nil {
				return started, context.Cause(ctx)
			}
		}
	}
	return started, errors.Join(err, last)
}

// recover offers a listed object, unless the listing itself shows that every
// function has its task.
func (in *Ingest) recover(ctx context.Context, ref functions.ObjectRef) (int, error) {
	found, err := in.unknown(ctx, in.match(ref.Bucket, ref.Key), identity(ref))
	if err != nil || len(found) == 0 {
		return 0, err
	}
	return in.offer(ctx, Hint{Bucket: ref.Bucket, Key: ref.Key, VersionID: ref.VersionID})
}

// place is what one listing covers.
type place struct {
	bucket, prefix string
	since          time.Time
}

// places merges the triggers of all functions. An object counts when it came
// within the window and after the first version of a function that wants it: a
// new function does not run over what was there before, and what is older than
// the log's memory does not run again.
func (in *Ingest) places() []place {
	oldest := in.Now().Add(-in.Window)
	var all []place
	for _, f := range in.Functions.List() {
		since := f.CreatedAt
		if first, err := in.Functions.Version(f.Name, 1); err == nil {
			since = first.CreatedAt
		}
		if since.Before(oldest) {
			since = oldest
		}
		for _, t := range f.Triggers {
			if t.Bucket != in.Results {
				all = append(all, place{t.Bucket, t.Prefix, since})
			}
		}
	}
	return merge(all)
}

// merge drops the places that another covers.
func merge(all []place) (kept []place) {
next:
	for i, p := range all {
		for j, q := range all {
			covers := q.bucket == p.bucket && strings.HasPrefix(p.prefix, q.prefix) && !q.since.After(p.since)
			if i != j && covers && (p != q || j < i) {
				continue next
			}
		}
		kept = append(kept, p)
	}
	return kept
}
