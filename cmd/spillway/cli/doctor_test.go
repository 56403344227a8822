package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// healthy answers as a gateway with one node, one GPU and no results.
func healthy() answers {
	return answers{
		"GET /livez":    {200, "ok\n"},
		"GET /readyz":   {200, "[+]store ok\nready\n"},
		"GET /v1/nodes": {200, `{"nodes":[{"id":"n1","alive":true,"ready":true,"driver":"docker","gpus":[{"uuid":"GPU-1","state":"free"}]}]}`},
		"GET /v1/tasks": {200, `{"tasks":[]}`},
	}
}

// report runs doctor and returns its lines by check.
func report(t *testing.T, gateway http.Handler, host ...Check) (map[string]result, said) {
	t.Helper()
	srv := httptest.NewServer(gateway)
	defer srv.Close()
	got := runAs(t, App{Getenv: func(string) string { return "" }, Checks: host}, "doctor", "-o", "json", "--server", srv.URL)
	var results []result
	if err := json.Unmarshal([]byte(got.out), &results); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	lines := map[string]result{}
	for _, r := range results {
		lines[r.Check] = r
		if (r.State == "failed" || strings.HasPrefix(r.Found, "no node uses it")) && r.Fix == "" {
			t.Errorf("%s failed (%s) and names no fix", r.Check, r.Found)
		}
	}
	return lines, got
}

func TestDoctor(t *testing.T) {
	docker := Check{Name: "docker", Fix: "start it", Run: func(context.Context) (string, error) { return "29.0", nil }}
	for _, c := range []struct {
		name   string
		change func(answers)
		host   Check
		check  string
		state  string
		found  string
		code   int
	}{
		{"all is well", func(answers) {}, docker, "docker", "ok", "29.0", 0},
		{"no container engine", func(answers) {}, Check{Name: "docker", Fix: "start it", Run: func(context.Context) (string, error) { return "", errors.New("no socket") }}, "docker", "failed", "no socket", 1},
		{"nobody uses the engine", func(a answers) {
			a["GET /v1/nodes"] = ok(`{"nodes":[{"alive":true,"ready":true,"driver":"simulated"}]}`)
		}, docker, "docker", "skipped", "no node", 0},
		{"another runtime is used", func(answers) {}, away("containerd"), "containerd", "skipped", "no node uses it; no socket", 0},
		{"the runtime in use is away", func(answers) {}, away("docker"), "docker", "failed", "no socket", 1},
		{"no node", func(a answers) { a["GET /v1/nodes"] = ok(`{"nodes":[]}`) }, docker, "a node is ready", "failed", "no node", 1},
		{"a node is not ready", func(a answers) {
			a["GET /v1/nodes"] = ok(`{"nodes":[{"id":"n1","alive":true,"reason":"disk full"}]}`)
		}, docker, "a node is ready", "failed", "n1: disk full", 1},
		{"a part is not ready", func(a answers) {
			a["GET /readyz"] = answer{503, "[-]store not ready: x\nnot ready\n"}
		}, docker, "gateway is ready", "failed", "[-]store not ready: x", 1},
		{"a GPU is sick", func(a answers) {
			a["GET /v1/nodes"] = ok(`{"nodes":[{"id":"n1","alive":true,"ready":true,"driver":"docker","gpus":[{"uuid":"GPU-1","state":"quarantined","reason":"no toolkit"}]}]}`)
		}, docker, "GPUs are well", "warning", "GPU-1 on n1: no toolkit", 0},
		{"no GPU", func(a answers) {
			a["GET /v1/nodes"] = ok(`{"nodes":[{"id":"n1","alive":true,"ready":true,"driver":"docker"}]}`)
		}, docker, "GPUs are well", "skipped", "no node has one", 0},
		{"no result to try", func(answers) {}, docker, "store is reachable from here", "skipped", "no task has made an output", 0},
		{"no gateway", func(a answers) { delete(a, "GET /livez") }, docker, "gateway is ready", "skipped", "does not answer", 1},
	} {
		a := healthy()
		c.change(a)
		lines, got := report(t, a, c.host)
		if l := lines[c.check]; l.State != c.state || !strings.Contains(l.Found, c.found) || got.code != c.code {
			t.Errorf("%s: %s is %+v, exit code %d", c.name, c.check, l, got.code)
		}
	}
}

// away is the check of a runtime that does not answer.
func away(driver string) Check {
	return Check{Name: driver, Driver: driver, Fix: "start it", Run: func(context.Context) (string, error) { return "", errors.New("no socket") }}
}

func ok(body string) answer { return answer{200, body} }

func TestDoctorTriesTheStore(t *testing.T) {
	for status, want := range map[int]string{200: "ok", 206: "ok", 416: "ok", 404: "ok", 403: "failed", 500: "failed"} {
		var asked *http.Request
		store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r
			w.WriteHeader(status)
		}))
		a := healthy()
		a["GET /v1/tasks"] = ok(`{"tasks":[{"id":"t0"},{"id":"t1","outputs":[{"name":"o"}]}]}`)
		a["GET /v1/tasks/t1"] = ok(`{"id":"t1","outputs":[{"name":"o","download_url":"` + store.URL + `/o?X-Amz-Signature=secret"}]}`)
		lines, _ := report(t, a)
		l := lines["store is reachable from here"]
		if l.State != want || strings.Contains(l.Found, "secret") {
			t.Errorf("%d: %+v, want %s", status, l, want)
		}
		if asked == nil || asked.Header.Get("Range") != "bytes=0-0" || asked.Header.Get("Authorization") != "" {
			t.Errorf("%d: asked %v", status, asked)
		}
		store.Close()
		if status == 200 {
			lines, _ = report(t, a)
			if l := lines["store is reachable from here"]; l.State != "failed" || strings.Contains(l.Found, "secret") {
				t.Errorf("store away: %+v", l)
			}
		}
	}
}

func TestDoctorReadsClocks(t *testing.T) {
	for _, c := range []struct {
		date, state string
	}{
		{time.Now().UTC().Format(http.TimeFormat), "ok"},
		{time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat), "failed"},
		{time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), "failed"},
		{"yesterday", "failed"},
	} {
		lines, _ := report(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", c.date)
			healthy().ServeHTTP(w, r)
		}))
		if l := lines["clocks agree"]; l.State != c.state {
			t.Errorf("%s: %+v, want %s", c.date, l, c.state)
		}
	}
}

// What runs on this machine says nothing about a gateway elsewhere.
func TestHostChecksAreForThisMachine(t *testing.T) {
	for base, skipped := range map[string]bool{
		"http://127.0.0.1:8080": false, "http://localhost:8080": false, "http://[::1]:8080": false,
		"https://spillway.example.com": true, "http://192.0.2.1:8080": true,
	} {
		if err := hostSkip(base, nil, nil); (err != nil) != skipped {
			t.Errorf("%s: %v", base, err)
		}
	}
}

// A check that hangs costs its own limit and is a failure like another.
func TestCheckIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := Check{Name: "slow", Fix: "wait", Run: func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}}.examine(t.Context(), nil)
		if r.State != "failed" || r.Fix != "wait" || time.Since(start) != checkLimit {
			t.Errorf("%+v after %s", r, time.Since(start))
		}
	})
}
