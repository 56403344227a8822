package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway"
)

// submit accepts one task and leaves it queued.
func (w *world) submit(t testing.TB) functions.TaskID {
	t.Helper()
	run := w.run
	w.run = nil
	rec := w.do(t, "POST", "/async-function/echo", `{}`)
	w.run = run
	if rec.Code != 202 {
		t.Fatalf("submit: %d %s", rec.Code, rec.Body)
	}
	return decode[taskView](t, rec).ID
}

func TestTaskShowsItsLife(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	id := w.submit(t)
	at := "/v1/tasks/" + string(id)
	show := func() taskView { return decode[taskView](t, w.do(t, "GET", at, "")) }

	w.start(id, functions.GPU)
	w.g.Feed.Progress(functions.Progress{Task: id, Attempt: 1, Phase: functions.PhasePull})
	if v := show(); v.Status != "pulling" || v.Waiting != nil {
		t.Errorf("while it pulls: %+v", v)
	}
	w.g.Feed.Progress(functions.Progress{Task: id, Attempt: 0, Phase: functions.PhaseRun})
	if v := show(); v.Status != "pulling" {
		t.Errorf("progress of an older attempt shows: %+v", v)
	}
	failure := &functions.Failure{Class: functions.GPUHost, Message: "no driver"}
	w.apply(functions.Event{Kind: functions.Finish, Task: id, At: time.Now(), Fin: &functions.Closing{Attempt: 1, Outcome: functions.Outcome{Failure: failure}}})
	w.release(id, functions.Verdict{To: functions.Queued, Device: functions.CPU, Fallback: functions.GPUHost, Why: "the CPU does not share it"})
	w.start(id, functions.CPU)
	if v := show(); v.Status != "assigned" {
		t.Errorf("progress of the attempt before shows: %+v", v)
	}
	w.finish(id, functions.Outcome{Result: json.RawMessage(`1`), Phases: []functions.Span{{Phase: functions.PhaseRun, MS: 12.5}},
		Outputs: []functions.Output{{Name: "a b/ü.png", ObjectRef: functions.ObjectRef{Bucket: "results", Key: "o"}}}})

	v := show()
	if v.Status != "succeeded" || v.DeviceUsed != "cpu" || v.FallbackReason != "gpu_host: no driver" || v.Timings["run"] != 12.5 {
		t.Errorf("at the end: %+v", v)
	}
	if _, ok := v.Timings["queue"]; !ok {
		t.Errorf("timings %v lack the queue", v.Timings)
	}
	if len(v.Outputs) != 1 || v.Outputs[0].DownloadURL != "http://store/results/o" {
		t.Fatalf("outputs %+v", v.Outputs)
	}
	if rec := w.do(t, "GET", v.Outputs[0].URL, ""); rec.Code != 303 || rec.Header().Get("Location") != "http://store/results/o" {
		t.Errorf("GET %s: %d %s", v.Outputs[0].URL, rec.Code, rec.Body)
	}
	for _, bad := range []string{"nosuch", "..%2f..%2fx", "%00"} {
		if rec := w.do(t, "GET", at+"/outputs/"+bad, ""); rec.Code != 404 && rec.Code != 400 {
			t.Errorf("output %s: %d", bad, rec.Code)
		}
	}
	if rec := w.do(t, "GET", "/v1/tasks/"+string(id)[:9], ""); rec.Code != 200 {
		t.Errorf("by the beginning of its id: %d", rec.Code)
	}
	etag := w.do(t, "GET", at, "").Header().Get("ETag")
	if rec := w.do(t, "GET", at, "", "If-None-Match", `"x", `+etag); rec.Code != 304 || rec.Body.Len() != 0 {
		t.Errorf("unchanged: %d", rec.Code)
	}
}

func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run = nil
		id := w.submit(t)
		time.AfterFunc(3*time.Second, func() {
			w.start(id, functions.CPU)
			w.finish(id, functions.Outcome{})
		})
		start := time.Now()
		v := decode[taskView](t, w.do(t, "GET", "/v1/tasks/"+string(id)+"?wait=30s", ""))
		if took := time.Since(start); v.Status != "succeeded" || took != 3*time.Second {
			t.Errorf("%s after %s, want succeeded after 3s", v.Status, took)
		}
	})
}

