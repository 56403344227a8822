package gateway_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

// Whatever comes in, the answer is one that openapi.json knows and never a 500,
// and what is stored has a legal name.

func (w *world) survives(t *testing.T, method, path, body string, header map[string]string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
	u, err := url.Parse(path)
	if err != nil {
		return
	}
	r.URL = u
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w.clear()
	rec := httptest.NewRecorder()
	w.g.ServeHTTP(rec, r)
	if rec.Code >= 500 {
		t.Errorf("%s %q %q %q: %d %s", method, path, body, header, rec.Code, rec.Body)
	}
	for key := range w.objects {
		if name := key[strings.LastIndexByte(key, '/')+1:]; functions.FileName(name) != nil || strings.Count(key, "/") > 3 {
			t.Errorf("stored as %q", key)
		}
	}
}

// clear forgets what earlier inputs left.
func (w *world) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.tasks)
	clear(w.keys)
	clear(w.objects)
}

func FuzzInvoke(f *testing.F) {
	f.Add(`{"a":1}`, "application/json", "", "", "")
	f.Add("hello", "text/plain", `attachment; filename="../x"`, "wait=1", "gpu")
	f.Add("\x89PNG", "image/png", "attachment; filename*=UTF-8''%2e%2e%2f", "respond-async", "required")
	w := newWorld(f, nil)
	f.Fuzz(func(t *testing.T, body, kind, disposition, prefer, device string) {
		w.survives(t, "POST", "/v1/functions/echo/invoke?wait=0", body, map[string]string{
			"Content-Type": kind, "Content-Disposition": disposition, "Prefer": prefer, "Spillway-Device": device, "Idempotency-Key": device})
	})
}

func FuzzExplain(f *testing.F) {
	f.Add(`{"file_name":"a.webm","content_type":"audio/webm","head_base64":"iVBORw0KGgo="}`)
	f.Add(`{"function":"echo","device":"never","version":-1}`)
	w := newWorld(f, nil)
	f.Fuzz(func(t *testing.T, body string) {
		w.survives(t, "POST", "/v1/route:explain", body, nil)
		w.survives(t, "POST", "/v1/uploads", body, nil)
		w.survives(t, "POST", "/v1/functions", body, nil)
	})
}

func FuzzUpload(f *testing.F) {
	f.Add(`{"function":"echo","name":"a b","size":5}`, `{"parts":[{"number":1}]}`, "text/html")
	f.Add(`{"function":"echo","name":"\"><b>","method":"form","type":"text/html"}`, `{"parts":[{"number":-1,"sha256":"00"}]}`, "text/html;q=0,*/*")
	f.Add(`{"function":"echo","name":"a","size":99999999999,"part_checksums":true,"method":"multipart"}`, `{}`, "")
	w := newWorld(f, nil)
	w.run = nil
	f.Fuzz(func(t *testing.T, body, parts, accept string) {
		header := map[string]string{"Accept": accept}
		w.survives(t, "POST", "/v1/uploads", body, header)
		for _, id := range w.ids() {
			at := "/v1/uploads/" + string(id)
			for _, c := range [][2]string{{"GET", ""}, {"POST", "/parts"}, {"POST", "/complete"}, {"DELETE", ""}} {
				r := httptest.NewRequestWithContext(t.Context(), c[0], at+c[1], strings.NewReader(parts))
				r.Header.Set("Accept", accept)
				rec := httptest.NewRecorder()
				w.g.ServeHTTP(rec, r)
				w.conforms(t, r, rec)
				if rec.Code >= 500 {
					t.Errorf("%s %s %q of %q: %d %s", c[0], c[1], parts, body, rec.Code, rec.Body)
				}
			}
		}
	})
}

func FuzzPaths(f *testing.F) {
	for _, s := range []string{"..%2f", "%00", "a/../b", "01a20a1e", "é", "%", "x:explain", strings.Repeat("n", 400)} {
		f.Add(s)
	}
	w := newWorld(f, nil)
	f.Fuzz(func(t *testing.T, part string) {
		for _, path := range []string{"/v1/functions/%s", "/v1/tasks/%s", "/v1/tasks/%s/outputs/x", "/v1/tasks/01a2/outputs/%s", "/v1/nodes/%s", "/v1/uploads/%s", "/v1/tasks?id=%s&cursor=%s"} {
			w.survives(t, "GET", strings.ReplaceAll(path, "%s", part), "", nil)
		}
	})
}
