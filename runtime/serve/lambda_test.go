package serve

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// lambdaAt serves a Lambda on loopback and returns its address.
func lambdaAt(t testing.TB, cfg LambdaConfig) (*Lambda, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewLambda(cfg)
	served := make(chan error, 1)
	go func() { served <- l.Serve(listener) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l, listener.Addr().String()
}

// program is a Lambda runtime of the tests' own, which may misbehave.
type program struct {
	t      testing.TB
	base   string
	client *http.Client
}

func newProgram(t testing.TB, addr string) *program {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &program{t, "http://" + addr + "/2018-06-01/runtime/", &http.Client{Transport: transport}}
}

// call returns the status and the body of an answer.
func (p *program) call(method, path string, header http.Header, body io.Reader) (*http.Response, string) {
	p.t.Helper()
	if !strings.HasPrefix(path, "http:") {
		path = p.base + path
	}
	req, err := http.NewRequest(method, path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := p.client.Do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res, string(text)
}

// next returns the id of the next event.
func (p *program) next() string {
	p.t.Helper()
	res, body := p.call("GET", "invocation/next", nil, nil)
	if res.StatusCode != 200 {
		p.t.Fatalf("next answers %d %s", res.StatusCode, body)
	}
	return res.Header.Get("Lambda-Runtime-Aws-Request-Id")
}

// want posts, and wants a status and, where it is not empty, an error type.
func (p *program) want(status int, kind, path, body string) {
	p.t.Helper()
	res, text := p.call("POST", path, nil, strings.NewReader(body))
	var e struct{ ErrorType string }
	if err := json.Unmarshal([]byte(text), &e); err != nil || res.StatusCode != status || e.ErrorType != kind {
		p.t.Errorf("%s answers %d %s, want %d %s", path, res.StatusCode, text, status, kind)
	}
}

type invoked struct {
	res Response
	err error
}

func invoke(ctx context.Context, l *Lambda, r Request) <-chan invoked {
	out := make(chan invoked, 1)
	go func() {
		res, err := l.Invoke(ctx, r)
		out <- invoked{res, err}
	}()
	return out
}

func await(t testing.TB, out <-chan invoked) (Response, error) {
	t.Helper()
	select {
	case got := <-out:
		return got.res, got.err
	case <-time.After(patience):
		t.Fatal("the invocation does not end")
		return Response{}, nil
	}
}

func TestLambdaInvocation(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{Function: "pic", Version: 3, ARN: "arn:aws:lambda:x"})
	p := newProgram(t, addr)
	r := request(`{"a":1}`)
	r.Timeout = time.Minute
	began := time.Now()
	out := invoke(t.Context(), l, r)
	res, body := p.call("GET", "invocation/next", nil, nil)
	if res.StatusCode != 200 || body != `{"a":1}` {
		t.Fatalf("next answers %d %s", res.StatusCode, body)
	}
	for name, want := range map[string]string{
		"Lambda-Runtime-Aws-Request-Id": "0190-task", "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:x", "Content-Type": "application/json",
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	var ms int64
	fmt.Sscan(res.Header.Get("Lambda-Runtime-Deadline-Ms"), &ms)
	if left := time.UnixMilli(ms).Sub(began); left < 59*time.Second || left > 2*time.Minute {
		t.Errorf("the deadline is %s away", left)
	}
	for _, name := range []string{"Lambda-Runtime-Trace-Id", "Lambda-Runtime-Client-Context", "Lambda-Runtime-Cognito-Identity"} {
		if _, ok := res.Header[name]; ok {
			t.Errorf("%s is sent empty", name)
		}
	}
	p.want(202, "", "invocation/0190-task/response", `{"b":2}`)
	got, err := await(t, out)
	if err != nil || string(got.Body) != `{"b":2}` {
		t.Errorf("got %s, %v", got.Body, err)
	}
}

func TestLambdaRefusals(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{})
	p := newProgram(t, addr)
	p.want(400, "InvalidRequestID", "invocation/none/response", `{}`)
	p.want(400, "InvalidRequestID", "invocation/none/error", `{}`)
	p.want(404, "NotFound", "nothing", `{}`)
	p.want(404, "NotFound", "invocation/next", `{}`) // a POST
	out := invoke(t.Context(), l, request("{}"))
	id := p.next()
	if res, body := p.call("GET", "invocation/next", nil, nil); res.StatusCode != 403 || !strings.Contains(body, "InvalidStateTransition") {
		t.Errorf("next in the middle answers %d %s", res.StatusCode, body)
	}
	p.want(403, "InvalidStateTransition", "init/error", `{}`)
	p.want(400, "InvalidRequestID", "invocation/another/response", `{}`)
	mode := http.Header{"Lambda-Runtime-Function-Response-Mode": {"telepathy"}}
	if res, body := p.call("POST", "invocation/"+id+"/response", mode, strings.NewReader("{}")); res.StatusCode != 400 || !strings.Contains(body, "InvalidFunctionResponseMode") {
		t.Errorf("a mode that is none: %d %s", res.StatusCode, body)
	}
	p.want(202, "", "invocation/"+id+"/response", `1`)
	p.want(400, "InvalidRequestID", "invocation/"+id+"/response", `2`)
	if got, err := await(t, out); err != nil || string(got.Body) != "1" {
		t.Errorf("got %s, %v", got.Body, err)
	}
}

func TestLambdaErrors(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{})
	p := newProgram(t, addr)
	for name, c := range map[string]struct{ header, body, kind, message string }{
		"own type":    {"Function.Bad", `{"errorType":"ValueError","errorMessage":"no","stackTrace":[]}`, "ValueError", "no"},
		"header":      {"Function.Bad", `{"errorMessage":"no"}`, "Function.Bad", "no"},
		"bad header":  {"whatever", `{"errorMessage":"no"}`, "Runtime.Unknown", "no"},
		"no JSON":     {"", `oh`, "Runtime.Unknown", "the function failed: oh"},
		"empty":       {"", ``, "Runtime.Unknown", "the function failed"},
		"wrong types": {"", `{"errorType":1,"errorMessage":[]}`, "Runtime.Unknown", `{"errorType":1,"errorMessage":[]}`},
	} {
		out := invoke(t.Context(), l, request("{}"))
		id := p.next()
		header := http.Header{errorTypeHeader: {c.header}, "Lambda-Runtime-Function-Xray-Error-Cause": {strings.Repeat("x", 1<<20)}}
		if res, body := p.call("POST", "invocation/"+id+"/error", header, strings.NewReader(c.body)); res.StatusCode != 202 {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
		_, err := await(t, out)
		if f := faultIn(t, err); f.Class != functions.ExitError || f.Type != c.kind || f.Message != c.message || !f.Delivered {
			t.Errorf("%s: %+v", name, f)
		} else if own := c.body; string(f.Body) != own && strings.HasPrefix(own, "{") || len(f.Body) > 0 && !strings.HasPrefix(own, "{") {
			t.Errorf("%s: of its own document it keeps %q", name, f.Body)
		}
	}
}

func TestLambdaAnswerSizes(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{})
	p := newProgram(t, addr)
	// A reader of no known length is sent in chunks.
	chunked := func(n int) io.Reader { return io.MultiReader(bytes.NewReader(make([]byte, n))) }
	for name, c := range map[string]struct {
		body   io.Reader
		status int
	}{
		"largest":           {bytes.NewReader(make([]byte, MostBody)), 202},
		"largest, chunked":  {chunked(MostBody), 202},
		"too large":         {bytes.NewReader(make([]byte, MostBody+1)), 413},
		"too large, chunks": {chunked(MostBody + 1), 413},
		"far too large":     {chunked(2 * MostBody), 413},
	} {
		out := invoke(t.Context(), l, request("{}"))
		id := p.next()
		res, body := p.call("POST", "invocation/"+id+"/response", nil, c.body)
		if res.StatusCode != c.status || c.status == 413 && !strings.Contains(body, "Exceeded maximum allowed payload size (6291556 bytes).") {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
		got, err := await(t, out)
		if c.status == 202 {
			if err != nil || len(got.Body) != MostBody {
				t.Errorf("%s: %d bytes, %v", name, len(got.Body), err)
			}
			continue
		}
		f := faultIn(t, err)
		if f.Class != functions.BadOutput || f.Type != "Function.ResponseSizeTooLarge" || MayReuse(Limits{}, 1, 0, &f.Failure) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestLambdaTrailers(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{})
	p := newProgram(t, addr)
	for name, c := range map[string]struct{ kind, body string }{
		"success": {"", ""},
		"failure": {"Function.Broke", base64.StdEncoding.EncodeToString([]byte(`{"errorMessage":"in the middle"}`))},
	} {
		out := invoke(t.Context(), l, request("{}"))
		req, err := http.NewRequest("POST", p.base+"invocation/"+p.next()+"/response", io.MultiReader(strings.NewReader("half")))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(modeHeader, "streaming")
		req.Trailer = http.Header{errorTypeHeader: {c.kind}, errorBodyHeader: {c.body}}
		res, err := p.client.Do(req)
		if err != nil || res.StatusCode != 202 {
			t.Fatalf("%s: %v, %v", name, res, err)
		}
		res.Body.Close()
		got, err := await(t, out)
		if c.kind == "" {
			if err != nil || string(got.Body) != "half" {
				t.Errorf("got %q, %v", got.Body, err)
			}
		} else if f := faultIn(t, err); f.Type != c.kind || f.Message != "in the middle" {
			t.Errorf("got %+v", f)
		}
	}
}

func TestLambdaAnswerCutOff(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{})
	p := newProgram(t, addr)
	out := invoke(t.Context(), l, request("{}"))
	id := p.next()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf", id)
	conn.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(conn)
	conn.Close()
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 400")) || !bytes.Contains(answer, []byte("TruncatedHTTPRequest")) {
		t.Errorf("the program is told %s", answer)
	}
	_, err = await(t, out)
	if f := faultIn(t, err); f.Class != functions.Crashed {
		t.Errorf("got %+v", f)
	}
}

