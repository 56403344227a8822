package ingest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/spillway/spillway/functions"
)

// notifier is a store that takes rules, or an error in their place.
type notifier struct {
	mu    sync.Mutex // guards the fields below
	calls int
	rules map[string]string
	err   map[string]error
}

func (n *notifier) SetNotifications(_ context.Context, bucket string, targets []string, triggers []functions.Trigger) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
	if err := n.err[bucket]; err != nil {
		return err
	}
	if n.rules == nil {
		n.rules = map[string]string{}
	}
	n.rules[bucket] = fmt.Sprint(targets, triggers)
	return nil
}

func (n *notifier) set(bucket string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = map[string]error{bucket: err}
}

func (n *notifier) has(bucket string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rules[bucket] != ""
}

func (n *notifier) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls
}

func TestSubscribeGoesOnUntilTheStoreReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outside{newEngine(), &shelf{}, newHistory(), &ledger{}, born}
		o.deploy("f", functions.Trigger{Bucket: "inbox"}, functions.Trigger{Bucket: "results"})
		in := o.start()
		n := &notifier{}
		n.set("inbox", functions.Unavailable("x", "starting"))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- in.Subscribe(ctx, n, []string{"FAST", "DURABLE"}) }()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !n.has("uploads") || n.has("inbox") || n.has("results") {
			t.Errorf("rules %v", n.rules)
		}
		n.set("inbox", nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if want := "[FAST DURABLE] [{inbox   [] }]"; n.rules["inbox"] != want {
			t.Errorf("rules of inbox %q, want %q", n.rules["inbox"], want)
		}
		// A bucket that appears is taken up within the minute, a deployment at once.
		n.set("late", functions.NotFound("x", "no bucket"))
		o.now = o.now.Add(time.Second)
		o.deploy("g", functions.Trigger{Bucket: "late"})
		in.Deployed()
		synctest.Wait()
		if n.has("late") {
			t.Error("a bucket that is not there has rules")
		}
		n.set("late", nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !n.has("late") {
			t.Error("a bucket that has appeared has no rules")
		}
		o.deploy("g", functions.Trigger{Bucket: "more"})
		in.Deployed()
		synctest.Wait()
		if !n.has("more") {
			t.Error("a deployment is not taken up")
		}
		// A target that the store does not know is shown, and not asked for all the time.
		n.set("inbox", functions.Invalid("no_target", "the store does not know FAST").WithHint("MINIO_NOTIFY_WEBHOOK_ENABLE_FAST=on"))
		time.Sleep(time.Minute)
		synctest.Wait()
		calls := n.count()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got := n.count() - calls; got > 20 {
			t.Errorf("%d calls in five minutes", got)
		}
		st, err := in.Status(ctx)
		if i := slices.IndexFunc(st.Buckets, func(b functions.IngestBucket) bool { return b.Name == "inbox" }); err != nil || i < 0 || st.Buckets[i].Notifications == "" {
			t.Errorf("status %+v, %v", st.Buckets, err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// slow takes its time for a listing.
type slow struct {
	*shelf
	d time.Duration
}

func (s slow) ListSince(ctx context.Context, bucket, prefix string, since time.Time) iter.Seq2[functions.Listed, error] {
	time.Sleep(s.d)
	return s.shelf.ListSince(ctx, bucket, prefix, since)
}

func TestListingTakesATenthOfTheTimeAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, _, s := build(registry{fn("f", functions.Trigger{Bucket: "inbox"})})
		const took = 5 * time.Minute
		in.Objects = slow{s, took}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- in.Run(ctx) }()
		time.Sleep(100 * took)
		synctest.Wait()
		s.mu.Lock()
		if n := s.lists; n < 9 || n > 11 {
			t.Errorf("%d listings of %s in %s", n, took, 100*took)
		}
		s.mu.Unlock()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A full queue is asked once in a pass, and again soon.
func TestListingOfAFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outside{newEngine(), &shelf{}, newHistory(), &ledger{}, born}
		o.deploy("f", functions.Trigger{Bucket: "inbox"})
		for i := range 50 {
			o.put("inbox", fmt.Sprint(i), "x", "", born.Add(time.Minute))
		}
		o.now = born.Add(time.Hour)
		o.full = true
		in := o.start()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- in.Run(ctx) }()
		synctest.Wait()
		o.shelf.mu.Lock()
		if o.stats > 5 {
			t.Errorf("asked the store %d times for a queue that is full", o.stats)
		}
		o.shelf.mu.Unlock()
		o.engine.mu.Lock()
		o.full = false
		o.engine.mu.Unlock()
		time.Sleep(2 * crowded)
		synctest.Wait()
		if got := len(o.all()); got != 50 {
			t.Errorf("%d tasks soon after there is room, want 50", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A deleted function that is deployed again does not run over what came between.
func TestWhatCameWhileAFunctionWasDeletedIsNotItsOwn(t *testing.T) {
	o := &outside{newEngine(), &shelf{}, newHistory(), &ledger{}, born}
	trigger := functions.Trigger{Bucket: "inbox"}
	o.deploy("f", trigger)
	for i, step := range []func(){func() {}, func() { o.remove("f") }, func() { o.deploy("f", trigger) }} {
		step()
		o.now = o.now.Add(time.Minute)
		o.put("inbox", fmt.Sprint(i), "x", "", o.now)
		o.now = o.now.Add(time.Hour)
	}
	if n, err := o.start().Reconcile(t.Context()); n != 1 || err != nil || o.started("f")[0] != "2 @0" {
		t.Errorf("started %q, %v; want the object from after the second deployment", o.started("f"), err)
	}
}

func TestIngestMetrics(t *testing.T) {
	o := &outside{newEngine(), &shelf{}, newHistory(), &ledger{}, born}
	o.deploy("f", functions.Trigger{Bucket: "inbox"}, functions.Trigger{Bucket: "other"})
	o.put("inbox", "x", "data", "", born.Add(time.Minute))
	o.put("inbox", "y", "data", "", born.Add(2*time.Minute))
	o.put("inbox", "fresh", "data", "", born.Add(time.Hour)) // its event may be on its way
	o.now = born.Add(time.Hour)
	in := o.start()
	if err := in.Offer(t.Context(), Hint{Bucket: "inbox", Key: "x", Source: Outbox}); err != nil {
		t.Fatal(err)
	}
	if n, err := in.Reconcile(t.Context()); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	o.now = o.now.Add(30 * time.Second)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(in)
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) != 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"spillway_ingest_hints_total outbox":        1,
		"spillway_ingest_started_total outbox":      1,
		"spillway_ingest_started_total listing":     2,
		"spillway_ingest_recovered_total inbox":     1,
		"spillway_ingest_last_gap_objects inbox":    1,
		"spillway_ingest_last_gap_objects other":    0,
		"spillway_ingest_listing_age_seconds inbox": 30,
		"spillway_ingest_depth_refused_total":       0,
		"spillway_ingest_duplicates_total listing":  0,
		"spillway_ingest_listing_age_seconds other": 30,
		"spillway_ingest_rejected_total outbox":     0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (there: %t), want %v", name, v, ok, want)
		}
	}
	// The next listing has no gap; what was recovered stays counted.
	if _, err := in.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, _ := in.Status(t.Context()); st.Buckets[0].Gap != 0 || st.Buckets[0].Recovered != 1 || st.Buckets[0].Objects != 3 {
		t.Errorf("after the second listing: %+v", st.Buckets[0])
	}
}
