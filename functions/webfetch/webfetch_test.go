package webfetch

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a server with files and with every way of being a bad server.
func site(t *testing.T) *httptest.Server {
	t.Helper()
	data := bytes.Repeat([]byte("0123456789"), 1000)
	mux := http.NewServeMux()
	mux.HandleFunc("/file.wav", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "audio/wav")
		http.ServeContent(w, r, "file.wav", time.Time{}, bytes.NewReader(data))
	})
	mux.HandleFunc("/whole", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data)
	})
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) {
		for range 10 {
			_, _ = w.Write(data)
			w.(http.Flusher).Flush()
		}
	})
	mux.HandleFunc("/empty", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "empty.txt", time.Time{}, bytes.NewReader(nil))
	})
	mux.HandleFunc("/short", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "20000")
		_, _ = w.Write(data)
	})
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "identity") {
			t.Errorf("asks for %q", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte("not really gzip"))
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X", strings.Repeat("x", 128<<10)) })
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.WriteHeader(code)
	})
	mux.HandleFunc("/hops/{n}", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Referer") != "" {
			t.Errorf("tells the next server where it came from: %s", r.Header.Get("Referer"))
		}
		n, _ := strconv.Atoi(r.PathValue("n"))
		http.Redirect(w, r, cmp.Or(map[bool]string{n > 1: "/hops/" + strconv.Itoa(n-1)}[true], "/file.wav"), http.StatusFound)
	})
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("url"))
		w.WriteHeader(http.StatusFound)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func mustClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFetch(t *testing.T) {
	s := site(t)
	port := s.Listener.Addr().String()[strings.LastIndexByte(s.Listener.Addr().String(), ':'):]
	names := hosts{
		"site": {{"127.0.0.1"}}, "inside": {{"127.0.0.2"}}, "fickle": {{"8.8.8.8"}, {"127.0.0.2"}},
		"mixed": {{"127.0.0.1", "127.0.0.2"}}, "dead-first": {{"127.0.0.3", "127.0.0.1"}},
	}
	c := mustClient(t, Config{Allow: []string{"127.0.0.1", "127.0.0.3"}, Resolver: names, MaxSize: 50_000})
	for _, tt := range []struct {
		path  string
		class error
		size  int64
	}{
		{"/file.wav", nil, 10000}, {"/whole", nil, 10000}, {"/empty", nil, 0}, {"/gzip", nil, 15}, {"/hops/5", nil, 10000},
		{"/hops/6", functions.ErrNotFound, 0}, {"/chunked", functions.ErrTooLarge, 0}, {"/short", functions.ErrUnavailable, 0},
		{"/headers", functions.ErrUnavailable, 0}, {"/status/404", functions.ErrNotFound, 0}, {"/status/403", functions.ErrNotFound, 0},
		{"/status/204", functions.ErrNotFound, 0}, {"/status/302", functions.ErrNotFound, 0}, {"/status/206", functions.ErrNotFound, 0},
		{"/status/500", functions.ErrUnavailable, 0}, {"/status/503", functions.ErrUnavailable, 0}, {"/status/429", functions.ErrUnavailable, 0},
		{"/to?url=http://127.0.0.2" + port + "/file.wav", functions.ErrForbidden, 0}, {"/to?url=http://inside" + port + "/file.wav", functions.ErrForbidden, 0},
		{"/to?url=http://169.254.169.254/latest", functions.ErrForbidden, 0}, {"/to?url=http://[::1]" + port + "/", functions.ErrForbidden, 0},
		{"/to?url=file:///etc/passwd", functions.ErrInvalid, 0}, {"/to?url=http://2130706433/", functions.ErrInvalid, 0},
		{"/to?url=http://u:p@site" + port + "/file.wav", functions.ErrInvalid, 0}, {"/to?url=//site" + port + "/file.wav", nil, 10000},
		{"http://inside" + port + "/file.wav", functions.ErrForbidden, 0}, {"http://mixed" + port + "/file.wav", functions.ErrForbidden, 0},
		{"http://unknown" + port + "/file.wav", functions.ErrUnavailable, 0}, {"http://dead-first" + port + "/file.wav", nil, 10000},
		{"http://localhost" + port + "/", functions.ErrUnavailable, 0}, {"http://127.0.0.3" + port + "/", functions.ErrUnavailable, 0},
	} {
		t.Run(strings.ReplaceAll(tt.path, "/", "|"), func(t *testing.T) {
			raw := tt.path
			if strings.HasPrefix(raw, "/") {
				raw = "http://site" + port + raw
			}
			var got bytes.Buffer
			sum, size, err := c.Fetch(t.Context(), raw, &got, 1<<30)
			if tt.class != nil {
				if !errors.Is(err, tt.class) {
					t.Errorf("err %v, want %v", err, tt.class)
				}
				return
			}
			want := sha256.Sum256(got.Bytes())
			if err != nil || size != tt.size || int64(got.Len()) != tt.size || sum != hex.EncodeToString(want[:]) {
				t.Errorf("%d bytes, sum %s, %v", size, sum, err)
			}
		})
	}
	t.Run("a name that changes its mind is refused at the dial", func(t *testing.T) {
		if _, err := c.http.Transport.(*http.Transport).DialContext(t.Context(), "tcp", "inside"+port); !errors.Is(err, functions.ErrForbidden) {
			t.Errorf("dialled: %v", err)
		}
		names["fickle"] = [][]string{{"127.0.0.1"}, {"127.0.0.2"}}
		if _, _, err := c.Fetch(t.Context(), "http://fickle"+port+"/file.wav", io.Discard, 1<<30); err != nil {
			t.Errorf("first: %v", err)
		}
		if _, _, err := c.Fetch(t.Context(), "http://fickle"+port+"/file.wav", io.Discard, 1<<30); !errors.Is(err, functions.ErrForbidden) {
			t.Errorf("then: %v", err)
		}
	})
	t.Run("no room is not too large", func(t *testing.T) {
		for _, path := range []string{"/whole", "/chunked"} {
			if _, _, err := c.Fetch(t.Context(), "http://site"+port+path, io.Discard, 100); !errors.Is(err, functions.ErrUnavailable) {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
	t.Run("a proxy of the environment is not asked", func(t *testing.T) {
		if c.http.Transport.(*http.Transport).Proxy != nil {
			t.Error("it is")
		}
	})
	t.Run("errors hide the query", func(t *testing.T) {
		for _, path := range []string{"/status/404", "/status/500", "/short", "/headers"} {
			_, _, err := c.Fetch(t.Context(), "http://site"+port+path+"?token=secret", io.Discard, 1<<30)
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v", err)
			}
		}
	})
}

func TestProbe(t *testing.T) {
	s := site(t)
	c := mustClient(t, Config{Allow: []string{"127.0.0.0/8"}, MaxSize: 50_000})
	for path, want := range map[string]struct {
		size       int64
		kind, head string
	}{
		"/file.wav": {10000, "audio/wav", "01234"},
		"/whole":    {10000, "text/plain; charset=utf-8", "01234"},
		"/chunked":  {functions.UnknownSize, "text/plain; charset=utf-8", "01234"},
		"/empty":    {0, "text/plain; charset=utf-8", ""},
	} {
		got, head, err := c.Probe(t.Context(), s.URL+path, 5)
		if err != nil || got.Size != want.size || string(head) != want.head || head == nil || got.ContentType != want.kind {
			t.Errorf("%s: %+v %q %v, want %+v", path, got, head, err, want)
		}
	}
	for path, class := range map[string]error{"/status/404": functions.ErrNotFound, "/status/500": functions.ErrUnavailable} {
		if _, _, err := c.Probe(t.Context(), s.URL+path, 5); !errors.Is(err, class) {
			t.Errorf("%s: %v", path, err)
		}
	}
	small := mustClient(t, Config{Allow: []string{"127.0.0.0/8"}, MaxSize: 100})
	for _, path := range []string{"/file.wav", "/whole"} {
		if _, _, err := small.Probe(t.Context(), s.URL+path, 5); !errors.Is(err, functions.ErrTooLarge) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// drip is a server that gives n bytes at a time, with a pause before each.
type drip struct {
	pause time.Duration
	n     int
	left  int
}

func (d *drip) RoundTrip(r *http.Request) (*http.Response, error) {
	pr, pw := io.Pipe()
	go func() {
		for ; d.left > 0; d.left -= d.n {
			timer := time.NewTimer(d.pause)
			select {
			case <-timer.C:
			case <-r.Context().Done():
				timer.Stop()
				pw.CloseWithError(r.Context().Err())
				return
			}
			if _, err := pw.Write(make([]byte, min(d.n, d.left))); err != nil {
				return
			}
		}
		pw.Close()
	}()
	return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: pr, Request: r, Header: http.Header{}}, nil
}

func TestASlowDripEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		drip drip
		ends time.Duration // 0: it succeeds
	}{
		{"never a byte", drip{pause: time.Hour, n: 1, left: 1000}, 30 * time.Second},
		{"a byte now and then", drip{pause: 20 * time.Second, n: 1, left: 1000}, time.Minute},
		{"slow but fair", drip{pause: time.Second, n: 100_000, left: 30_000_000}, 0},
		{"fair at first", drip{pause: 10 * time.Second, n: 700_000, left: 30_000_000}, 0},
		{"fair for ever", drip{pause: time.Second, n: 100_000, left: 10_000_000_000}, 10 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := mustClient(t, Config{Total: 10 * time.Minute})
				client.http.Transport = &c.drip
				began := time.Now()
				_, size, err := client.Fetch(t.Context(), "http://site/x?token=secret", io.Discard, 1<<40)
				took := time.Since(began)
				if c.ends == 0 {
					if err != nil || size != 30_000_000 {
						t.Errorf("%d bytes after %s: %v", size, took, err)
					}
					return
				}
				if !errors.Is(err, functions.ErrUnavailable) || took > c.ends+time.Second || strings.Contains(err.Error(), "secret") {
					t.Errorf("err %v after %s, want it to end in %s", err, took, c.ends)
				}
			})
		})
	}
}

func TestACanceledFetchSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := mustClient(t, Config{})
		client.http.Transport = &drip{pause: 10 * time.Second, n: 1, left: 10}
		why := errors.New("the task was canceled")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		if _, _, err := client.Fetch(ctx, "http://site/x", io.Discard, 1<<40); !errors.Is(err, why) {
			t.Errorf("%v", err)
		}
	})
}

func TestShow(t *testing.T) {
	for raw, want := range map[string]string{
		"https://user:pw@host:1/a/b?token=x#y": "https://host:1/a/b", "http://host": "http://host", "http://host?x": "http://host", "nonsense?x": "nonsense",
	} {
		if got := Show(raw); got != want {
			t.Errorf("%q shows %q", raw, got)
		}
		if _, err := url.Parse(Show(raw)); err != nil {
			t.Error(err)
		}
	}
}
