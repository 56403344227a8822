package lambda

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
)

// wants is what an answer must be; an empty field is not looked at.
type wants struct {
	status int
	code   string // X-Amzn-ErrorType
	body   string // exactly
	holds  string // in the body
}

func check(t *testing.T, rec *httptest.ResponseRecorder, w wants) {
	t.Helper()
	body, h := rec.Body.String(), rec.Header()
	if rec.Code != w.status || h.Get("X-Amzn-Errortype") != w.code || w.body != "" && body != w.body || !strings.Contains(body, w.holds) {
		t.Errorf("got %d %q %s, want %+v", rec.Code, h.Get("X-Amzn-Errortype"), body, w)
	}
	if functions.TaskID(h.Get("X-Amzn-Requestid")).Validate() != nil {
		t.Errorf("the request id is %q", h.Get("X-Amzn-Requestid"))
	}
	if w.code != "" && !json.Valid(rec.Body.Bytes()) {
		t.Errorf("the error is no JSON: %s", body)
	}
}

func TestInvoke(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.invoke(t, `{"a": 1}`, "X-Amz-Log-Type", "Tail")
	check(t, rec, wants{status: 200, body: `{"a": 1}`})
	task := w.only(t)
	h := rec.Header()
	for name, want := range map[string]string{
		"X-Amzn-Requestid": string(task.ID), "X-Amz-Executed-Version": "$LATEST", "X-Amz-Function-Error": "", "Content-Type": "application/json",
		"Content-Length": "8", "Spillway-Device-Used": "cpu", "Spillway-Device-Requested": "auto", "Spillway-Attempts": "1", "Spillway-Fallback-Reason": "",
	} {
		if h.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, h.Get(name), want)
		}
	}
	if task.Source != "lambda" || task.Version != 3 || task.Key != "" {
		t.Errorf("the task is %+v", task)
	}
	log, err := base64.StdEncoding.DecodeString(h.Get("X-Amz-Log-Result"))
	if err != nil || !strings.HasPrefix(string(log), "START RequestId: "+string(task.ID)+" Version: $LATEST\nEND RequestId: ") || !strings.Contains(string(log), "\tDevice: cpu\t\n") {
		t.Errorf("the log is %q, %v", log, err)
	}
}

func TestInvokeOfAQualifier(t *testing.T) {
	w := newWorld(t, nil)
	w.settings["echo"] = functions.LambdaSettings{First: 2, Aliases: map[string]functions.Alias{"live": {Version: 2}, "head": {}}}
	for _, c := range []struct {
		path, executed string
		version        int
		code           string
	}{
		{"echo", "$LATEST", 3, ""},
		{"echo:$LATEST", "$LATEST", 3, ""},
		{"echo:2", "2", 2, ""},
		{"echo:live", "2", 2, ""},
		{"echo:head", "$LATEST", 3, ""},
		{"arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Aecho%3Alive", "2", 2, ""},
		{"echo:1", "", 0, codeNotFound}, // of an earlier function
		{"echo:4", "", 0, codeNotFound},
		{"echo:0", "", 0, codeNotFound},
		{"echo:99999999999999999999", "", 0, codeNotFound},
		{"echo:none", "", 0, codeNotFound},
		{"other", "", 0, codeNotFound},
		{"a.b", "", 0, codeValidation},
	} {
		rec := w.do(t.Context(), "POST", "/2015-03-31/functions/"+c.path+"/invocations", "")
		if got := rec.Header(); got.Get("X-Amzn-Errortype") != c.code || got.Get("X-Amz-Executed-Version") != c.executed {
			t.Errorf("%s: %d, %v, %s", c.path, rec.Code, got, rec.Body)
		}
		if c.version > 0 {
			if task := w.get(functions.TaskID(rec.Header().Get("X-Amzn-Requestid"))); task.Version != c.version || string(task.Event) != "{}" {
				t.Errorf("%s ran version %d with %s, want %d with {}", c.path, task.Version, task.Event, c.version)
			}
		}
	}
}

