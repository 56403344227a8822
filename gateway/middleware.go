package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"time"
)

// state is what one request's wrapper and handler tell each other.
type state struct {
	id    string // of the request, in the answer and in the log
	trace string // W3C trace id, when the caller sent one
	route string // the template that matched
	quiet bool   // left out of the access log
}

type stateKey struct{}

// stateOf returns the request's state; outside of a request, an empty one.
func stateOf(ctx context.Context) *state {
	if st, ok := ctx.Value(stateKey{}).(*state); ok {
		return st
	}
	return &state{}
}

var (
	requestIDPattern   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	traceparentPattern = regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$`)
)

// outer wraps the router, because mux runs its own middleware for neither 404
// nor 405.
func (g *Gateway) outer(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	st := &state{id: r.Header.Get("X-Request-Id"), route: unmatched}
	if !requestIDPattern.MatchString(st.id) {
		st.id = newRequestID()
	}
	if m := traceparentPattern.FindStringSubmatch(r.Header.Get("traceparent")); m != nil {
		st.trace = m[1]
		w.Header().Set("traceparent", m[0])
	}
	r = r.WithContext(context.WithValue(r.Context(), stateKey{}, st))
	rec := &recorder{ResponseWriter: w}
	safeHeaders(w.Header(), st.id)
	defer func() {
		p := recover()
		begun := rec.status != 0
		if p != nil && p != http.ErrAbortHandler {
			g.log.Error("handler panicked", "request", st.id, "route", st.route, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			if !begun {
				g.fail(rec, r, fmt.Errorf("panic: %v", p))
			}
		}
		took := time.Since(start)
		status := rec.status
		if status == 0 {
			status = http.StatusOK
		}
		g.metrics.request(r.Method, st.route, strconv.Itoa(status), took)
		if !st.quiet {
			g.log.LogAttrs(r.Context(), levelOf(status), "request answered", slog.String("request", st.id), slog.String("method", r.Method),
				slog.String("route", st.route), slog.Int("status", status), slog.Int64("bytes", rec.bytes), slog.Duration("took", took))
		}
		if p == http.ErrAbortHandler || p != nil && begun {
			panic(http.ErrAbortHandler) // net/http cuts the connection
		}
	}()
	g.router.ServeHTTP(rec, r)
}

// levelOf keeps the usual log to the answers that an operator must look into. A
// line for each call is there at level debug: at thousands of calls a second it
// would be most of what the server writes.
func levelOf(status int) slog.Level {
	if status >= http.StatusInternalServerError {
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// safeHeaders makes browsers treat answers as data: never sniffed, framed or
// cached. Other origins may not read them, because no CORS header is sent.
func safeHeaders(h http.Header, id string) {
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// wrap makes an http.Handler of a route: it notes the template, checks the key,
// and turns a returned error into an answer.
func (g *Gateway) wrap(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := stateOf(r.Context())
		st.route = rt.path
		st.quiet = rt.path == "/livez" || rt.path == "/readyz" || rt.path == "/healthz" || rt.path == "/metrics"
		if !rt.open {
			if err := g.authorize(r); err != nil {
				g.fail(w, r, err)
				return
			}
		}
		if err := rt.handle(w, r); err != nil {
			if rec, ok := w.(*recorder); ok && rec.status != 0 {
				// The head has gone out: cut the connection, so that the caller
				// cannot take a part for the whole.
				if r.Context().Err() == nil {
					g.log.Warn("answer broke off", "request", st.id, "route", st.route, "err", err)
				}
				panic(http.ErrAbortHandler)
			}
			g.fail(w, r, err)
		}
	})
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController flush and set deadlines.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush serves mounted handlers that look for http.Flusher.
func (w *recorder) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
