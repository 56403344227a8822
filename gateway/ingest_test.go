package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway"
)

func TestIngestStatusIsShown(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.do(t, "GET", "/v1/ingest", "")
	if st := decode[functions.IngestStatus](t, rec); rec.Code != 200 || st.MaxDepth != 8 || len(st.Sources) != 1 || st.Sources[0].Hints != 3 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	closed := newWorld(t, func(c *gateway.Config) { c.Open, c.Keys = false, [][32]byte{gateway.HashKey("k")} })
	for _, r := range [][2]string{{"GET", "/v1/ingest"}, {"POST", "/v1/ingest/backfill"}} {
		if rec := closed.do(t, r[0], r[1], ""); rec.Code != 401 {
			t.Errorf("%s without a key: %d", r, rec.Code)
		}
	}
}

func TestBackfillIsALinePerStep(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.do(t, "POST", "/v1/ingest/backfill", `{"function":"echo","bucket":"b","prefix":"p","since":"2026-01-02T03:04:05Z","dry_run":true}`)
	if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	lines := strings.Split(strings.TrimSpace(rec.Body.String()), "\n")
	var last functions.BackfillProgress
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(lines) != 3 || !last.Done || last.Listed != 2 {
		t.Errorf("%q, %v", lines, err)
	}
	want := functions.Backfill{Function: "echo", Bucket: "b", Prefix: "p", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), DryRun: true}
	if len(w.filled) != 1 || w.filled[0] != want {
		t.Errorf("asked for %+v", w.filled)
	}
	for body, status := range map[string]int{`{"function":"nobody"}`: 404, `{"function":"echo","x":1}`: 400, `{`: 400, `{"function":"echo","since":"yesterday"}`: 400} {
		if rec := w.do(t, "POST", "/v1/ingest/backfill", body); rec.Code != status {
			t.Errorf("%s: %d, want %d", body, rec.Code, status)
		}
	}
}

func TestBackfillEndsWithItsConnection(t *testing.T) {
	w := newWorld(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec := httptest.NewRecorder()
	w.g.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "POST", "/v1/ingest/backfill", strings.NewReader(`{"function":"echo"}`)))
	if strings.Contains(rec.Body.String(), "problem") || strings.Count(rec.Body.String(), "\n") != 3 {
		t.Errorf("after the last line there is more: %s", rec.Body)
	}
}

// collector has one metric of its own, or one that the gateway has.
type collector struct{ *prometheus.Desc }

func (c collector) Describe(ch chan<- *prometheus.Desc) { ch <- c.Desc }
func (c collector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.Desc, prometheus.GaugeValue, 7)
}

func TestCollectorsOfOthersAreShown(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) {
		c.Collectors = []prometheus.Collector{collector{prometheus.NewDesc("spillway_other", "Other.", nil, nil)}}
	})
	if rec := w.do(t, "GET", "/metrics", ""); !strings.Contains(rec.Body.String(), "spillway_other 7\n") {
		t.Error("the metric is not shown")
	}
	cfg := w.cfg
	cfg.Collectors = append(cfg.Collectors, cfg.Collectors[0])
	var taken prometheus.AlreadyRegisteredError
	if _, err := gateway.New(cfg); !errors.As(err, &taken) {
		t.Errorf("the same collector twice: %v", err)
	}
}