func TestEventAndDryRun(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	rec := w.invoke(t, "{}", "X-Amz-Invocation-Type", "DryRun")
	if rec.Code != 204 || rec.Body.Len() != 0 || len(w.tasks) != 0 {
		t.Errorf("DryRun: %d %s, %d tasks", rec.Code, rec.Body, len(w.tasks))
	}
	rec = w.invoke(t, `{"n":1}`, "X-Amz-Invocation-Type", "Event")
	task := w.only(t)
	if rec.Code != 202 || rec.Body.Len() != 0 || rec.Header().Get("X-Amzn-Requestid") != string(task.ID) || task.State != functions.Queued || string(task.Event) != `{"n":1}` {
		t.Errorf("Event: %d %s, %+v", rec.Code, rec.Body, task)
	}
	for _, path := range []string{"/2014-11-13/functions/echo/invoke-async", "/2014-11-13/functions/echo/invoke-async/"} {
		check(t, w.do(t.Context(), "POST", path, `{}`), wants{status: 202, body: `{"Status":202}`})
	}
	check(t, w.do(t.Context(), "POST", "/2014-11-13/functions/none/invoke-async/", `{}`), wants{status: 404, code: codeNotFound})
}

func TestRequestsThatAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	zero := 0
	w.fns["off"] = w.fns["echo"]
	w.settings["off"] = functions.LambdaSettings{Concurrency: &zero}
	big := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		wants
	}{
		"not JSON":             {body: "{", wants: wants{400, codeInvalidContent, "", `"message":"Could not parse request body into json: `}},
		"two documents":        {body: "{} {}", wants: wants{status: 400, code: codeInvalidContent}},
		"unknown type":         {header: []string{"X-Amz-Invocation-Type", "Maybe"}, wants: wants{400, codeValidation, "", "'invocationType'"}},
		"unknown log type":     {header: []string{"X-Amz-Log-Type", "Head"}, wants: wants{400, codeValidation, "", "'logType'"}},
		"context not base64":   {header: []string{"X-Amz-Client-Context", "{}"}, wants: wants{status: 400, code: codeInvalidContent}},
		"context not JSON":     {header: []string{"X-Amz-Client-Context", base64.StdEncoding.EncodeToString([]byte("{"))}, wants: wants{status: 400, code: codeInvalidContent}},
		"context too long":     {header: []string{"X-Amz-Client-Context", strings.Repeat("A", maxContext+1)}, wants: wants{400, codeInvalidContent, "", "3583"}},
		"event too large":      {body: big(maxEvent + 1), header: []string{"X-Amz-Invocation-Type", "Event"}, wants: wants{413, codeTooLarge, "", `"Type":"User"`}},
		"body too large":       {body: big(maxBody + 1), wants: wants{413, codeTooLarge, "", "6291456 bytes"}},
		"no such function":     {path: "/2015-03-31/functions/none/invocations", wants: wants{404, codeNotFound, "", `"Message":"Function not found: arn:aws:lambda:us-east-1:000000000000:function:none"`}},
		"reserved zero":        {path: "/2015-03-31/functions/off/invocations", wants: wants{429, codeTooManyRequests, "", reasonReserved}},
		"bad device":           {header: []string{"Spillway-Device", "tpu"}, wants: wants{status: 400, code: codeInvalidParameter}},
		"bad key":              {header: []string{"Authorization", "Bearer other"}, wants: wants{status: 403, code: codeMissingToken}},
		"no key":               {header: []string{"Authorization", ""}, wants: wants{403, codeMissingToken, `{"message":"Missing Authentication Token"}`, ""}},
		"unknown access key":   {header: []string{"Authorization", "AWS4-HMAC-SHA256 Credential=OTHER/20260101/eu-west-1/lambda/aws4_request"}, wants: wants{status: 403, code: codeUnknownClient}},
		"response streaming":   {path: "/2021-11-15/functions/echo/response-streaming-invocations", wants: wants{400, codeInvalidParameter, "", "call Invoke"}},
		"unknown call":         {method: "GET", path: "/2015-03-31/event-source-mappings/", wants: wants{404, codeUnknownOperation, "", "event-source-mappings"}},
		"method of no call":    {method: "PATCH", path: echoPath, wants: wants{404, codeUnknownOperation, "", "PATCH"}},
		"unknown call, no key": {method: "DELETE", path: "/2020-06-30/functions/echo/code-signing-config", header: []string{"Authorization", ""}, wants: wants{status: 403, code: codeMissingToken}},
	} {
		t.Run(name, func(t *testing.T) {
			method, path := "POST", echoPath
			if c.method != "" {
				method = c.method
			}
			if c.path != "" {
				path = c.path
			}
			check(t, w.do(t.Context(), method, path, c.body, c.header...), c.wants)
		})
	}
	if len(w.tasks) != 0 {
		t.Errorf("refused calls made %d tasks", len(w.tasks))
	}
	w.queued = 1
	w.fns["echo"][2].MaxQueue = 1
	rec := w.invoke(t, "")
	check(t, rec, wants{429, codeTooManyRequests, "", reasonConcurrency})
	if rec.Header().Get("Retry-After") != "1" {
		t.Error("a full queue does not say when to come again")
	}
	w.queued, w.down = 0, errors.New("disk /secret is gone")
	if rec := w.invoke(t, ""); rec.Code != 500 || rec.Header().Get("X-Amzn-Errortype") != codeService || strings.Contains(rec.Body.String(), "secret") {
		t.Errorf("an internal error is %d %s", rec.Code, rec.Body)
	}
}