func TestLambdaNeverAsks(t *testing.T) {
	l, _ := lambdaAt(t, LambdaConfig{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if f := faultIn(t, l.Ready(ctx)); f.Class != functions.BadEntry || f.Delivered {
		t.Errorf("got %+v", f)
	}
	_, err := l.Invoke(ctx, request("{}"))
	if f := faultIn(t, err); f.Delivered || f.Class != functions.CanceledByUser {
		t.Errorf("got %+v", f)
	}
}

func TestLambdaInitError(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{})
	p := newProgram(t, addr)
	out := invoke(t.Context(), l, request("{}"))
	p.want(202, "", "init/error", `{"errorType":"ImportError","errorMessage":"no module"}`)
	_, err := await(t, out)
	if f := faultIn(t, err); f.Class != functions.ExitError || f.Type != "ImportError" || f.Delivered || f.Message != "the program's start failed: no module" {
		t.Errorf("got %+v", f)
	}
	if f := faultIn(t, l.Ready(t.Context())); f.Type != "ImportError" {
		t.Errorf("got %+v", f)
	}
}

func TestLambdaEndsInTheMiddle(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{})
	p := newProgram(t, addr)
	out := invoke(t.Context(), l, request("{}"))
	p.next()
	l.End(functions.Failure{Class: functions.Crashed, Message: "killed"})
	_, err := await(t, out)
	if f := faultIn(t, err); f.Class != functions.Crashed || !f.Delivered {
		t.Errorf("got %+v", f)
	}
	_, err = l.Invoke(t.Context(), request("{}"))
	if f := faultIn(t, err); f.Class != functions.Crashed || f.Delivered {
		t.Errorf("after the end: %+v", f)
	}
}

