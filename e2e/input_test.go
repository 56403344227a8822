package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// TestBadInput sends what a client can get wrong. Each answer has its status, a
// code, and most a hint; and none leaves a task behind.
func TestBadInput(t *testing.T) {
	srv := server(t, "--runtime", "simulated")
	deploySpec(t, srv, "name: echo\nimage: spillway/echo:latest\n")
	big := `{"x":"` + strings.Repeat("a", 7<<20) + `"}`
	for _, c := range []struct {
		name, method, path, body string
		header                   map[string]string
		status                   int
		says                     string // in the body
	}{
		{"unknown function", "POST", "/v1/functions/nosuch/invoke", `{}`, nil, 404, "nosuch"},
		{"unknown function, async", "POST", "/async-function/nosuch", `{}`, nil, 404, "nosuch"},
		{"bad JSON", "POST", "/v1/functions/echo/invoke", `{"a":`, map[string]string{"Content-Type": "application/json"}, 400, "JSON"},
		{"oversized body", "POST", "/v1/functions/echo/invoke", big, map[string]string{"Content-Type": "application/json"}, 413, "/v1/uploads"},
		{"unknown task", "GET", "/v1/tasks/0198a0b0-0000-7000-8000-000000000000", "", nil, 404, "task"},
		{"unknown task of the old system", "GET", "/api/v1/status/0198a0b0-0000-7000-8000-000000000000", "", nil, 404, "detail"},
		{"spec with an unknown key", "POST", "/v1/functions", "name: x\nimage: y\nimagee: z\n", map[string]string{"Content-Type": "application/yaml"}, 400, "line 3"},
		{"spec with a bad value", "POST", "/v1/functions", "name: x\nimage: y\ntimeout: soon\n", map[string]string{"Content-Type": "application/yaml"}, 400, "timeout"},
		{"bad device", "POST", "/v1/functions/echo/invoke", `{}`, map[string]string{"Spillway-Device": "tpu"}, 400, "tpu"},
		{"upload of a path", "POST", "/v1/uploads", `{"function":"echo","name":"../../etc/passwd","size":1}`, nil, 400, "passwd"},
		{"upload of an absolute path", "POST", "/v1/uploads", `{"function":"echo","name":"/etc/passwd","size":1}`, nil, 400, "name"},
		{"upload with NUL", "POST", "/v1/uploads", `{"function":"echo","name":"a\u0000b","size":1}`, nil, 400, "control"},
		{"upload of a long name", "POST", "/v1/uploads", `{"function":"echo","name":"` + strings.Repeat("n", 300) + `","size":1}`, nil, 400, "255"},
		{"upload of negative size", "POST", "/v1/uploads", `{"function":"echo","name":"a","size":-1}`, nil, 400, "size"},
		{"upload for no function", "POST", "/v1/uploads", `{"function":"nosuch","name":"a","size":1}`, nil, 404, "nosuch"},
		{"unknown route", "GET", "/v1/nosuch", "", nil, 404, ""},
		{"wrong method", "DELETE", "/v1/functions", "", nil, 405, ""},
		{"function name with a path", "GET", "/v1/functions/..%2f..%2fetc", "", nil, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := map[string]string{"Content-Type": "application/json"}
			for k, v := range c.header {
				h[k] = v
			}
			status, header, body, err := srv.Call(t.Context(), c.method, c.path, h, strings.NewReader(c.body))
			var p *harness.Problem
			if !errors.As(err, &p) {
				t.Fatalf("answered %d %s (err %v), want an error", status, body, err)
			}
			if c.status != 0 && !sameClass(status, c.status) {
				t.Errorf("status %d, want %d: %s", status, c.status, body)
			}
			if !strings.Contains(string(body), c.says) {
				t.Errorf("the answer does not say %q: %s", c.says, body)
			}
			if !strings.HasPrefix(c.path, "/api/") && (!strings.HasPrefix(header.Get("Content-Type"), "application/problem+json") || p.Code == "") {
				t.Errorf("not a problem with a code: %s %s", header.Get("Content-Type"), body)
			}
		})
	}
	if ids := listAll(t.Context(), t, srv); len(ids) != 0 {
		t.Errorf("refused requests left %d tasks", len(ids))
	}
}

// sameClass takes 400 and 422 for one: both say that the request is wrong.
func sameClass(a, b int) bool {
	norm := func(s int) int {
		if s == 422 {
			return 400
		}
		return s
	}
	return norm(a) == norm(b)
}