func TestListPages(t *testing.T) {
	w := newWorld(t, nil)
	want := map[functions.TaskID]bool{}
	for range 5 {
		want[w.submit(t)] = true
	}
	path, pages := "/v1/tasks?limit=2&function=echo&status=queued,running", 0
	for path != "" {
		rec := w.do(t, "GET", path, "")
		page := decode[struct {
			Tasks []taskView
			Next  string `json:"next_cursor"`
		}](t, rec)
		for _, v := range page.Tasks {
			if !want[v.ID] {
				t.Errorf("%s twice, or not asked for", v.ID)
			}
			delete(want, v.ID)
		}
		link := rec.Header().Get("Link")
		if (link == "") != (page.Next == "") {
			t.Errorf("Link %q, next_cursor %q", link, page.Next)
		}
		path = ""
		if link != "" {
			path = link[1:strings.Index(link, ">")]
		}
		pages++
	}
	if len(want) != 0 || pages != 3 {
		t.Errorf("%d tasks missing after %d pages", len(want), pages)
	}
}

func TestCancelAndRetry(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	id := w.submit(t)
	at := "/v1/tasks/" + string(id)
	post := func(verb, body string) (int, string, string) {
		rec := w.do(t, "POST", at+"/"+verb, body)
		v := decode[struct{ Status any }](t, rec)
		return rec.Code, fmt.Sprint(v.Status), rec.Body.String()
	}
	if code, _, body := post("retry", ""); code != 409 || !strings.Contains(body, "not_ended") {
		t.Errorf("retry of a queued task: %d %s", code, body)
	}
	for range 2 { // idempotent
		if code, status, body := post("cancel", ""); code != 200 || status != "canceled" {
			t.Errorf("cancel: %d %s", code, body)
		}
	}
	if rec := w.do(t, "GET", at+"/result", ""); rec.Code != 409 {
		t.Errorf("result of a canceled task: %d", rec.Code)
	}
	if code, _, body := post("retry", `{"device":"tpu"}`); code != 400 || !strings.Contains(body, "tpu") {
		t.Errorf("retry on a tpu: %d %s", code, body)
	}
	if code, status, body := post("retry", `{"device":"cpu"}`); code != 200 || status != "queued" || w.get(id).Only != functions.CPU {
		t.Errorf("retry: %d %s", code, body)
	}
	w.start(id, functions.CPU)
	if rec := w.do(t, "DELETE", at, ""); rec.Code != 200 || decode[taskView](t, rec).Status != "canceling" {
		t.Errorf("cancel a running task: %d %s", rec.Code, rec.Body)
	}
	w.finish(id, functions.Outcome{})
	if code, _, body := post("cancel", ""); code != 409 || !strings.Contains(body, "already_ended") {
		t.Errorf("cancel after the end: %d %s", code, body)
	}
	if code, _, body := post("retry", ""); code != 409 || !strings.Contains(body, "already_succeeded") {
		t.Errorf("retry after success: %d %s", code, body)
	}
}

