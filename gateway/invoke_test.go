package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
)

const asJSON = "application/json"

type taskView struct {
	ID             functions.TaskID
	Status         string
	DeviceUsed     string `json:"device_used"`
	FallbackReason string `json:"fallback_reason"`
	Waiting        *functions.Waiting
	Outputs        []struct {
		Name, URL   string
		DownloadURL string `json:"download_url"`
	}
	Route   functions.Route
	Timings map[string]float64
	Seq     uint64
}

type problem struct {
	Status                    int
	Code, Detail, Hint, Field string
	RequestID                 string `json:"request_id"`
	TaskID                    string `json:"task_id"`
	Phase                     string
	Retryable                 bool
}

func TestSyncAnswerIsTheFunctionsOwn(t *testing.T) {
	text := "plain words"
	for _, c := range []struct {
		name string
		out  functions.Outcome
		kind string
		body string
	}{
		{"JSON", functions.Outcome{Result: json.RawMessage(`[1,2]`)}, "application/json", `[1,2]`},
		{"text", functions.Outcome{ResultText: &text}, "text/plain; charset=utf-8", text},
		{"nothing", functions.Outcome{}, "application/json", "null"},
		{"an object", functions.Outcome{ResultRef: &functions.ObjectRef{Bucket: "results", Key: "r", Size: 4, ContentType: "image/png"}}, "image/png", "\x89PNG"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.objects["results/r"] = object{[]byte("\x89PNG"), "image/png"}
			w.run = func(functions.Task) *functions.Outcome { return &c.out }
			rec := w.do(t, "POST", "/v1/functions/echo/invoke", `{"a":1}`, "Content-Type", asJSON, "X-Call-Id", "mine")
			if rec.Code != 200 || rec.Body.String() != c.body || rec.Header().Get("Content-Type") != c.kind {
				t.Fatalf("got %d %q %q, want 200 %q %q", rec.Code, rec.Header().Get("Content-Type"), rec.Body, c.kind, c.body)
			}
			for k, want := range map[string]string{"Spillway-Device-Requested": "auto", "Spillway-Device-Used": "cpu", "Spillway-Attempts": "1", "X-Call-Id": "mine"} {
				if got := rec.Header().Get(k); got != want {
					t.Errorf("%s: %q, want %q", k, got, want)
				}
			}
			if got := w.get(functions.TaskID(rec.Header().Get("Spillway-Task-Id"))); string(got.Event) != `{"a":1}` || got.Source != "http" {
				t.Errorf("task %+v", got)
			}
		})
	}
}

func TestLargeResultIsRedirected(t *testing.T) {
	w := newWorld(t, nil)
	w.run = func(functions.Task) *functions.Outcome {
		return &functions.Outcome{ResultRef: &functions.ObjectRef{Bucket: "results", Key: "r", Size: 7 << 20}}
	}
	rec := w.do(t, "POST", "/function/echo", "")
	if rec.Code != 303 || rec.Header().Get("Location") != "http://store/results/r" {
		t.Errorf("got %d to %q", rec.Code, rec.Header().Get("Location"))
	}
}

func TestFailuresKeepTheirKind(t *testing.T) {
	for _, c := range []struct {
		class  functions.Class
		status int
		header string
	}{
		{functions.ExitError, 502, "exit_error"},
		{functions.OutOfMemory, 502, "out_of_memory"},
		{functions.ImageMissing, 502, "image_missing"},
		{functions.TimedOutRun, 504, "timeout"},
		{functions.Infra, 503, ""},
	} {
		t.Run(string(c.class), func(t *testing.T) {
			w := newWorld(t, nil)
			w.run = func(functions.Task) *functions.Outcome {
				return &functions.Outcome{LogTail: "boom\n", Failure: &functions.Failure{Class: c.class, Message: "it broke", Hint: "fix it", Phase: functions.PhaseRun, ExitCode: 3}}
			}
			rec := w.do(t, "POST", "/v1/functions/echo/invoke", `{}`, "Content-Type", asJSON)
			p := decode[problem](t, rec)
			if rec.Code != c.status || rec.Header().Get("Spillway-Function-Error") != c.header || p.Code != string(c.class) || p.Detail != "it broke" || p.Hint != "fix it" ||
				p.TaskID != rec.Header().Get("Spillway-Task-Id") || p.Phase != "run" {
				t.Errorf("got %d %q %+v", rec.Code, rec.Header().Get("Spillway-Function-Error"), p)
			}
		})
	}
}

