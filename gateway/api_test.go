package gateway

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/spillway/spillway/functions"
)

func bare() *Gateway {
	g := &Gateway{cfg: Config{Open: true, Now: time.Now}, log: slog.New(slog.DiscardHandler), metrics: newMetrics("test")}
	g.Feed = newFeed(g.metrics.observe, time.Now)
	return g
}

// TestEveryRouteIsDescribed holds openapi.json and the routes equal, both ways.
func TestEveryRouteIsDescribed(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(openapiJSON, &doc); err != nil {
		t.Fatal(err)
	}
	var described, served []string
	for path, ops := range doc.Paths {
		for method := range ops {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	err := bare().routes().Walk(func(r *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		path, err := r.GetPathTemplate()
		if err != nil {
			return err
		}
		methods, err := r.GetMethods()
		if err != nil {
			return err
		}
		for _, m := range methods {
			if m != http.MethodHead {
				served = append(served, m+" "+strings.ReplaceAll(path, ":.+}", "}"))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("openapi.json and the routes differ:\ndescribed %v\nserved    %v", described, served)
	}
}

func TestMetrics(t *testing.T) {
	g := bare()
	task := functions.Task{ID: "x", Function: "f", Source: "http", State: functions.Queued, Fallback: functions.GPUHost, Only: functions.CPU,
		Attempts: []functions.Attempt{{Number: 1, Device: functions.GPU}}}
	g.Feed.Publish([]functions.Change{{Kind: functions.Submit, Task: task}, {Kind: functions.Release, Before: functions.Deciding, Task: task}})
	task.State, task.Failure = functions.Failed, &functions.Failure{Class: functions.ExitError}
	task.Attempts = append(task.Attempts, functions.Attempt{Number: 2, Device: functions.CPU, Phases: []functions.Span{{Phase: functions.PhaseRun, MS: 1}}})
	g.Feed.Publish([]functions.Change{{Kind: functions.Release, Before: functions.Deciding, Task: task}})
	g.Feed.Publish([]functions.Change{{Kind: functions.Control, Before: functions.Failed, Task: task}}) // its files are purged: no second end
	g.metrics.request("BREW", unmatched, "405", time.Millisecond)
	g.metrics.fill(functions.Counts{"f": {functions.Queued: 2, functions.Succeeded: 9}}, []functions.NodeStatus{{Alive: true, NodeInfo: functions.NodeInfo{
		ID: "n", Ready: true, Warm: []functions.WarmInfo{{Function: "f", Version: 1, Wanted: 3, Idle: 2}},
	}}})

	problems, err := testutil.GatherAndLint(g.metrics.registry)
	if err != nil || len(problems) != 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	for _, c := range []struct {
		name string
		got  float64
		want float64
	}{
		{"submitted", testutil.ToFloat64(g.metrics.submitted.WithLabelValues("f", "http")), 1},
		{"finished", testutil.ToFloat64(g.metrics.finished.WithLabelValues("f", "failed", "cpu")), 1},
		{"failures", testutil.ToFloat64(g.metrics.failures.WithLabelValues("f", "exit_error")), 1},
		{"fallbacks", testutil.ToFloat64(g.metrics.fallbacks.WithLabelValues("f", "gpu_host")), 1},
		{"depth", testutil.ToFloat64(g.metrics.depth.WithLabelValues("f", "queued")), 2},
		{"nodes up", testutil.ToFloat64(g.metrics.nodeUp.WithLabelValues("n")), 1},
		{"warm containers", testutil.ToFloat64(g.metrics.warm.WithLabelValues("n", "f", "idle")), 2},
		{"requests of odd methods", testutil.ToFloat64(g.metrics.requests.WithLabelValues("other", unmatched, "405")), 1},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	if n := testutil.CollectAndCount(g.metrics.depth); n != 1 {
		t.Errorf("%d rows of depth, want 1: ended tasks do not queue", n)
	}
}

func TestSlowSubscriberIsDropped(t *testing.T) {
	g := bare()
	updates, leave := g.Feed.Subscribe("x")
	end, leaveEnd := g.Feed.ended("x")
	for i := range behind + 1 {
		g.Feed.Publish([]functions.Change{{Task: functions.Task{ID: "x", State: functions.Queued, Seq: uint64(i)}}})
	}
	n := 0
	for range updates { // ends, because the channel was closed
		n++
	}
	if n != behind {
		t.Errorf("%d updates before the end, want %d", n, behind)
	}
	g.Feed.Publish([]functions.Change{{Task: functions.Task{ID: "x", State: functions.Failed}}})
	if u := <-end; u.Task.State != functions.Failed {
		t.Errorf("who waits for the end got %s", u.Task.State)
	}
	leave()
	leaveEnd()
	leaveEnd()
	if len(g.Feed.subs) != 0 {
		t.Errorf("%d subscriptions stay", len(g.Feed.subs))
	}
}

func TestForgottenProgressIsBounded(t *testing.T) {
	g := bare()
	now := time.Unix(0, 0)
	g.Feed.now = func() time.Time { return now }
	for i := range manyReports + 10 {
		g.Feed.Progress(functions.Progress{Task: functions.TaskID(newRequestID()), Attempt: i})
	}
	if n := len(g.Feed.progress); n != manyReports {
		t.Errorf("%d reports kept", n)
	}
	now = now.Add(2 * staleReport)
	g.Feed.Progress(functions.Progress{Task: "y"})
	if n := len(g.Feed.progress); n != 1 {
		t.Errorf("%d reports kept after they went stale", n)
	}
}

func TestPanicsAndMounts(t *testing.T) {
	g := bare()
	g.cfg.Open, g.cfg.Keys = false, nil
	boom := func(register func(string, string, http.HandlerFunc)) {
		register("GET", "/boom", func(http.ResponseWriter, *http.Request) { panic("secret") })
		register("GET", "/half", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half")
			panic("late")
		})
	}
	g.cfg.OpenMounts = []Mount{boom}
	g.cfg.Mounts = []Mount{func(register func(string, string, http.HandlerFunc)) {
		register("GET", "/guarded", func(http.ResponseWriter, *http.Request) {})
	}}
	g.router = g.routes()
	get := func(path string) (rec *httptest.ResponseRecorder, cut any) {
		rec = httptest.NewRecorder()
		defer func() { cut = recover() }()
		g.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		return rec, nil
	}
	if rec, cut := get("/boom"); rec.Code != 500 || strings.Contains(rec.Body.String(), "secret") || cut != nil {
		t.Errorf("panic: %d %s %v", rec.Code, rec.Body, cut)
	}
	if _, cut := get("/half"); cut != http.ErrAbortHandler {
		t.Errorf("a half answer ended as if whole: %v", cut)
	}
	if rec, _ := get("/guarded"); rec.Code != 401 {
		t.Errorf("guarded mount: %d", rec.Code)
	}
}

func TestRequestIdentity(t *testing.T) {
	g := bare()
	g.router = g.routes()
	for _, c := range []struct{ sent, want string }{{"abc-1", "abc-1"}, {"bad id\n", ""}, {"", ""}} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/nosuch", nil)
		r.Header.Set("X-Request-Id", c.sent)
		r.Header.Set("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		rec := httptest.NewRecorder()
		g.ServeHTTP(rec, r)
		got := rec.Header().Get("X-Request-Id")
		if c.want != "" && got != c.want || got == "" || got == "bad id\n" {
			t.Errorf("sent %q, got %q", c.sent, got)
		}
		if !strings.Contains(rec.Body.String(), "4bf92f3577b34da6a3ce929d0e0e4736") || rec.Header().Get("traceparent") == "" {
			t.Errorf("the trace is lost: %s", rec.Body)
		}
		if rec.Header().Get("Access-Control-Allow-Origin") != "" || rec.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("headers %v", rec.Header())
		}
	}
}

func TestErrorsOfTheClientsLeaving(t *testing.T) {
	if p, internal := explainError(context.Canceled); p.Status != statusClientGone || internal {
		t.Errorf("%+v, internal %v", p, internal)
	}
}
