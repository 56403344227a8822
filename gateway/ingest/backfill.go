package ingest

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// Times of a backfill.
const (
	tellEvery  = time.Second
	firstWait  = time.Second // for a full queue, or a store or log that is away; doubles
	longestTry = 30 * time.Second
)

// Backfill offers to a function what was stored before it had its triggers, and
// tells how far it is: at once, each second, and at its end. The ledger is that
// of every other source, so that it can be stopped and run again at will. What
// cannot be started now is waited for. An error before the first telling means
// that nothing was done.
func (in *Ingest) Backfill(ctx context.Context, ask functions.Backfill, tell func(functions.BackfillProgress) error) error {
	b := &backfill{in: in, ask: ask, tell: tell}
	b.progress.DryRun = ask.DryRun
	places, err := b.places()
	if err != nil {
		return err
	}
	if err := tell(b.progress); err != nil {
		return err
	}
	for _, p := range places {
		if err = b.list(ctx, p); err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // nobody listens any more
	}
	b.progress.Waiting, b.progress.Done = "", err == nil
	if err != nil {
		b.progress.Error = err.Error()
		in.Logger.Warn("backfill ended early", "function", ask.Function, "err", err)
	}
	return tell(b.progress)
}

// backfill is one run. It is used by one goroutine.
type backfill struct {
	in       *Ingest
	ask      functions.Backfill
	fn       functions.Function
	tell     func(functions.BackfillProgress) error
	told     time.Time
	progress functions.BackfillProgress
}

// places are the function's that the request selects.
func (b *backfill) places() (all []place, err error) {
	ask := b.ask
	if err := ask.Function.Validate(); err != nil {
		return nil, err
	}
	for _, f := range b.in.Functions.List() {
		if f.Name == ask.Function {
			b.fn = f
		}
	}
	if b.fn.Name == "" {
		return nil, functions.NotFound("no_function", "there is no function %q", ask.Function).WithHint("list the functions to see which there are").WithField("function")
	}
	if !ask.Until.IsZero() && !ask.Since.Before(ask.Until) {
		return nil, functions.Invalid("bad_range", "since is not before until").WithField("until")
	}
	for _, t := range b.fn.Triggers {
		prefix := t.Prefix
		if t.Bucket == b.in.Results {
			prefix = "" // keys begin with the ids of tasks
		}
		if cmp.Or(ask.Bucket, t.Bucket) != t.Bucket || !strings.HasPrefix(prefix, ask.Prefix) && !strings.HasPrefix(ask.Prefix, prefix) {
			continue
		}
		if len(ask.Prefix) > len(prefix) {
			prefix = ask.Prefix
		}
		all = append(all, place{t.Bucket, prefix, ask.Since})
	}
	if len(all) == 0 {
		return nil, functions.Invalid("no_trigger", "no trigger of %s is for such objects", ask.Function).
			WithHint("its triggers are in GET /v1/functions/%s; --bucket and --prefix may only narrow them", ask.Function)
	}
	return merge(all), nil
}

func (b *backfill) list(ctx context.Context, p place) error {
	for o, err := range b.in.Objects.ListSince(ctx, p.bucket, p.prefix, p.since) {
		if errors.Is(err, functions.ErrNotFound) {
			return nil // no such bucket yet: nothing is in it
		}
		if err != nil {
			return err
		}
		if !b.ask.Until.IsZero() && !o.Modified.Before(b.ask.Until) || b.in.ours(o.Bucket, o.Key) {
			continue
		}
		b.progress.Listed++
		b.progress.Bucket, b.progress.Key = o.Bucket, o.Key
		if err := b.offer(ctx, o); err != nil {
			return err
		}
		if err := b.report(""); err != nil {
			return err
		}
	}
	return nil
}

// offer starts the object's task, however long it must wait to do so.
func (b *backfill) offer(ctx context.Context, o functions.Listed) error {
	h := Hint{Bucket: o.Bucket, Key: o.Key, VersionID: o.VersionID, Source: Filling}
	for wait := firstWait; ; wait = min(2*wait, longestTry) {
		f, err := b.in.findOf(ctx, h)
		var found []candidate
		var n tally
		if err == nil {
			if found = b.in.chain(f, match([]functions.Function{b.fn}, f)); len(found) == 0 {
				return nil
			}
			if wait == firstWait {
				b.in.figures.hint(Filling)
			}
			f.dry = b.ask.DryRun
			n, err = b.in.take(ctx, f, found)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil || permanent(err) {
			b.progress.Matched++
			b.progress.Started += int64(n.started)
			b.progress.Known += int64(n.known)
			b.progress.Unfit += int64(n.unfit)
			b.progress.Rejected += int64(n.rejected)
			return nil
		}
		b.told = time.Time{} // a wait is told at once
		if err := b.report(err.Error()); err != nil {
			return err
		}
		if !functions.Sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// report tells the progress when the last telling is a while ago.
func (b *backfill) report(waiting string) error {
	if time.Since(b.told) < tellEvery {
		return nil
	}
	b.told, b.progress.Waiting = time.Now(), waiting
	return b.tell(b.progress)
}