func TestRegionOfTheSignature(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.do(t.Context(), "POST", "/2015-03-31/functions/none/invocations", "", "Authorization", "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/lambda/aws4_request")
	check(t, rec, wants{404, codeNotFound, "", "arn:aws:lambda:eu-west-1:"})
}

// TestAttach shows that each try of one call gets the answer of the first, which
// alone runs.
func TestAttach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run = nil
		const once = "Amz-Sdk-Invocation-Id"
		answers := make([]*httptest.ResponseRecorder, 3)
		var tries sync.WaitGroup
		for i := range answers {
			tries.Go(func() { answers[i] = w.invoke(t, `{"n":1}`, once, "id-1", "X-Amz-Log-Type", "Tail") })
			synctest.Wait()
		}
		task := w.only(t)
		time.Sleep(20 * time.Second)
		w.start(task.ID, functions.CPU)
		time.Sleep(10 * time.Minute) // however long it runs
		w.finish(task.ID, functions.Outcome{Result: json.RawMessage(`{"n":1}`), LogTail: "said"})
		tries.Wait()
		answers = append(answers, w.invoke(t, `{"n":1}`, once, "id-1", "X-Amz-Log-Type", "Tail"))
		for i, rec := range answers {
			check(t, rec, wants{status: 200, body: `{"n":1}`})
			if got, want := rec.Header(), answers[0].Header(); got.Get("X-Amzn-Requestid") != string(task.ID) || got.Get("X-Amz-Log-Result") != want.Get("X-Amz-Log-Result") {
				t.Errorf("try %d: %v, the first %v", i, got, want)
			}
		}
		w.run = func(t functions.Task) *functions.Outcome { return &functions.Outcome{Result: t.Event} }
		for name, header := range map[string][]string{
			"another id":     {once, "id-2"},
			"another caller": {once, "id-1", "Authorization", "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/lambda/aws4_request"},
			"a key":          {"Idempotency-Key", "id-1"},
		} {
			if rec := w.invoke(t, `{"n":1}`, header...); rec.Code != 200 || rec.Header().Get("X-Amzn-Requestid") == string(task.ID) {
				t.Errorf("%s attaches: %v", name, rec.Header())
			}
		}
		if rec := w.invoke(t, `{"n":2}`, once, "id-1"); rec.Body.String() != `{"n":2}` {
			t.Errorf("another body attaches: %s", rec.Body)
		}
		check(t, w.invoke(t, `{"n":2}`, "Idempotency-Key", "id-1"), wants{status: 409, code: codeConflict})
		before := len(w.tasks)
		for range 2 { // no double enqueue
			if rec := w.invoke(t, "{}", once, "id-3", "X-Amz-Invocation-Type", "Event"); rec.Code != 202 {
				t.Errorf("Event: %d", rec.Code)
			}
		}
		if n := len(w.tasks) - before; n != 1 {
			t.Errorf("two tries of an Event made %d tasks", n)
		}
	})
}