func TestLambdaTimeAndCancel(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{})
	p := newProgram(t, addr)
	r := request("{}")
	r.Timeout = 30 * time.Millisecond
	out := invoke(t.Context(), l, r)
	time.Sleep(100 * time.Millisecond) // the program's start does not count
	id := p.next()
	_, err := await(t, out)
	if f := faultIn(t, err); f.Class != functions.TimedOutRun || !f.Delivered {
		t.Errorf("got %+v", f)
	}
	p.want(400, "InvalidRequestID", "invocation/"+id+"/response", `"late"`)

	ctx, cancel := context.WithCancel(t.Context())
	out = invoke(ctx, l, request("{}"))
	p.next()
	cancel()
	_, err = await(t, out)
	if f := faultIn(t, err); f.Class != functions.CanceledByUser || !f.Delivered {
		t.Errorf("got %+v", f)
	}
}

// A program that hangs up while it waits gets no event; the next one does.
func TestLambdaHangsUp(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: a\r\n\r\n")
	if err := l.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	until := time.Now().Add(patience)
	for waiting := 1; waiting > 0; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		waiting = len(l.polls)
		l.mu.Unlock()
		if time.Now().After(until) {
			t.Fatal("the connection's end is not noticed")
		}
	}
	out := invoke(t.Context(), l, request("{}"))
	p := newProgram(t, addr)
	p.want(202, "", "invocation/"+p.next()+"/response", "{}")
	if _, err := await(t, out); err != nil {
		t.Error(err)
	}
}