func TestUpload(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	type session struct {
		ID          functions.TaskID
		State       string
		Upload      *functions.PresignedRequest
		CompleteURL string `json:"complete_url"`
	}
	body := `{"function":"thumbnail","name":"Grüße 世界.pdf","size":60,"content_type":"application/pdf","event":{"w":1},"device":"auto"}`
	rec := w.do(t, "POST", "/v1/uploads", body, "Idempotency-Key", "u1")
	s := decode[session](t, rec)
	if rec.Code != 201 || s.State != "awaiting_upload" || s.Upload == nil || s.Upload.Headers["Content-Length"] != "60" {
		t.Fatalf("create: %d %s", rec.Code, rec.Body)
	}
	if again := decode[session](t, w.do(t, "POST", "/v1/uploads", body, "Idempotency-Key", "u1")); again.ID != s.ID {
		t.Errorf("the same key made %s and %s", s.ID, again.ID)
	}
	if rec := w.do(t, "POST", s.CompleteURL, ""); rec.Code != 409 || !strings.Contains(rec.Body.String(), "not_uploaded") {
		t.Errorf("complete before the file: %d %s", rec.Code, rec.Body)
	}
	key := strings.TrimPrefix(s.Upload.URL, "http://store/")
	w.objects[key] = object{[]byte("short"), ""}
	if rec := w.do(t, "POST", s.CompleteURL, ""); rec.Code != 409 || !strings.Contains(rec.Body.String(), "size_mismatch") {
		t.Errorf("complete with another size: %d %s", rec.Code, rec.Body)
	}
	w.objects[key] = object{[]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + strings.Repeat("\x00", 44)), "application/pdf"}
	for range 2 { // idempotent
		rec := w.do(t, "POST", s.CompleteURL, "")
		v := decode[taskView](t, rec)
		if rec.Code != 200 || v.Status != "queued" || v.Route.Sniffed != "image/png" || v.Route.Declared != "application/pdf" || v.Route.Device != functions.GPU {
			t.Errorf("complete: %d %s", rec.Code, rec.Body)
		}
	}
	if got := decode[session](t, w.do(t, "GET", "/v1/uploads/"+string(s.ID), "")); got.State != "queued" || got.Upload != nil {
		t.Errorf("after it: %+v", got)
	}
	if rec := w.do(t, "GET", "/v1/uploads/"+string(w.submit(t)), ""); rec.Code != 404 {
		t.Errorf("a task that is no upload: %d", rec.Code)
	}
}

func TestSweepPassesOverWhatItCannotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run = nil
		locked, refused := map[string]bool{}, 0
		var ids []functions.TaskID
		for i := range 3 {
			v := decode[taskView](t, w.do(t, "POST", "/v1/uploads", `{"function":"echo","name":"a.txt","size":0}`))
			ids = append(ids, v.ID)
			key := "in/" + string(v.ID) + "/a.txt"
			w.objects["uploads/"+key] = object{nil, ""}
			locked[key] = i != 1
		}
		w.stat = func(_ context.Context, bucket, key, _ string) (functions.ObjectRef, error) {
			if locked[key] {
				w.mu.Lock()
				refused++
				w.mu.Unlock()
				return functions.ObjectRef{}, functions.NewError(functions.ErrForbidden, "store_forbidden", "the store refuses")
			}
			return functions.ObjectRef{Bucket: bucket, Key: key, ETag: "e"}, nil
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.g.Run(ctx) }()
		time.Sleep(2 * time.Minute) // fake clock
		synctest.Wait()
		if got := w.get(ids[1]).State; got != functions.Queued {
			t.Errorf("the one that can be read is %s", got)
		}
		if refused < 2 {
			t.Errorf("the store refused %d times: the test shows nothing", refused)
		}
		stop()
		<-done
	})
}

func TestSweepCompletesForgottenUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run = nil
		var ids []functions.TaskID
		for range 2 {
			v := decode[taskView](t, w.do(t, "POST", "/v1/uploads", `{"function":"echo","name":"a.txt","size":0}`))
			ids = append(ids, v.ID)
		}
		w.objects["uploads/in/"+string(ids[1])+"/a.txt"] = object{nil, ""}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.g.Run(ctx) }()
		time.Sleep(59 * time.Second) // fake clock
		synctest.Wait()
		if got := w.get(ids[1]).State; got != functions.AwaitingUpload {
			t.Errorf("%s before its client had time to complete", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if a, b := w.get(ids[0]).State, w.get(ids[1]).State; a != functions.AwaitingUpload || b != functions.Queued {
			t.Errorf("without a file %s, with one %s", a, b)
		}
		stop()
		<-done
	})
}

