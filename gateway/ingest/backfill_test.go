package ingest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

func fill(t *testing.T, in *Ingest, ask functions.Backfill) functions.BackfillProgress {
	t.Helper()
	var last functions.BackfillProgress
	if err := in.Backfill(t.Context(), ask, func(p functions.BackfillProgress) error { last = p; return nil }); err != nil {
		t.Fatal(err)
	}
	return last
}

func TestBackfillStartsWhatWasThereBefore(t *testing.T) {
	o := &outside{newEngine(), &shelf{}, newHistory(), &ledger{}, born}
	o.deploy("f", functions.Trigger{Bucket: "inbox", Prefix: "a/"}, functions.Trigger{Bucket: "inbox", Prefix: "b/", ContentTypes: []string{"audio/*"}}, functions.Trigger{Bucket: "results"})
	o.deploy("g", functions.Trigger{Bucket: "inbox"})
	for i, key := range []string{"a/1", "a/2", "a/3", "b/text", "c/1", "a/folder/"} {
		o.put("inbox", key, key, "text/plain", born.Add(time.Duration(i-100)*time.Hour))
	}
	o.put("inbox", "b/wav", wav, "", born.Add(-50*time.Hour))
	o.produce(t, first, "x", 0, functions.Succeeded, "old.txt")
	o.objects[len(o.objects)-1].at, o.objects[len(o.objects)-2].at = born.Add(-time.Hour), born.Add(-time.Hour)
	o.now = born.Add(time.Hour)
	in := o.start()
	if n, err := in.Reconcile(t.Context()); n != 0 || err != nil {
		t.Fatalf("listing started %d, %v: all is older than the functions", n, err)
	}
	at := func(h time.Duration) time.Time { return born.Add(h * time.Hour) }
	for _, c := range []struct {
		name string
		ask  functions.Backfill
		want functions.BackfillProgress
	}{
		{"a dry run starts nothing", functions.Backfill{Bucket: "inbox", Prefix: "a/", DryRun: true}, functions.BackfillProgress{Listed: 3, Matched: 3, Started: 3, DryRun: true}},
		{"from one time to before another", functions.Backfill{Since: at(-99), Until: at(-98)}, functions.BackfillProgress{Listed: 1, Matched: 1, Started: 1}},
		{"the rest of a prefix", functions.Backfill{Prefix: "a/"}, functions.BackfillProgress{Listed: 3, Matched: 3, Started: 2, Known: 1}},
		{"everything", functions.Backfill{}, functions.BackfillProgress{Listed: 7, Matched: 6, Started: 2, Known: 3, Unfit: 1}},
		{"again", functions.Backfill{}, functions.BackfillProgress{Listed: 7, Matched: 6, Known: 5, Unfit: 1}},
	} {
		c.ask.Function, c.want.Done = "f", true
		got := fill(t, in, c.ask)
		got.Bucket, got.Key = "", ""
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
	if got, want := o.started("f"), 5; len(got) != want {
		t.Errorf("f started for %q, want %d", got, want)
	}
	if got := o.started("g"); len(got) != 0 {
		t.Errorf("g was not asked to, and started for %q", got)
	}
	for _, ask := range []functions.Backfill{
		{Function: "nobody"}, {Function: "-"}, {Function: "f", Bucket: "other"}, {Function: "f", Bucket: "inbox", Prefix: "c/"},
		{Function: "f", Since: at(1), Until: at(0)},
	} {
		told := 0
		if err := in.Backfill(t.Context(), ask, func(functions.BackfillProgress) error { told++; return nil }); !permanent(err) || told != 0 {
			t.Errorf("%+v: %v after %d tellings", ask, err, told)
		}
	}
}

// A full queue and a log that is away are waited for; nothing is skipped.
func TestBackfillWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outside{newEngine(), &shelf{}, newHistory(), &ledger{}, born}
		o.deploy("f", functions.Trigger{Bucket: "inbox"})
		for i := range 5 {
			o.put("inbox", fmt.Sprint(i), "x", "", born.Add(-time.Hour))
		}
		in := o.start()
		o.full = true
		var last functions.BackfillProgress
		waits := 0
		done := make(chan error)
		go func() {
			done <- in.Backfill(t.Context(), functions.Backfill{Function: "f"}, func(p functions.BackfillProgress) error {
				if last = p; p.Waiting != "" {
					waits++
				}
				return nil
			})
		}()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if waits < 10 || last.Waiting == "" || last.Started != 0 {
			t.Errorf("after ten minutes of a full queue it waited %d times: %+v", waits, last)
		}
		o.engine.mu.Lock()
		o.full, o.down = false, true
		o.engine.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		o.engine.mu.Lock()
		o.down = false
		o.engine.mu.Unlock()
		if err := <-done; err != nil || !last.Done || last.Started != 5 || last.Waiting != "" {
			t.Errorf("%+v, %v, want 5 started", last, err)
		}
	})
}

func TestBackfillThatIsCutOffGoesOn(t *testing.T) {
	o := &outside{newEngine(), &shelf{}, newHistory(), &ledger{}, born}
	o.deploy("f", functions.Trigger{Bucket: "inbox"})
	for i := range 5 {
		o.put("inbox", fmt.Sprint(i), "x", "", born.Add(-time.Hour))
	}
	in := o.start()
	ctx, cut := context.WithCancelCause(t.Context())
	gone := errors.New("nobody listens")
	n := 0
	real := in.Door
	in.Door = doorFunc(func(ctx context.Context, c intake.Call) (intake.Ticket, error) {
		if n++; n == 3 {
			cut(gone)
			return intake.Ticket{}, context.Cause(ctx)
		}
		return real.Accept(ctx, c)
	})
	if err := in.Backfill(ctx, functions.Backfill{Function: "f"}, func(functions.BackfillProgress) error { return nil }); !errors.Is(err, gone) {
		t.Errorf("cut off: %v", err)
	}
	if got := fill(t, in, functions.Backfill{Function: "f"}); !got.Done || got.Known != 2 || got.Started != 3 {
		t.Errorf("the second run: %+v, want 2 known and 3 started", got)
	}
	o.err = functions.Unavailable("x", "away")
	if got := fill(t, in, functions.Backfill{Function: "f"}); got.Done || got.Error == "" {
		t.Errorf("with the store away: %+v", got)
	}
}
