package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

const (
	// idleShare is how many times longer than the listing of a pass the pause after
	// it is at least: a listing costs the store as much as it holds objects.
	idleShare = 9
	// crowded is the pause when a full queue held a pass up.
	crowded = 5 * time.Second
)

// Run lists every triggered place now and at every interval, and offers what
// has no task yet. It also offers the outputs that Changed reports and what
// Later took down. It returns nil when ctx ends. A listing that fails is logged
// and tried again at the next interval.
func (in *Ingest) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { in.followOutputs(ctx) })
	for range offers {
		wg.Go(func() { in.work(ctx) })
	}
	for {
		n, listing, err := in.reconcile(ctx)
		if n > 0 {
			in.Logger.Info("objects found by listing", "count", n)
		}
		if err != nil && ctx.Err() == nil {
			in.Logger.Warn("objects not listed", "err", err)
		}
		rest := in.Every
		switch {
		case errors.Is(err, functions.ErrThrottled):
			rest = max(min(rest, crowded), idleShare*listing)
		case err == nil: // how long an outage lasted is no reason to wait
			rest = max(rest, idleShare*listing)
		}
		if !functions.Sleep(ctx, rest) {
			return nil
		}
	}
}

// Reconcile lists once and returns how many tasks it started. What it cannot
// list or start now it skips, returns the errors of, and comes back to: the
// marks of the functions that it is about stay where they are.
func (in *Ingest) Reconcile(ctx context.Context) (started int, err error) {
	started, _, err = in.reconcile(ctx)
	return started, err
}

// reconcile also says how long it was listing.
func (in *Ingest) reconcile(ctx context.Context) (started int, listing time.Duration, err error) {
	p := &pass{begun: in.Now(), buckets: map[string]*scan{}, held: map[functions.Name]error{}}
	if p.watches, err = in.watches(ctx); err != nil {
		return 0, 0, err
	}
	for _, pl := range in.places(p.watches) {
		n, err := in.list(ctx, p, pl)
		started += n
		if ctx.Err() != nil {
			return started, 0, context.Cause(ctx)
		}
		p.done(pl, err)
	}
	for _, b := range p.buckets {
		listing += b.took
	}
	in.figures.listed(p)
	var failed error // of each function the newest: there may be thousands
	for _, w := range p.watches {
		if err := p.held[w.fn.Name]; err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", w.fn.Name, err))
			continue
		}
		if err := in.Marks.Move(ctx, w.fn.Name, functions.Mark{Until: p.begun.Add(-in.Overlap)}); err != nil {
			return started, listing, errors.Join(failed, err)
		}
	}
	return started, listing, failed
}

// watches are the functions with triggers, as they and their marks are now.
func (in *Ingest) watches(ctx context.Context) (all []watch, err error) {
	for _, f := range in.Functions.List() {
		if len(f.Triggers) == 0 {
			continue
		}
		mark, err := in.Marks.Mark(ctx, f.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, watch{fn: f, versions: in.Functions.Versions(f.Name), mark: mark})
	}
	return all, nil
}

// pass is one listing of everything that is watched.
type pass struct {
	begun   time.Time
	watches []watch
	buckets map[string]*scan
	held    map[functions.Name]error // whose marks must stay, and why
}

// scan is what a pass has seen of one bucket.
type scan struct {
	name    string
	took    time.Duration // by the listing itself
	objects int64
	gap     int64 // new objects that no event had reported
	err     error
}

// done takes down how a listing of pl ended. When it was not complete, no
// function that watches there may move its mark.
func (p *pass) done(pl place, err error) {
	if err == nil {
		return
	}
	p.buckets[pl.bucket].err = err
	for _, w := range p.watches {
		for _, t := range w.fn.Triggers {
			if t.Bucket == pl.bucket {
				p.held[w.fn.Name] = err
			}
		}
	}
}

// open are the watches that may get more: those of a full queue are left until
// the next pass.
func (p *pass) open() []watch {
	return slices.DeleteFunc(slices.Clone(p.watches), func(w watch) bool { return errors.Is(p.held[w.fn.Name], functions.ErrThrottled) })
}

// inTransit is how old an object must be to count as a gap: the event of a newer
// one may be on its way.
const inTransit = 10 * time.Second

// list offers what lies in a place and has no task yet. An error is the
// listing's own.
func (in *Ingest) list(ctx context.Context, p *pass, pl place) (started int, err error) {
	s := p.buckets[pl.bucket]
	if s == nil {
		s = &scan{name: pl.bucket}
		p.buckets[pl.bucket] = s
	}
	defer func(begun time.Time) { s.took += time.Since(begun) }(time.Now())
	for o, err := range in.Objects.ListSince(ctx, pl.bucket, pl.prefix, pl.since) {
		if errors.Is(err, functions.ErrNotFound) {
			return started, nil // a trigger may name a bucket that does not exist yet
		}
		if err != nil {
			return started, err
		}
		s.objects++
		begun := time.Now()
		n, later := in.recover(ctx, p.open(), o)
		s.took -= time.Since(begun)
		for name, err := range later {
			p.held[name] = err
		}
		started += n
		if n > 0 && o.Modified.Before(p.begun.Add(-inTransit)) {
			s.gap++
		}
		if ctx.Err() != nil {
			return started, context.Cause(ctx)
		}
	}
	return started, nil
}

// recover offers a listed object to the functions that it is due to, unless the
// listing itself shows that they have their tasks. later says to which it must
// be offered again.
func (in *Ingest) recover(ctx context.Context, all []watch, o functions.Listed) (started int, later map[functions.Name]error) {
	if in.ours(o.Bucket, o.Key) {
		return 0, nil
	}
	var recent []watch
	for _, w := range all {
		if w.watches(o.Bucket) && w.recent(o) {
			recent = append(recent, w)
		}
	}
	if len(recent) == 0 {
		return 0, nil
	}
	again := func(err error) map[functions.Name]error {
		later := make(map[functions.Name]error)
		for _, w := range recent {
			later[w.fn.Name] = err
		}
		return later
	}
	f, err := in.findOf(ctx, Hint{Bucket: o.Bucket, Key: o.Key, VersionID: o.VersionID, Source: Listing})
	if err != nil {
		return 0, again(err)
	}
	var fns []functions.Function
	for _, w := range recent {
		if !before(o, w.wanted(f)) {
			fns = append(fns, w.fn)
		}
	}
	found, _, err := in.unknown(ctx, in.chain(f, match(fns, f)), identity(o.ObjectRef))
	if err != nil {
		return 0, again(err)
	}
	if len(found) == 0 {
		return 0, nil
	}
	in.figures.hint(Listing)
	n, _ := in.take(ctx, f, found)
	return n.started, n.later
}

// findOf is what a listed object is. In the results bucket, what is no accepted
// output matches no trigger.
func (in *Ingest) findOf(ctx context.Context, h Hint) (find, error) {
	if h.Bucket == in.Results {
		return in.output(ctx, h)
	}
	return find{Hint: h}, nil
}