func TestEventsResume(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	id := w.submit(t)
	srv := httptest.NewServer(w.g)
	defer srv.Close()
	open := func(last string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/v1/tasks/"+string(id)+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Last-Event-ID", last)
		resp, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	read := func(sc *bufio.Scanner) (name, eventID, data string) {
		for sc.Scan() {
			line := sc.Text()
			k, v, _ := strings.Cut(line, ": ")
			switch {
			case k == "event":
				name = v
			case k == "id":
				eventID = v
			case k == "data":
				data = v
			case line == "" && name != "":
				return name, eventID, data
			}
		}
		return "", "", ""
	}
	resp := open("")
	sc := bufio.NewScanner(resp.Body)
	name, last, data := read(sc)
	if resp.Header.Get("Content-Type") != "text/event-stream" || name != "state" || !strings.Contains(data, `"queued"`) {
		t.Fatalf("first event %s %s", name, data)
	}
	w.start(id, functions.CPU)
	if name, last, data = read(sc); name != "state" || !strings.Contains(data, `"assigned"`) {
		t.Errorf("after the start: %s %s", name, data)
	}
	w.g.Feed.Progress(functions.Progress{Task: id, Attempt: 1, Phase: functions.PhaseRun, Fraction: 0.5})
	if name, _, data := read(sc); name != "progress" || !strings.Contains(data, "0.5") {
		t.Errorf("progress: %s %s", name, data)
	}
	resp.Body.Close() // the connection is lost, the task ends meanwhile

	w.finish(id, functions.Outcome{})
	resp = open(last)
	sc = bufio.NewScanner(resp.Body)
	if name, _, data := read(sc); name != "state" || !strings.Contains(data, `"succeeded"`) {
		t.Errorf("resumed with %s %s", name, data)
	}
	name, last, _ = read(sc)
	if name != "end" || last != fmt.Sprint(w.get(id).Seq) {
		t.Errorf("then %s, id %s", name, last)
	}
	if sc.Scan() {
		t.Errorf("after the end: %q", sc.Text())
	}
	resp.Body.Close()
	if resp = open(last); resp.StatusCode != 204 {
		t.Errorf("again after the end: %d, want 204", resp.StatusCode)
	}
	resp.Body.Close()
}

func TestLogs(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	id := w.submit(t)
	at := "/v1/tasks/" + string(id) + "/logs"
	line := func(n int64, text string) functions.LogLine {
		return functions.LogLine{Task: id, Attempt: 1, N: n, Stream: "stdout", Text: text}
	}
	if rec := w.do(t, "GET", at, ""); rec.Code != 200 || rec.Body.Len() != 0 {
		t.Errorf("before the start: %d %q", rec.Code, rec.Body)
	}
	w.start(id, functions.CPU)
	w.lines = []functions.LogLine{line(1, "one"), line(2, "two"), line(3, "three")}
	if rec := w.do(t, "GET", at+"?tail=2", ""); rec.Body.String() != "two\nthree\n" {
		t.Errorf("running: %q", rec.Body)
	}
	if rec := w.do(t, "GET", at+"?attempt=7", ""); rec.Code != 404 {
		t.Errorf("attempt 7: %d", rec.Code)
	}
	// Followed with every live line lost: the rest comes from the store.
	var stored strings.Builder
	for i, text := range []string{"one", "two", "three", "four"} {
		b, err := json.Marshal(line(int64(i+1), text))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&stored, "%s\n", b)
	}
	w.objects["results/log"] = object{[]byte(stored.String()), ""}
	time.AfterFunc(20*time.Millisecond, func() {
		w.finish(id, functions.Outcome{Log: &functions.ObjectRef{Bucket: "results", Key: "log"}})
	})
	if rec := w.do(t, "GET", at+"?follow=1", ""); rec.Body.String() != "one\ntwo\nthree\nfour\n" {
		t.Errorf("followed: %q", rec.Body)
	}
	rec := w.do(t, "GET", at+"?tail=1", "", "Accept", "application/x-ndjson")
	if l := decode[functions.LogLine](t, rec); l.Text != "four" || rec.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("as JSON: %s", rec.Body)
	}
}