// TestQueueWait shows that a call which cannot be started is held, then
// throttled, and is not left to run for nobody.
func TestQueueWait(t *testing.T) {
	for name, c := range map[string]struct {
		header   []string
		canceled bool
	}{
		"no key":       {nil, true},
		"an early try": {[]string{"Amz-Sdk-Invocation-Id", "x", "Amz-Sdk-Request", "attempt=1; max=3"}, false},
		"the last try": {[]string{"Amz-Sdk-Invocation-Id", "x", "Amz-Sdk-Request", "attempt=3; max=3"}, true},
		"no count":     {[]string{"Amz-Sdk-Invocation-Id", "x", "Amz-Sdk-Request", "ttl=2026; attempt"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.run = nil
				start := time.Now()
				rec := w.invoke(t, "{}", c.header...)
				check(t, rec, wants{429, codeTooManyRequests, "", reasonConcurrency})
				if took := time.Since(start); took != queueWait || rec.Header().Get("Retry-After") == "" {
					t.Errorf("it was held for %v, header %v", took, rec.Header())
				}
				if got := w.only(t).State == functions.Canceled; got != c.canceled {
					t.Errorf("the task is %s", w.only(t).State)
				}
			})
		})
	}
}

// TestWaitSeesTheEndAllTheSame: changes that were missed are read.
func TestWaitSeesTheEndAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run = nil
		var rec *httptest.ResponseRecorder
		var call sync.WaitGroup
		call.Go(func() { rec = w.invoke(t, "{}") })
		synctest.Wait()
		id := w.only(t).ID
		w.miss()
		synctest.Wait()
		w.start(id, functions.CPU)
		synctest.Wait()
		w.miss()
		w.finish(id, functions.Outcome{Result: json.RawMessage("7")})
		call.Wait()
		check(t, rec, wants{status: 200, body: "7"})
	})
}

func TestCallThatNoNodeCanRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run = nil
		w.nodes = []functions.NodeStatus{{}}
		w.nodes[0].Alive = true
		w.fns["echo"][2].Device = functions.Required
		start := time.Now()
		check(t, w.invoke(t, "{}"), wants{502, codeNotReady, "", "no node can ever run this"})
		if took := time.Since(start); took != lookAfter || w.only(t).State != functions.Canceled {
			t.Errorf("after %v the task is %s", took, w.only(t).State)
		}
	})
}

func TestCallerThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run = nil
		ctx, leave := context.WithCancel(t.Context())
		var call sync.WaitGroup
		call.Go(func() { w.do(ctx, "POST", echoPath, "{}") })
		synctest.Wait()
		w.start(w.only(t).ID, functions.CPU)
		leave()
		call.Wait()
		if task := w.only(t); task.State != functions.Assigned || len(w.watches) != 0 {
			t.Errorf("the task is %s, and %d watch it", task.State, len(w.watches))
		}
	})
}

func TestBodyThatEndsEarly(t *testing.T) {
	w := newWorld(t, nil)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, echoPath, broken{})
	r.Header.Set("Authorization", "Bearer key")
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	check(t, rec, wants{status: 400, code: codeInvalidContent})
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, fmt.Errorf("reset") }