// TestUploads puts good and odd files through presigned URLs.
func TestUploads(t *testing.T) {
	needShell(t, "")
	srv := server(t)
	deploySpec(t, srv, shell("names", "ls /task/in; wc -c /task/in/*"))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Minute, errors.New("over 3 minutes"))
	defer cancel()

	upload := func(t *testing.T, name, contentType string, data []byte) harness.Task {
		t.Helper()
		id, err := srv.Upload(ctx, "names", name, contentType, data)
		if err != nil {
			t.Fatal(err)
		}
		task, err := srv.WaitTask(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if task.Status != string(functions.Succeeded) {
			t.Fatalf("ended as %s: %+v", task.Status, task.Failure)
		}
		return task
	}
	t.Run("unicode name", func(t *testing.T) { upload(t, "Grüße 世界 %20+.txt", "text/plain", []byte("hello")) })
	t.Run("zero bytes", func(t *testing.T) { upload(t, "empty.bin", "application/octet-stream", nil) })
	t.Run("a lying content type is seen through", func(t *testing.T) {
		png := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"), bytes.Repeat([]byte{0}, 64)...)
		task := upload(t, "report.pdf", "application/pdf", png)
		if task.Route.Class != functions.Image || task.Route.Sniffed != "image/png" || task.Route.Declared != "application/pdf" {
			t.Errorf("route %+v; the bytes are a PNG", task.Route)
		}
	})
	t.Run("tampered URL is refused", func(t *testing.T) {
		var s struct {
			ID     functions.TaskID           `json:"id"`
			Upload functions.PresignedRequest `json:"upload"`
		}
		ask := map[string]any{"function": "names", "name": "a.txt", "size": 5, "content_type": "text/plain"}
		if err := srv.JSON(ctx, http.MethodPost, "/v1/uploads", ask, &s); err != nil {
			t.Fatal(err)
		}
		bad := s.Upload
		bad.URL = strings.Replace(bad.URL, "a.txt", "b.txt", 1)
		if err := harness.PutPresigned(ctx, bad, []byte("hello")); err == nil {
			t.Error("a URL for another key was taken")
		}
		if err := harness.PutPresigned(ctx, s.Upload, []byte("hello and more")); err == nil {
			t.Error("more bytes than were signed were taken")
		}
		_, _, body, err := srv.Call(ctx, http.MethodPost, "/v1/uploads/"+string(s.ID)+"/complete", nil, nil)
		if err == nil {
			t.Errorf("completed without the object: %s", body)
		}
		task, err := srv.Task(ctx, s.ID)
		if err != nil || task.Status != string(functions.AwaitingUpload) {
			t.Errorf("task is %s (err %v), want still awaiting its upload", task.Status, err)
		}
	})
}

// TestIdempotency repeats calls with a key.
func TestIdempotency(t *testing.T) {
	srv := server(t, "--runtime", "simulated")
	deploySpec(t, srv, "name: echo\nimage: spillway/echo:latest\n")
	h := map[string]string{"Idempotency-Key": "once"}
	first, err := srv.Submit(t.Context(), "echo", `{"n":1}`, h)
	if err != nil {
		t.Fatal(err)
	}
	again, err := srv.Submit(t.Context(), "echo", `{"n":1}`, h)
	if err != nil || again != first {
		t.Errorf("the same call gave %s (err %v), want %s again", again, err, first)
	}
	_, err = srv.Submit(t.Context(), "echo", `{"n":2}`, h)
	var p *harness.Problem
	if !errors.As(err, &p) || p.Status != 422 && p.Status != 409 {
		t.Errorf("another body under the same key gave %v, want 422", err)
	}
}

// TestAuth starts without --no-auth.
func TestAuth(t *testing.T) {
	srv := server(t, "--runtime", "simulated", "--no-auth=false")
	for path, want := range map[string]int{"/v1/tasks": 401, "/livez": 200} {
		resp, err := http.Get(srv.Gateway + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s without a key: %d, want %d: %s", path, resp.StatusCode, want, b)
		}
		if want == 401 {
			var p harness.Problem
			if json.Unmarshal(b, &p) != nil || p.Hint == "" {
				t.Errorf("no hint: %s", b)
			}
		}
	}
	if _, err := srv.CLI(t.Context(), "tasks", "-o", "json"); err != nil {
		t.Errorf("with the key: %v", err)
	}
}