func TestKeys(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) {
		c.Open = false
		c.Keys = append(c.Keys, gateway.HashKey("other"), gateway.HashKey("right"))
		c.Ready = map[string]func(context.Context) error{"log": func(context.Context) error { return errDisk }}
	})
	for _, c := range []struct {
		path, auth string
		want       int
	}{
		{"/v1/tasks", "", 401}, {"/v1/tasks", "Bearer wrong", 401}, {"/v1/tasks", "Basic right", 401}, {"/v1/tasks", "Bearer right", 200},
		{"/metrics", "", 401}, {"/livez", "", 200}, {"/healthz", "", 200}, {"/openapi.json", "", 200},
		{"/readyz", "", 503}, {"/readyz?verbose", "", 401}, {"/readyz?verbose", "Bearer right", 503},
	} {
		rec := w.do(t, "GET", c.path, "", "Authorization", c.auth)
		if rec.Code != c.want {
			t.Errorf("GET %s with %q: %d, want %d", c.path, c.auth, rec.Code, c.want)
		}
		if rec.Code == 401 && (decode[problem](t, rec).Hint == "" || rec.Header().Get("WWW-Authenticate") == "") {
			t.Errorf("GET %s: no hint: %s", c.path, rec.Body)
		}
		if shows := strings.Contains(rec.Body.String(), "secret"); shows != (c.path == "/readyz?verbose" && c.auth != "") {
			t.Errorf("GET %s with %q shows causes: %v", c.path, c.auth, shows)
		}
	}
	cfg := w.cfg
	cfg.Keys = nil
	if _, err := gateway.New(cfg); err == nil {
		t.Error("a gateway that lets nobody in was made")
	}
}

func TestAPageOfAnotherSiteCannotCallAnOpenGateway(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		method, path string
		header       []string
		want         int
	}{
		{"POST", "/v1/functions/echo/invoke", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", "/v1/functions/echo/invoke", []string{"Origin", "https://elsewhere.example"}, 403},
		{"POST", "/function/echo", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"POST", "/v1/functions/echo/invoke", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"POST", "/v1/functions/echo/invoke", nil, 200},                     // no browser
		{"GET", "/v1/tasks", []string{"Sec-Fetch-Site", "cross-site"}, 200}, // it cannot read the answer
	} {
		if rec := w.do(t, c.method, c.path, "", c.header...); rec.Code != c.want {
			t.Errorf("%s %s with %q: %d, want %d", c.method, c.path, c.header, rec.Code, c.want)
		}
	}
	if n := len(w.tasks); n != 2 {
		t.Errorf("%d tasks, want 2", n)
	}
}

func TestExplain(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.do(t, "POST", "/v1/route:explain", `{"file_name":"a.webm","content_type":"audio/webm","device":"never"}`)
	if r := decode[functions.Route](t, rec); rec.Code != 200 || r.ContentType != "audio/webm" || r.Device != functions.CPU || r.Policy != functions.Never {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	rec = w.do(t, "POST", "/v1/route:explain", `{"function":"echo","head_base64":"iVBORw0KGgo=","file_name":"x.pdf"}`)
	if r := decode[functions.Route](t, rec); r.ContentType != "image/png" || r.Device != functions.GPU || len(w.tasks) != 0 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestFunctionsAndNodes(t *testing.T) {
	w := newWorld(t, nil)
	if rec := w.do(t, "POST", "/v1/functions", `{"name":"new","image":"i"}`); rec.Code != 201 {
		t.Fatalf("deploy: %d %s", rec.Code, rec.Body)
	}
	for _, path := range []string{"/v1/functions", "/v1/functions/new", "/v1/functions/new?version=1", "/v1/functions/new/versions", "/v1/nodes", "/v1/nodes/n1"} {
		if rec := w.do(t, "GET", path, ""); rec.Code != 200 {
			t.Errorf("GET %s: %d %s", path, rec.Code, rec.Body)
		}
	}
	if rec := w.do(t, "DELETE", "/v1/functions/new", ""); rec.Code != 204 {
		t.Errorf("delete: %d", rec.Code)
	}
	if rec := w.do(t, "DELETE", "/v1/functions/new", ""); rec.Code != 404 {
		t.Errorf("delete twice: %d", rec.Code)
	}
}
