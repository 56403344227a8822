package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/spillway/spillway/functions"
)

const (
	// idleConn is how long a connection is kept for the next invocation. Servers
	// close theirs after 2 s (gunicorn) or 5 s (Node), and a request that meets the
	// close is lost; a new connection takes a tenth of a millisecond.
	idleConn = time.Second
	// firstPoll and lastPoll are the pauses between two looks at a server that is
	// not ready.
	firstPoll = 20 * time.Millisecond
	lastPoll  = 500 * time.Millisecond
	// probeTime bounds one look.
	probeTime = 5 * time.Second
)

// HTTPConfig says how a server in a container is reached.
type HTTPConfig struct {
	Dial        func(ctx context.Context) (net.Conn, error) // connects to its port
	Port        int                                         // in the Host header
	Path        string                                      // of an invocation; empty means /
	Health      string                                      // GET answers 2xx when it is ready; empty = it accepts connections
	Concurrency int                                         // connections that are kept; 0 means 1
}

// HTTP invokes a function that is a server in one container.
type HTTP struct {
	cfg       HTTPConfig
	base      string
	transport *http.Transport
	end       ending
}

// NewHTTP makes an HTTP and connects to nothing.
func NewHTTP(cfg HTTPConfig) *HTTP {
	h := &HTTP{cfg: cfg, base: "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.Port)), end: newEnding()}
	h.cfg.Concurrency = max(1, cfg.Concurrency)
	if h.cfg.Path == "" {
		h.cfg.Path = "/"
	}
	h.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := cfg.Dial(ctx)
			if err != nil {
				return nil, &unreached{err}
			}
			return conn, nil
		},
		DisableCompression:     true, // the answer is passed on as it is
		MaxIdleConns:           h.cfg.Concurrency,
		MaxIdleConnsPerHost:    h.cfg.Concurrency,
		IdleConnTimeout:        idleConn,
		MaxResponseHeaderBytes: 1 << 20,
		// HTTP/1 only: an empty map turns the upgrade to HTTP/2 off.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	return h
}

// unreached is a connection that was not made.
type unreached struct{ error }

func (u *unreached) Unwrap() error { return u.error }

// Ready returns when the server can be invoked. It asks until ctx ends; then the
// error is a fault that says what was missing.
func (h *HTTP) Ready(ctx context.Context) error {
	var last error
	for wait := firstPoll; ; wait = min(2*wait, lastPoll) {
		if last = h.probe(ctx); last == nil {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			continue
		case <-h.end.ctx.Done():
			timer.Stop()
			return h.end.fault(false)
		case <-ctx.Done():
			timer.Stop()
		}
		f := fault(functions.BadEntry, "the server on port %d was not ready in time: %v", h.cfg.Port, last)
		f.Hint = "the program must listen on $PORT, which is http.port of the spec"
		f.Delivered = false
		return f
	}
}

func (h *HTTP) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	if h.cfg.Health == "" {
		conn, err := h.cfg.Dial(ctx)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+h.cfg.Health, nil)
	if err != nil {
		return err
	}
	res, err := h.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.CopyN(io.Discard, res.Body, 64<<10); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("GET %s answers %s", h.cfg.Health, res.Status)
	}
	return nil
}

// Invoke posts the event and reads the answer.
func (h *HTTP) Invoke(ctx context.Context, r Request) (Response, error) {
	if len(r.Body) > MostBody {
		return Response{}, tooLarge(len(r.Body))
	}
	if h.end.over() {
		return Response{}, h.end.fault(false)
	}
	ctx, cancel := context.WithDeadlineCause(ctx, time.Now().Add(r.Timeout), errDeadline)
	defer cancel()
	ctx, leave := h.end.watch(ctx)
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+h.cfg.Path, bytes.NewReader(r.Body))
	if err != nil {
		return Response{}, fault(functions.Permanent, "http.path %q cannot be asked for: %v", h.cfg.Path, err)
	}
	h.head(ctx, req.Header, r)
	res, err := h.transport.RoundTrip(req)
	if err != nil {
		return Response{}, h.broken(ctx, r, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return Response{}, fault(functions.BadOutput, "the server wants to leave HTTP for %q; an invocation is one request and one answer", res.Header.Get("Upgrade"))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, MostBody+1))
	if err != nil {
		return Response{}, h.broken(ctx, r, err)
	}
	if len(body) > MostBody {
		return Response{}, answerTooLarge()
	}
	if f := judge(res, body); f != nil {
		return Response{}, f
	}
	return Response{Body: body, ContentType: res.Header.Get("Content-Type")}, nil
}

func (h *HTTP) head(ctx context.Context, header http.Header, r Request) {
	header.Set("Content-Type", "application/json")
	if r.ContentType != "" {
		header.Set("Content-Type", r.ContentType)
	}
	header.Set("User-Agent", "spillway")
	header.Set("X-Task-Id", string(r.Task))
	header.Set("X-Task-Attempt", strconv.Itoa(r.Attempt))
	if deadline, ok := ctx.Deadline(); ok {
		header.Set("X-Task-Deadline-Ms", strconv.FormatInt(deadline.UnixMilli(), 10))
	}
	if r.TraceParent != "" {
		header.Set("Traceparent", r.TraceParent)
	}
	r.Source.mark(header, r.Task)
}

// broken says what it means that no whole answer came.
func (h *HTTP) broken(ctx context.Context, r Request, err error) *Fault {
	_, missed := errors.AsType[*unreached](err)
	switch {
	case h.end.over():
		return h.end.fault(!missed)
	case ctx.Err() != nil:
		return stopped(ctx, r.Timeout, !missed)
	}
	f := fault(functions.Crashed, "the server broke the connection off before its answer was complete: %v", err)
	f.Delivered = !missed
	return f
}

// End tells of the container's end: what is in flight, and every later
// invocation, fails for that reason.
func (h *HTTP) End(why functions.Failure) { h.end.set(why) }

// Close lets go of the connections that are kept.
func (h *HTTP) Close() { h.transport.CloseIdleConnections() }
