package webfetch

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

func TestPost(t *testing.T) {
	var got http.Header
	var body []byte
	elsewhere := 0
	mux := http.NewServeMux()
	mux.HandleFunc("POST /hook", func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/busy", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "17")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { elsewhere++ })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c, err := New(Config{Allow: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	status, _, err := c.Post(t.Context(), srv.URL+"/hook", http.Header{"Webhook-Id": {"x"}}, []byte(`{"a":1}`))
	if err != nil || status != http.StatusNoContent || string(body) != `{"a":1}` || got.Get("webhook-id") != "x" || got.Get("User-Agent") != "spillway" {
		t.Errorf("%d, %v; the server got %q and %v", status, err, body, got)
	}
	if status, pause, err := c.Post(t.Context(), srv.URL+"/busy", nil, nil); err != nil || status != 429 || pause != 17*time.Second {
		t.Errorf("busy: %d, %s, %v", status, pause, err)
	}
	if status, _, err := c.Post(t.Context(), srv.URL+"/moved", nil, nil); err != nil || status != 307 || elsewhere > 0 {
		t.Errorf("a redirect: %d, %v, followed %d times", status, err, elsewhere)
	}
	closed, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	got = nil
	if _, _, err := closed.Post(t.Context(), srv.URL+"/hook", nil, nil); !errors.Is(err, functions.ErrForbidden) || got != nil {
		t.Errorf("an internal address: %v, reached: %v", err, got != nil)
	}
	if err := closed.Check("ftp://host/x"); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("ftp is checked as %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "x": 0, "-5": 0, "30": 30 * time.Second, "999999999": 24 * time.Hour, "Mon, 02 Jan 2006 15:04:05 GMT": 0} {
		if got := retryAfter(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