func TestBadCalls(t *testing.T) {
	const invoke = "/v1/functions/echo/invoke"
	big := strings.Repeat("x", 6<<20+1)
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		says                     string
	}{
		{"unknown function", "POST", "/v1/functions/nosuch/invoke", "{}", nil, 404, "nosuch"},
		{"unknown function, alias", "POST", "/function/nosuch", "{}", nil, 404, "function_not_found"},
		{"unknown function, async", "POST", "/async-function/nosuch", "{}", nil, 404, "function_not_found"},
		{"unknown version", "POST", invoke + "?version=9", "{}", nil, 404, "version 9"},
		{"bad version", "POST", invoke + "?version=new", "{}", nil, 400, "version"},
		{"function name with a path", "POST", "/v1/functions/..%2F..%2Fetc/invoke", "{}", nil, 400, "bad_name"},
		{"long function name", "POST", "/v1/functions/" + strings.Repeat("n", 300) + "/invoke", "{}", nil, 400, "bad_name"},
		{"bad JSON", "POST", invoke, `{"a":`, []string{"Content-Type", asJSON}, 400, "JSON"},
		{"two JSON values", "POST", invoke, `{} {}`, []string{"Content-Type", asJSON}, 400, "JSON"},
		{"oversized body", "POST", invoke, big, []string{"Content-Type", asJSON}, 413, "/v1/uploads"},
		{"oversized file", "POST", invoke, big, []string{"Content-Type", "image/png"}, 413, "/v1/uploads"},
		{"oversized async body", "POST", invoke, big[:2<<20], []string{"Content-Type", asJSON, "Prefer", "respond-async"}, 413, "/v1/uploads"},
		{"bad device", "POST", invoke, "{}", []string{"Spillway-Device", "tpu"}, 400, "tpu"},
		{"bad wait", "POST", invoke + "?wait=soon", "{}", nil, 400, "soon"},
		{"negative wait", "POST", invoke, "{}", []string{"Prefer", "wait=-3"}, 400, "bad_wait"},
		{"bad content type", "POST", invoke, "x", []string{"Content-Type", "nonsense;;"}, 400, "media type"},
		{"a form", "POST", invoke, "x", []string{"Content-Type", "multipart/form-data; boundary=x"}, 400, "/v1/uploads"},
		{"a file named as a path", "POST", invoke, "x", []string{"Content-Type", "text/plain", "X-File-Name", "../x"}, 400, "bad_file_name"},
		{"a file of a long name", "POST", invoke, "x", []string{"Content-Type", "text/plain", "X-File-Name", strings.Repeat("n", 300)}, 400, "255"},
		{"a key of bad characters", "POST", invoke, "{}", []string{"Idempotency-Key", "a\tb"}, 400, "Idempotency-Key"},
		{"unknown task", "GET", "/v1/tasks/0198a0b0-0000-7000-8000-000000000000", "", nil, 404, "task_not_found"},
		{"task id with a path", "GET", "/v1/tasks/..%2f", "", nil, 400, "bad_task_id"},
		{"unknown filter", "GET", "/v1/tasks?colour=red", "", nil, 400, "colour"},
		{"bad status", "GET", "/v1/tasks?status=odd", "", nil, 400, "odd"},
		{"bad limit", "GET", "/v1/tasks?limit=5000", "", nil, 400, "1000"},
		{"bad time", "GET", "/v1/tasks?since=yesterday", "", nil, 400, "RFC 3339"},
		{"bad spec", "POST", "/v1/functions", `{"name":"x"}`, nil, 400, "image"},
		{"unreadable spec", "POST", "/v1/functions", `name: [`, nil, 400, "line 1"},
		{"empty spec", "POST", "/v1/functions", "", nil, 400, "empty"},
		{"unknown node", "GET", "/v1/nodes/n9", "", nil, 404, "n9"},
		{"upload of a path", "POST", "/v1/uploads", `{"function":"echo","name":"../../etc/passwd","size":1}`, nil, 400, "passwd"},
		{"upload of a NUL", "POST", "/v1/uploads", `{"function":"echo","name":"a\u0000b","size":1}`, nil, 400, "control"},
		{"upload of a negative size", "POST", "/v1/uploads", `{"function":"echo","name":"a","size":-1}`, nil, 400, "bad_size"},
		{"upload without a size", "POST", "/v1/uploads", `{"function":"echo","name":"a"}`, nil, 400, "bad_size"},
		{"upload over 5 GiB", "POST", "/v1/uploads", `{"function":"echo","name":"a","size":5368709121,"method":"put"}`, nil, 413, "5GiB"},
		{"upload with an unknown key", "POST", "/v1/uploads", `{"function":"echo","name":"a","size":1,"sise":2}`, nil, 400, "sise"},
		{"upload for no function", "POST", "/v1/uploads", `{"function":"nosuch","name":"a","size":1}`, nil, 404, "nosuch"},
		{"upload with a bad sum", "POST", "/v1/uploads", `{"function":"echo","name":"a","size":1,"sha256":"zz"}`, nil, 400, "sha256"},
		{"unknown route", "GET", "/v1/nosuch", "", nil, 404, "no_such_route"},
		{"double slash is no redirect", "POST", "/v1//functions/echo/invoke", "{}", nil, 404, "no_such_route"},
		{"explain with bad base64", "POST", "/v1/route:explain", `{"head_base64":"!!"}`, nil, 400, "base64"},
		{"explain for no function", "POST", "/v1/route:explain", `{"function":"nosuch"}`, nil, 404, "nosuch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			rec := w.do(t, c.method, c.path, c.body, c.header...)
			p := decode[problem](t, rec)
			if rec.Code != c.status || p.Status != c.status || !strings.Contains(rec.Body.String(), c.says) || p.Code == "" || p.RequestID == "" {
				t.Errorf("got %d %s, want %d with %q", rec.Code, rec.Body, c.status, c.says)
			}
			if len(w.tasks) != 0 || len(w.objects) != 0 {
				t.Errorf("half done: %d tasks, %d objects are left", len(w.tasks), len(w.objects))
			}
		})
	}
}

