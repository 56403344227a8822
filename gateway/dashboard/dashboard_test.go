package dashboard

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

// serve returns the page's routes as one handler.
func serve(t *testing.T, store string) *http.ServeMux {
	t.Helper()
	p, err := New(Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	p.Routes(func(method, path string, h http.HandlerFunc) { mux.HandleFunc(method+" "+path, h) })
	return mux
}

func get(mux http.Handler, path, etag string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

var linkPattern = regexp.MustCompile(`(?:src|href)="([^"]*)"`)

// The page and its parts are small, named by their content, and under a policy
// that knows the store and nobody else.
func TestPage(t *testing.T) {
	mux := serve(t, "https://store.example:9000/path?q#f")
	page := get(mux, "/upload", "")
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' https://store.example:9000; " +
		"form-action 'self' https://store.example:9000; base-uri 'none'; frame-ancestors 'none'"
	if page.Code != http.StatusOK || page.Header().Get("Content-Security-Policy") != policy {
		t.Errorf("%d under the policy %q", page.Code, page.Header().Get("Content-Security-Policy"))
	}
	size := page.Body.Len()
	links := linkPattern.FindAllStringSubmatch(page.Body.String(), -1)
	if len(links) != 2 {
		t.Fatalf("links %v, want a style sheet and a module", links)
	}
	for _, l := range links {
		part := get(mux, l[1], "")
		size += part.Body.Len()
		if part.Code != http.StatusOK || !strings.Contains(part.Header().Get("Cache-Control"), "immutable") || !strings.Contains(l[1], strings.Trim(part.Header().Get("ETag"), `"`)) {
			t.Errorf("%s: %d %v", l[1], part.Code, part.Header())
		}
	}
	if size > 20_000 {
		t.Errorf("the page has %d bytes, over 20 kB", size)
	}
	etag := page.Header().Get("ETag")
	if again := get(mux, "/upload", etag); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("with its ETag: %d with %d bytes", again.Code, again.Body.Len())
	}
	if old := get(mux, "/upload", `"old"`); old.Code != http.StatusOK {
		t.Errorf("with an old ETag: %d", old.Code)
	}
}

// Nothing in the page could run or load what the policy forbids.
func TestPageHasNothingInline(t *testing.T) {
	for _, name := range []string{"page.html", "upload.js"} {
		b, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"style=", "onclick=", "innerHTML", "outerHTML", "insertAdjacent", "eval(", "document.write", "http://", "//cdn"} {
			if strings.Contains(string(b), bad) {
				t.Errorf("%s holds %s", name, bad)
			}
		}
	}
}

func TestStoreThatNoPolicyCanName(t *testing.T) {
	for _, bad := range []string{"", "store:9000", "ftp://store", "http://", "http://a;script-src *", "http://a b", "http://a'b", "http://a,b"} {
		if _, err := New(Config{Store: bad}); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for good, want := range map[string]string{"http://[::1]:9000": " http://[::1]:9000;", "http://user:pass@s3.example/x": " http://s3.example;"} {
		if got := get(serve(t, good), "/upload", "").Header().Get("Content-Security-Policy"); !strings.Contains(got, want) {
			t.Errorf("%s: %s", good, got)
		}
	}
}
