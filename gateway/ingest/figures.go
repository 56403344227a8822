package ingest

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway/spillway/functions"
)

// figures are what this server counted since it started. They are both the
// metrics and what people are shown.
type figures struct {
	now func() time.Time

	mu       sync.Mutex // guards the fields below
	sources  map[Source]*functions.IngestSource
	buckets  map[string]*bucketFigures
	held     map[functions.Name]string // why the newest listing did not move a mark
	refused  int64                     // by depth
	refusals []functions.IngestRefusal // newest last
}

// bucketFigures adds what the metrics need to what people are shown.
type bucketFigures struct {
	functions.IngestBucket
	watched time.Time // since when
}

// manyRefusals is how many refusals are kept to be shown.
const manyRefusals = 20

func newFigures(now func() time.Time) *figures {
	return &figures{now: now, sources: map[Source]*functions.IngestSource{}, buckets: map[string]*bucketFigures{}, held: map[functions.Name]string{}}
}

// source changes the figures of one source.
func (f *figures) source(s Source, change func(*functions.IngestSource)) {
	s = cmp.Or(s, Webhook)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sources[s] == nil {
		f.sources[s] = &functions.IngestSource{Name: string(s)}
	}
	change(f.sources[s])
}

// hint counts a hint.
func (f *figures) hint(s Source) {
	f.source(s, func(x *functions.IngestSource) { x.Hints, x.LastHint = x.Hints+1, f.now().UTC() })
}

// duplicates counts starts that an earlier hint had made.
func (f *figures) duplicates(s Source, n int) {
	f.source(s, func(x *functions.IngestSource) { x.Duplicates += int64(n) })
}

// dropped counts a hint that nobody looks at.
func (f *figures) dropped(s Source) {
	f.hint(s)
	f.source(s, func(x *functions.IngestSource) { x.Dropped++ })
}

// failed counts what could not be done with a hint: for good, or for now.
func (f *figures) failed(s Source, err error) {
	f.source(s, func(x *functions.IngestSource) {
		x.Error, x.ErrorAt = err.Error(), f.now().UTC()
		if permanent(err) {
			x.Rejected++
		} else {
			x.Failures++
		}
	})
}

// bucket changes the figures of one bucket.
func (f *figures) bucket(name string, change func(*functions.IngestBucket)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.buckets[name] == nil {
		f.buckets[name] = &bucketFigures{IngestBucket: functions.IngestBucket{Name: name}, watched: f.now()}
	}
	change(&f.buckets[name].IngestBucket)
}

// notified takes down why a bucket does not report to us; empty = it does. It
// says whether that is new.
func (f *figures) notified(bucket, why string) (changed bool) {
	f.mu.Lock()
	known := f.buckets[bucket] != nil
	f.mu.Unlock()
	if known || why != "" {
		f.bucket(bucket, func(b *functions.IngestBucket) { changed, b.Notifications = b.Notifications != why, why })
	}
	return changed
}

// listed takes over what a pass has seen, and forgets buckets that nothing
// watches any more.
func (f *figures) listed(p *pass) {
	seen := make(map[string]bool)
	for _, b := range p.buckets {
		seen[b.name] = true
		f.bucket(b.name, func(x *functions.IngestBucket) {
			x.Recovered += b.gap
			if x.Error = ""; b.err != nil {
				x.Error = b.err.Error()
				return
			}
			x.ListedAt, x.ListingMS, x.Objects, x.Gap = p.begun.UTC(), b.took.Milliseconds(), b.objects, b.gap
		})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.buckets, func(name string, b *bucketFigures) bool { return !seen[name] && b.Notifications == "" })
	f.held = map[functions.Name]string{}
	for name, err := range p.held {
		f.held[name] = err.Error()
	}
}

// refuse counts an output that starts nothing because too many stand before it.
func (f *figures) refuse(r functions.IngestRefusal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused++
	f.refusals = append(f.refusals, r)
	if n := len(f.refusals) - manyRefusals; n > 0 {
		f.refusals = slices.Delete(f.refusals, 0, n)
	}
}

// status copies everything but the marks.
func (f *figures) status() functions.IngestStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := functions.IngestStatus{
		Sources: []functions.IngestSource{}, Buckets: []functions.IngestBucket{}, Functions: []functions.IngestFunction{},
		Refused: f.refused, Refusals: append([]functions.IngestRefusal{}, f.refusals...),
	}
	slices.Reverse(st.Refusals)
	for _, s := range f.sources {
		st.Sources = append(st.Sources, *s)
	}
	for _, b := range f.buckets {
		st.Buckets = append(st.Buckets, b.IngestBucket)
	}
	slices.SortFunc(st.Sources, func(a, b functions.IngestSource) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(st.Buckets, func(a, b functions.IngestBucket) int { return cmp.Compare(a.Name, b.Name) })
	return st
}

func (f *figures) heldBy(fn functions.Name) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held[fn]
}

// metric describes one metric of ours.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("spillway_ingest_"+name, help, labels, nil)
}

var (
	hintsDesc     = metric("hints_total", "Hints that an object may be new.", "source")
	startedDesc   = metric("started_total", "Tasks started by objects.", "source")
	duplicateDesc = metric("duplicates_total", "Starts that an earlier hint had made.", "source")
	rejectedDesc  = metric("rejected_total", "Hints that can never start a task.", "source")
	failuresDesc  = metric("failures_total", "Hints that could not be taken in at that time.", "source")
	droppedDesc   = metric("dropped_total", "Hints that were not looked at, because too many waited.", "source")
	recoveredDesc = metric("recovered_total", "New objects that listing found and no event had reported.", "bucket")
	gapDesc       = metric("last_gap_objects", "New objects in the last complete listing that no event had reported.", "bucket")
	ageDesc       = metric("listing_age_seconds", "Time since the last complete listing began.", "bucket")
	tookDesc      = metric("listing_seconds", "Time that the last complete listing took.", "bucket")
	refusedDesc   = metric("depth_refused_total", "Outputs that started nothing because the chain of functions before them was too long.")
)

// Describe and Collect make an Ingest a prometheus.Collector.
func (in *Ingest) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		hintsDesc, startedDesc, duplicateDesc, rejectedDesc, failuresDesc, droppedDesc, recoveredDesc, gapDesc, ageDesc, tookDesc, refusedDesc,
	} {
		ch <- d
	}
}

// Collect sends the figures of this moment.
func (in *Ingest) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	f := in.figures
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sources {
		for d, n := range map[*prometheus.Desc]int64{
			hintsDesc: s.Hints, startedDesc: s.Started, duplicateDesc: s.Duplicates, rejectedDesc: s.Rejected, failuresDesc: s.Failures,
			droppedDesc: s.Dropped,
		} {
			send(d, prometheus.CounterValue, float64(n), s.Name)
		}
	}
	for _, b := range f.buckets {
		since := b.ListedAt
		if since.IsZero() { // never: an alert must see that as well
			since = b.watched
		}
		send(recoveredDesc, prometheus.CounterValue, float64(b.Recovered), b.Name)
		send(gapDesc, prometheus.GaugeValue, float64(b.Gap), b.Name)
		send(ageDesc, prometheus.GaugeValue, f.now().Sub(since).Seconds(), b.Name)
		send(tookDesc, prometheus.GaugeValue, float64(b.ListingMS)/1000, b.Name)
	}
	send(refusedDesc, prometheus.CounterValue, float64(f.refused))
}