func TestMethodNotAllowedNamesTheOthers(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.do(t, "PUT", "/v1/functions", "")
	if rec.Code != 405 || rec.Header().Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("got %d, Allow %q", rec.Code, rec.Header().Get("Allow"))
	}
	if rec := w.do(t, "HEAD", "/v1/functions", ""); rec.Code != 200 {
		t.Errorf("HEAD: %d", rec.Code)
	}
}

func TestAsync(t *testing.T) {
	for _, c := range []struct {
		name, path string
		header     []string
	}{
		{"Prefer", "/v1/functions/echo/invoke", []string{"Prefer", "respond-async"}},
		{"alias", "/async-function/echo", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.run = nil
			rec := w.do(t, "POST", c.path, `{"a":1}`, c.header...)
			a := decode[struct {
				ID        functions.TaskID
				Status    string
				ResultURL string `json:"result_url"`
			}](t, rec)
			at := "/v1/tasks/" + string(a.ID)
			if rec.Code != 202 || rec.Header().Get("Location") != at || a.Status != "queued" || a.ResultURL != at+"/result" ||
				rec.Header().Get("Preference-Applied") != "respond-async" || rec.Header().Get("Retry-After") == "" || rec.Header().Get("X-Call-Id") != string(a.ID) {
				t.Fatalf("got %d %v %s", rec.Code, rec.Header(), rec.Body)
			}
			v := decode[taskView](t, w.do(t, "GET", at, ""))
			if v.Waiting == nil || v.Waiting.Code != functions.WaitGPUBusy || v.Waiting.Ahead != 3 {
				t.Errorf("waiting %+v", v.Waiting)
			}
			if rec := w.do(t, "GET", at+"/result", ""); rec.Code != 409 {
				t.Errorf("result before the end: %d", rec.Code)
			}
			w.start(a.ID, functions.CPU)
			w.finish(a.ID, functions.Outcome{Result: json.RawMessage(`7`)})
			if rec := w.do(t, "GET", at+"/result", ""); rec.Code != 200 || rec.Body.String() != "7" {
				t.Errorf("result: %d %s", rec.Code, rec.Body)
			}
		})
	}
}

// TestWaitIsCapped runs under a fake clock.
func TestWaitIsCapped(t *testing.T) {
	for _, c := range []struct {
		query, prefer string
		want          time.Duration
	}{{"", "", time.Minute}, {"?wait=300s", "", time.Minute}, {"", "wait=5", 5 * time.Second}, {"?wait=2s", "wait=5", 2 * time.Second}, {"?wait=0", "", 0}} {
		t.Run(fmt.Sprint(c.query, c.prefer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.run = nil
				start := time.Now()
				rec := w.do(t, "POST", "/v1/functions/echo/invoke"+c.query, `{}`, "Prefer", c.prefer)
				if took := time.Since(start); rec.Code != http.StatusAccepted || took != c.want {
					t.Errorf("%d after %s, want 202 after %s", rec.Code, took, c.want)
				}
			})
		})
	}
}

func TestSyncCallWakesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run = nil
		go func() {
			time.Sleep(time.Second) // fake clock
			for _, id := range w.ids() {
				w.start(id, functions.CPU)
				w.finish(id, functions.Outcome{Result: json.RawMessage(`1`)})
			}
		}()
		start := time.Now()
		rec := w.do(t, "POST", "/v1/functions/echo/invoke", `{}`)
		if took := time.Since(start); rec.Code != 200 || took != time.Second {
			t.Errorf("%d after %s, want 200 after 1s", rec.Code, took)
		}
	})
}

func TestIdempotency(t *testing.T) {
	w := newWorld(t, nil)
	call := func(body string) (int, string, string, string) {
		rec := w.do(t, "POST", "/v1/functions/echo/invoke", body, "Content-Type", asJSON, "Idempotency-Key", "k1")
		return rec.Code, rec.Header().Get("Spillway-Task-Id"), rec.Header().Get("Idempotency-Replayed"), rec.Body.String()
	}
	code, id, replayed, _ := call(`{"n":1}`)
	if code != 200 || replayed != "" {
		t.Fatalf("first: %d, replayed %q", code, replayed)
	}
	code, again, replayed, body := call(`{"n":1}`)
	if code != 200 || again != id || replayed != "true" || body != `{"ok":true}` {
		t.Errorf("same body: %d %s replayed %q %s; want the result of %s", code, again, replayed, body, id)
	}
	if code, _, _, body := call(`{"n":2}`); code != 422 || !strings.Contains(body, "idempotency_mismatch") {
		t.Errorf("other body: %d %s, want 422", code, body)
	}
	if len(w.tasks) != 1 {
		t.Errorf("%d tasks, want 1", len(w.tasks))
	}
}

func TestReplayedFileIsNotKeptTwice(t *testing.T) {
	w := newWorld(t, nil)
	for range 2 {
		if rec := w.do(t, "POST", "/v1/functions/echo/invoke", "some text\n", "Content-Type", "text/plain", "Idempotency-Key", "k", "X-File-Name", "a.txt"); rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
	if len(w.objects) != 1 {
		t.Errorf("%d objects, want 1: %v", len(w.objects), w.objects)
	}
}

func TestFileBody(t *testing.T) {
	w := newWorld(t, nil)
	png := "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + strings.Repeat("\x00", 5000)
	rec := w.do(t, "POST", "/v1/functions/thumbnail/invoke", png, "Content-Type", "application/octet-stream", "Content-Disposition", `attachment; filename="photo.dat"`)
	task := w.get(functions.TaskID(rec.Header().Get("Spillway-Task-Id")))
	if rec.Code != 200 || len(task.Inputs) != 1 || task.Inputs[0].Name != "photo.dat" || task.Inputs[0].Size != int64(len(png)) ||
		task.Route.ContentType != "image/png" || task.Route.Device != functions.GPU {
		t.Errorf("%d, task %+v", rec.Code, task)
	}
	if got := w.objects["uploads/in/"+string(task.ID)+"/photo.dat"]; string(got.data) != png || got.kind != "image/png" {
		t.Errorf("stored %d bytes as %s", len(got.data), got.kind)
	}
}

func TestQueueFull(t *testing.T) {
	w := newWorld(t, nil)
	w.fns["echo"][0].MaxQueue, w.queued = 2, 2
	rec := w.do(t, "POST", "/v1/functions/echo/invoke", `{}`)
	if p := decode[problem](t, rec); rec.Code != 429 || rec.Header().Get("Retry-After") == "" || p.Code != "queue_full" || !p.Retryable {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestInternalErrorsStayInside(t *testing.T) {
	w := newWorld(t, nil)
	w.down = errDisk
	rec := w.do(t, "POST", "/v1/functions/echo/invoke", `{}`)
	if rec.Code != 500 || strings.Contains(rec.Body.String(), "secret") || decode[problem](t, rec).RequestID == "" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	w.down = functions.Unavailable("log_down", "the log does not answer")
	if rec := w.do(t, "POST", "/v1/functions/echo/invoke", `{}`); rec.Code != 503 || rec.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}
