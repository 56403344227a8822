package serve

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// patience bounds what a test waits for.
const patience = time.Minute

// httpTo is an HTTP on a server in this process.
func httpTo(t *testing.T, handler http.HandlerFunc) (*HTTP, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(handler)
	h := NewHTTP(HTTPConfig{Dial: dialer(server), Port: 8080, Path: "/run?x=1"})
	t.Cleanup(func() { h.Close(); server.Close() })
	return h, server
}

func dialer(s *httptest.Server) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}
}

func request(body string) Request {
	return Request{Task: "0190-task", Attempt: 2, Timeout: patience, Body: []byte(body)}
}

func faultIn(t *testing.T, err error) *Fault {
	t.Helper()
	f, ok := errors.AsType[*Fault](err)
	if !ok {
		t.Fatalf("got %v, want a fault", err)
	}
	return f
}

func TestHTTPInvocation(t *testing.T) {
	var got *http.Request
	var body []byte
	h, _ := httpTo(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, "done")
	})
	r := request(`{"a":1}`)
	r.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	r.Source = SourceOf([]byte(`{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","awsRegion":"eu-west-1",
		"eventTime":"2026-11-23T09:00:00.123Z","s3":{"bucket":{"name":"uploads"},"object":{"key":"in/my+caf%C3%A9.png"}}}]}`))
	res, err := h.Invoke(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if string(res.Body) != "done" || res.ContentType != "text/plain" {
		t.Errorf("answer %q of type %q", res.Body, res.ContentType)
	}
	if got.Method != "POST" || got.URL.String() != "/run?x=1" || string(body) != `{"a":1}` || got.Host != "127.0.0.1:8080" {
		t.Errorf("asked %s %s of %s with %q", got.Method, got.URL, got.Host, body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Task-Id": "0190-task", "X-Task-Attempt": "2", "Traceparent": r.TraceParent,
		"Ce-Specversion": "1.0", "Ce-Id": "0190-task", "Ce-Type": "com.amazonaws.s3.ObjectCreated:Put",
		"Ce-Source": "aws:s3.eu-west-1.uploads", "Ce-Subject": "in/my%20caf%C3%A9.png", "Ce-Time": "2026-11-23T09:00:00.123Z",
	} {
		if have := got.Header.Get(name); have != want {
			t.Errorf("%s is %q, want %q", name, have, want)
		}
	}
	if ms := got.Header.Get("X-Task-Deadline-Ms"); len(ms) != 13 {
		t.Errorf("deadline %q is not in milliseconds", ms)
	}
}

func TestHTTPStatus(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		body    string
		class   functions.Class
		kind    string
		message string
	}{
		"bad request":        {400, "no such picture", functions.Permanent, "Http.400", "the server answered 400 Bad Request: no such picture"},
		"not found":          {404, "", functions.Permanent, "Http.404", "the server answered 404 Not Found"},
		"timeout":            {408, "", functions.TempFail, "Http.408", ""},
		"too early":          {425, "", functions.TempFail, "Http.425", ""},
		"too many":           {429, "", functions.TempFail, "Http.429", ""},
		"error":              {500, `{"errorType":"ValueError","errorMessage":"bad input"}`, functions.ExitError, "ValueError", "the server answered 500 Internal Server Error: bad input"},
		"JSON of other form": {503, `{"detail":"loading"}`, functions.ExitError, "Http.503", `the server answered 503 Service Unavailable: {"detail":"loading"}`},
		"bad gateway":        {502, strings.Repeat("x", 5000), functions.ExitError, "Http.502", "the server answered 502 Bad Gateway: " + strings.Repeat("x", 1024)},
		"redirect":           {302, "", functions.Permanent, "Http.302", `the server redirects to "/elsewhere"; an invocation is not sent elsewhere`},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := httpTo(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			})
			_, err := h.Invoke(t.Context(), request("{}"))
			f := faultIn(t, err)
			if f.Class != c.class || f.Type != c.kind || !f.Delivered || c.message != "" && f.Message != c.message {
				t.Errorf("got %+v", f)
			}
			if !MayReuse(Limits{}, 1, 0, &f.Failure) {
				t.Error("a server that answers is not used again")
			}
		})
	}
}

func TestHTTPBreaksOff(t *testing.T) {
	cut := func(words string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			buf.WriteString(words)
			buf.Flush()
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		class   functions.Class
	}{
		"no answer":         {cut(""), functions.Crashed},
		"half an answer":    {cut("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), functions.Crashed},
		"no HTTP":           {cut("hello\r\n\r\n"), functions.Crashed},
		"another protocol":  {cut("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), functions.BadOutput},
		"too large, framed": {cut("HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", MostBody+1)), functions.BadOutput},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := httpTo(t, c.handler)
			_, err := h.Invoke(t.Context(), request("{}"))
			if f := faultIn(t, err); f.Class != c.class || !f.Delivered {
				t.Errorf("got %+v, want %s", f, c.class)
			}
		})
	}
}

func TestHTTPTakesTheLargestAnswer(t *testing.T) {
	h, _ := httpTo(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, MostBody)) })
	res, err := h.Invoke(t.Context(), request("{}"))
	if err != nil || len(res.Body) != MostBody {
		t.Errorf("got %d bytes, %v", len(res.Body), err)
	}
	r := request("")
	r.Body = make([]byte, MostBody+1)
	if _, err := h.Invoke(t.Context(), r); faultIn(t, err).Class != functions.Permanent {
		t.Errorf("an event that is too large: %v", err)
	}
}