func TestLambdaManyAtOnce(t *testing.T) {
	const n = 8
	l, addr := lambdaAt(t, LambdaConfig{Concurrency: n})
	p := newProgram(t, addr)
	var outs []<-chan invoked
	for i := range n {
		r := request("{}")
		r.Task = functions.TaskID(fmt.Sprint("task-", i))
		outs = append(outs, invoke(t.Context(), l, r))
	}
	var ids []string
	for range n {
		ids = append(ids, p.next())
	}
	if res, _ := p.call("GET", "invocation/next", nil, nil); res.StatusCode != 403 {
		t.Errorf("one too many: %d", res.StatusCode)
	}
	for _, id := range ids {
		p.want(202, "", "invocation/"+id+"/response", `"`+id+`"`)
	}
	for i, out := range outs {
		if got, err := await(t, out); err != nil || string(got.Body) != fmt.Sprintf(`"task-%d"`, i) {
			t.Errorf("%d got %s, %v", i, got.Body, err)
		}
	}
}

func TestLambdaExtensions(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{Function: "pic", Version: 3})
	p := newProgram(t, addr)
	base := "http://" + addr
	res, body := p.call("POST", base+"/2020-01-01/extension/register", nil, strings.NewReader(`{"events":["INVOKE"]}`))
	if res.StatusCode != 200 || len(res.Header.Get("Lambda-Extension-Identifier")) != 36 || !strings.Contains(body, `"functionName":"pic"`) {
		t.Errorf("register: %d %v %s", res.StatusCode, res.Header, body)
	}
	for _, path := range []string{"/2022-07-01/telemetry", "/2020-08-15/logs"} {
		if res, _ := p.call("PUT", base+path, nil, strings.NewReader("{}")); res.StatusCode != 202 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	p.want(202, "", base+"/2020-01-01/extension/init/error", "{}")
	p.want(202, "", base+"/2020-01-01/extension/exit/error", "{}")
	ended := make(chan error, 1)
	go func() {
		res, err := p.client.Get(base + "/2020-01-01/extension/event/next")
		if err == nil {
			res.Body.Close()
			err = errors.New(res.Status)
		} else {
			err = nil // the connection was closed
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Fatalf("an event came: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	l.End(functions.Failure{Class: functions.Infra})
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the wait does not end with the container")
	}
}