func TestHTTPTimeAndCancel(t *testing.T) {
	entered := make(chan struct{}, 1)
	release := make(chan struct{})
	h, _ := httpTo(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		entered <- struct{}{}
		<-release
	})
	defer close(release)
	r := request("{}")
	r.Timeout = 2 * time.Second // by then it is delivered, on a busy machine too
	_, err := h.Invoke(t.Context(), r)
	if f := faultIn(t, err); f.Class != functions.TimedOutRun || !f.Delivered || f.Message != "ran past its limit of 2s" {
		t.Errorf("got %+v", f)
	}
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	_, err = h.Invoke(ctx, request("{}"))
	if f := faultIn(t, err); f.Class != functions.CanceledByUser || !f.Delivered {
		t.Errorf("got %+v", f)
	}
}

func TestHTTPContainerEnds(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	h, _ := httpTo(t, func(w http.ResponseWriter, r *http.Request) { close(entered); <-release })
	defer close(release)
	go func() {
		<-entered
		h.End(functions.Failure{Class: functions.OutOfMemory, Message: "too much"})
		h.End(functions.Failure{Class: functions.Crashed, Message: "later"})
	}()
	_, err := h.Invoke(t.Context(), request("{}"))
	if f := faultIn(t, err); f.Class != functions.OutOfMemory || !f.Delivered {
		t.Errorf("got %+v", f)
	}
	h.cfg.Dial = nil
	_, err = h.Invoke(t.Context(), request("{}"))
	if f := faultIn(t, err); f.Class != functions.OutOfMemory || f.Delivered {
		t.Errorf("after the end: %+v", f)
	}
}

func TestHTTPKeepsItsConnection(t *testing.T) {
	var conns atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	h := NewHTTP(HTTPConfig{Dial: dialer(server), Port: 80})
	defer h.Close()
	for i := range 20 {
		want := fmt.Sprint("event ", i)
		if res, err := h.Invoke(t.Context(), request(want)); err != nil || string(res.Body) != want {
			t.Fatalf("got %q, %v", res.Body, err)
		}
	}
	if n := conns.Load(); n > 3 { // one, unless the machine stood still for a second
		t.Errorf("20 invocations took %d connections", n)
	}
}

func TestHTTPReady(t *testing.T) {
	var asked atomic.Int32
	h, server := httpTo(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" || asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	h.cfg.Health = "/health"
	if err := h.Ready(t.Context()); err != nil || asked.Load() != 3 {
		t.Errorf("ready after %d looks, %v", asked.Load(), err)
	}

	server.Close()
	h.cfg.Health = ""
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	f := faultIn(t, h.Ready(ctx))
	if f.Class != functions.BadEntry || f.Delivered || !strings.Contains(f.Message, "port 8080") {
		t.Errorf("got %+v", f)
	}
	_, err := h.Invoke(t.Context(), request("{}"))
	if f := faultIn(t, err); f.Delivered {
		t.Errorf("nobody listens, and the event counts as delivered: %+v", f)
	}
	h.End(functions.Failure{Class: functions.ExitError, Message: "over"})
	if f := faultIn(t, h.Ready(t.Context())); f.Message != "over" {
		t.Errorf("got %+v", f)
	}
}

func TestSourceOf(t *testing.T) {
	for _, event := range []string{``, `{}`, `[]`, `{"Records":[]}`, `{"Records":[{"eventSource":"aws:sqs"}]}`, `{"Records":3}`} {
		if s := SourceOf([]byte(event)); s != nil {
			t.Errorf("%s has source %+v", event, s)
		}
	}
	h := http.Header{}
	(&Source{Type: "a\r\nX: y", Subject: `50% "off"`}).mark(h, "id")
	var wire bytes.Buffer
	h.Write(&wire)
	if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: a\r\n" + wire.String() + "\r\n"))); err != nil {
		t.Errorf("not a header: %v\n%s", err, wire.String())
	}
	if got := h.Get("ce-subject"); got != "50%25%20%22off%22" {
		t.Errorf("subject %q", got)
	}
	if h.Get("X") != "" || h.Get("ce-type") != "a%0D%0AX:%20y" {
		t.Errorf("type %q", h.Get("ce-type"))
	}
}
