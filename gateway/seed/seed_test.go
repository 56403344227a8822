package seed

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

const (
	newID   = functions.TaskID("01920000-0000-7000-8000-000000000001")
	otherID = functions.TaskID("01920000-0000-7000-8000-000000000002")
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is everything behind the API, in memory.
type world struct {
	stored   map[string]int64 // bytes by file name
	storeErr error
	accepted []intake.Call
	refuse   error // Accept's answer
	deployed []functions.Function
	tasks    map[functions.TaskID]functions.Task
	nodes    []functions.NodeStatus
	live     map[functions.TaskID]functions.Progress
	pages    map[string]string // bodies by URL
	full     int               // tasks after which nothing is accepted; 0 = no limit
	ids      int               // given out
	seq      uint64
}

func newWorld() *world {
	fn := func(name functions.Name, handles ...functions.ContentClass) functions.Function {
		return functions.Function{Spec: functions.Spec{Name: name, Handles: handles}, Version: 1}
	}
	return &world{
		stored: map[string]int64{}, tasks: map[functions.TaskID]functions.Task{}, live: map[functions.TaskID]functions.Progress{},
		deployed: []functions.Function{fn("words", functions.Document), fn("zz-speech", functions.Audio), fn("speech", functions.Audio, functions.Video), fn("echo")},
	}
}

// NewID gives newID first, and others after it.
func (w *world) NewID() functions.TaskID {
	w.ids++
	if w.ids == 1 {
		return newID
	}
	return functions.TaskID(fmt.Sprintf("01920000-0000-7000-8000-1%011d", w.ids))
}

func (w *world) Look(_ context.Context, r intake.Ref) (functions.Input, content.Type, error) {
	body, ok := w.pages[r.URL]
	switch {
	case strings.Contains(r.URL, "127.0.0.1"):
		return functions.Input{}, content.Type{}, functions.NewError(functions.ErrForbidden, "url_refused", "not a public address")
	case !ok:
		return functions.Input{}, content.Type{}, functions.NotFound("url_status", "%s answered 404", r.URL)
	}
	name := r.URL[strings.LastIndexByte(r.URL, '/')+1:]
	return functions.Input{Name: name, URL: r.URL}, content.Detect([]byte(body), name, ""), nil
}

func (w *world) StoreInput(_ context.Context, _ functions.TaskID, name string, r io.Reader, _ int64, declared string) (functions.Input, content.Type, error) {
	if err := functions.FileName(name); err != nil {
		return functions.Input{}, content.Type{}, err
	}
	var head [content.HeadSize]byte
	n, _ := io.ReadFull(r, head[:])
	rest, err := io.Copy(io.Discard, r)
	if err := cmp.Or(err, w.storeErr); err != nil {
		return functions.Input{}, content.Type{}, fmt.Errorf("put: %w", err)
	}
	w.stored[name] = int64(n) + rest
	return functions.Input{Name: name}, content.Detect(head[:n], name, declared), nil
}

func (w *world) Discard(_ context.Context, inputs []functions.Input) error {
	for _, in := range inputs {
		delete(w.stored, in.Name)
	}
	return nil
}

func (w *world) Accept(_ context.Context, c intake.Call) (intake.Ticket, error) {
	if w.refuse != nil {
		return intake.Ticket{}, w.refuse
	}
	if c.Key != "" {
		for _, before := range w.accepted {
			if before.Key != c.Key || before.Function != c.Function {
				continue
			}
			if before.BodyHash != c.BodyHash {
				return intake.Ticket{}, functions.Conflict("idempotency_mismatch", "another body")
			}
			return intake.Ticket{Task: w.tasks[before.ID], Replayed: true}, nil
		}
	}
	if w.full > 0 && len(w.accepted) >= w.full {
		return intake.Ticket{}, functions.NewError(functions.ErrThrottled, "queue_full", "the queue is full")
	}
	w.accepted = append(w.accepted, c)
	t := functions.Task{ID: c.ID, Function: c.Function, State: functions.Queued, Route: c.Content.Route(c.Policy), CreatedAt: now}
	w.tasks[t.ID] = t
	return intake.Ticket{Task: t}, nil
}

func (w *world) List() []functions.Function { return slices.Clone(w.deployed) }

func (w *world) Task(_ context.Context, id functions.TaskID) (functions.Task, error) {
	t, ok := w.tasks[id]
	if !ok {
		return t, functions.NotFound("task_not_found", "there is no task %s", id)
	}
	return t, nil
}

func (w *world) WaitApplied(_ context.Context, seq uint64) error {
	if seq > w.seq {
		return errors.New("waits for ever")
	}
	return nil
}

func (w *world) Counts(context.Context) (functions.Counts, error) {
	c := functions.Counts{}
	for _, t := range w.tasks {
		if c[t.Function] == nil {
			c[t.Function] = map[functions.State]int64{}
		}
		c[t.Function][t.State]++
	}
	return c, nil
}

func (w *world) Waiting(context.Context) (map[functions.Device]int64, error) {
	out := map[functions.Device]int64{}
	for _, t := range w.tasks {
		if t.State == functions.Queued {
			out[t.Route.Device]++
		}
	}
	return out, nil
}

func (w *world) Nodes() []functions.NodeStatus { return w.nodes }

func (w *world) Submit(_ context.Context, e functions.Event) (uint64, error) {
	w.seq++
	after, err := w.tasks[e.Task].Apply(e, 0, w.seq)
	if err == nil {
		w.tasks[e.Task] = after
	}
	return w.seq, nil
}

func (w *world) Progress(id functions.TaskID) (functions.Progress, bool) {
	p, ok := w.live[id]
	return p, ok
}

// tasksOf gives the world its second List.
type tasksOf struct{ *world }

func (w tasksOf) List(_ context.Context, q functions.TaskQuery) (page functions.TaskPage, err error) {
	for _, t := range w.tasks {
		if (q.Function == "" || q.Function == t.Function) && slices.Contains(q.States, t.State) {
			page.Tasks = append(page.Tasks, t)
		}
	}
	return page, nil
}

func (w *world) handler() http.Handler {
	mux := http.NewServeMux()
	New(Config{
		Door: w, Functions: w, Tasks: tasksOf{w}, Nodes: w, Control: w, Progress: w,
		MaxUpload: functions.MiB, Now: func() time.Time { return now.Add(10 * time.Second) },
	}).Routes(func(method, path string, h http.HandlerFunc) {
		if strings.HasSuffix(path, "/") {
			path += "{$}"
		}
		mux.HandleFunc(method+" "+path, h)
	})
	return mux
}

func (w *world) call(method, path, contentType string, body io.Reader) (int, string) {
	r := httptest.NewRequest(method, path, body)
	r.Header.Set("Content-Type", contentType)
	rec := httptest.NewRecorder()
	w.handler().ServeHTTP(rec, r)
	return rec.Code, rec.Body.String()
}

func (w *world) get(path string) (int, string) { return w.call("GET", path, "", nil) }

// part is a form part; one with a file name is a file.
type part struct{ name, file, kind, body string }

func formOf(parts ...part) (contentType string, body *bytes.Buffer) {
	body = &bytes.Buffer{}
	mw := multipart.NewWriter(body)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		h.Set("Content-Disposition", fmt.Sprintf("form-data; name=%q", p.name))
		if p.file != "" {
			h.Set("Content-Disposition", fmt.Sprintf(`form-data; name="%s"; filename="%s"`, p.name, p.file))
		}
		if p.kind != "" {
			h.Set("Content-Type", p.kind)
		}
		pw, _ := mw.CreatePart(h)
		io.WriteString(pw, p.body)
	}
	mw.Close()
	return mw.FormDataContentType(), body
}

func (w *world) ingest(parts ...part) (int, string) {
	kind, body := formOf(parts...)
	return w.call("POST", "/api/v1/ingest/file", kind, body)
}

const wav = "RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x44\xac\x00\x00\x88\x58\x01\x00\x02\x00\x10\x00data\x00\x00\x00\x00"

var speech = part{"file", "speech.wav", "audio/wav", wav}

func TestIngest(t *testing.T) {
	for _, c := range []struct {
		name   string
		parts  []part
		fn     functions.Name
		policy functions.Policy
		extra  func(intake.Call) bool
	}{
		{"GPU asked for behind the file", []part{speech, {"gpu", "", "", "true"}}, "speech", functions.Preferred, nil},
		{"GPU asked for before the file", []part{{"gpu", "", "", "1"}, speech}, "speech", functions.Preferred, nil},
		{"no GPU without asking", []part{speech}, "speech", functions.Never, nil},
		{"GPU refused", []part{speech, {"gpu", "", "", "False"}}, "speech", functions.Never, nil},
		{"the named kind wins over the bytes", []part{speech, {"source_type", "", "", "document"}}, "words", functions.Never, nil},
		{"a web page is a document", []part{{"file", "p.html", "text/html", "<!doctype html><p>hi"}, {"source_type", "", "", "web"}}, "words", functions.Never, nil},
		{"an unknown kind says nothing", []part{speech, {"source_type", "", "", "podcast"}}, "speech", functions.Never, nil},
		{"an empty kind says nothing", []part{speech, {"source_type", "", "", ""}, {"metadata", "", "", " "}, {"webhook_url", "", "", ""}}, "speech", functions.Never,
			func(c intake.Call) bool { return c.Metadata == nil && c.Params == nil }},
		{"metadata and webhook are kept", []part{speech, {"metadata", "", "", `{"a": [1]}`}, {"webhook_url", "", "", "https://example.org/hook"}, {"source_type", "", "", "audio"}, {"use_docling", "", "", "on"}}, "speech", functions.Never,
			func(c intake.Call) bool {
				return string(c.Metadata) == `{"source_type":"audio","webhook_url":"https://example.org/hook","metadata":{"a":[1]}}` && c.Webhook == "https://example.org/hook" && string(c.Params) == `{"use_docling":true}`
			}},
		{"fields that nobody knows pass by", []part{{"colour", "", "", "red"}, speech}, "speech", functions.Never, nil},
		{"a Windows path is cut", []part{{"file", `C:\\dir\\speech.wav`, "", wav}}, "speech", functions.Never,
			func(c intake.Call) bool { return c.Inputs[0].Name == "speech.wav" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			status, body := w.ingest(c.parts...)
			want := fmt.Sprintf(`{"task_id":"%s","status":"pending","message":"File %s was accepted and will be processed by %s","estimated_time":null}`+"\n", newID, "%s", c.fn)
			if status != 200 || len(w.accepted) != 1 {
				t.Fatalf("%d %s", status, body)
			}
			call := w.accepted[0]
			if got := fmt.Sprintf(want, call.Inputs[0].Name); body != got {
				t.Errorf("got %swant %s", body, got)
			}
			if call.Function != c.fn || call.Policy != c.policy || call.ID != newID || call.Source != "seed" || len(call.Inputs) != 1 || c.extra != nil && !c.extra(call) {
				t.Errorf("call is %+v, metadata %s", call, call.Metadata)
			}
		})
	}
}

func TestIngestRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		parts  []part
		status int
		says   string
	}{
		{"no file", []part{{"gpu", "", "", "true"}}, 422, "file"},
		{"nothing at all", nil, 422, "file"},
		{"file as text", []part{{"file", "", "", "hello"}}, 422, "file name"},
		{"two files", []part{speech, speech}, 422, "two files"},
		{"gpu is no switch", []part{speech, {"gpu", "", "", "maybe"}}, 422, "gpu"},
		{"docling is no switch", []part{speech, {"use_docling", "", "", "2"}}, 422, "use_docling"},
		{"metadata is not JSON", []part{speech, {"metadata", "", "", "{"}}, 422, "metadata"},
		{"metadata is a list", []part{speech, {"metadata", "", "", "[1]"}}, 422, "metadata"},
		{"webhook is no URL", []part{speech, {"webhook_url", "", "", "file:///etc/passwd"}}, 422, "webhook_url"},
		{"nobody handles images", []part{{"file", "a.png", "image/png", "\x89PNG\r\n\x1a\n"}}, 422, "speech handles audio, video; words handles document; zz-speech handles audio"},
		{"name with a control character", []part{{"file", "a\tb.wav", "", wav}}, 422, "control character"},
		{"name is a folder", []part{{"file", "..", "", wav}}, 422, ".."},
		{"field too large", []part{speech, {"metadata", "", "", strings.Repeat(" ", 65<<10)}}, 413, "metadata"},
		{"file too large", []part{{"file", "big.wav", "", wav + strings.Repeat("x", 2<<20)}}, 413, "1MiB"},
		{"too many parts", slices.Repeat([]part{{"x", "", "", ""}}, 100), 422, "64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			status, body := w.ingest(c.parts...)
			var p problem
			if err := json.Unmarshal([]byte(body), &p); err != nil || status != c.status || !strings.Contains(p.Detail, c.says) || p.Code == "" {
				t.Errorf("got %d %s, want %d with %q", status, body, c.status, c.says)
			}
			if len(w.accepted)+len(w.stored) != 0 {
				t.Errorf("%d tasks were accepted, %d files stay", len(w.accepted), len(w.stored))
			}
		})
	}
	w := newWorld()
	kind, body := formOf(speech)
	if status, answer := w.call("POST", "/api/v1/ingest/file", kind, bytes.NewReader(body.Bytes()[:body.Len()-30])); status != 422 || len(w.accepted) != 0 {
		t.Errorf("cut off: %d %s", status, answer)
	}
	if status, answer := w.call("POST", "/api/v1/ingest/file", "application/json", strings.NewReader("{}")); status != 422 || !strings.Contains(answer, "multipart") {
		t.Errorf("not a form: %d %s", status, answer)
	}
	w.storeErr = functions.Unavailable("store_down", "the object store does not answer")
	if status, answer := w.ingest(speech); status != 503 || !strings.Contains(answer, "store_down") {
		t.Errorf("store is down: %d %s", status, answer)
	}
	w.storeErr = errors.New("secret path /var/lib/x")
	if status, answer := w.ingest(speech); status != 500 || strings.Contains(answer, "secret") {
		t.Errorf("internal error: %d %s", status, answer)
	}
	w.storeErr, w.deployed = nil, nil
	if status, answer := w.ingest(speech); status != 422 || !strings.Contains(answer, "no function handles anything") {
		t.Errorf("nothing deployed: %d %s", status, answer)
	}
}

// A file whose task was refused goes; one whose task may be in the log stays.
func TestTheFileOfARefusedTaskIsDeleted(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		stays int
	}{
		{"refused", functions.NewError(functions.ErrThrottled, "queue_full", "full"), 0},
		{"the log does not answer", functions.Unavailable("log_unavailable", "down"), 1},
		{"unknown", errors.New("broken"), 1},
	} {
		w := newWorld()
		w.refuse = c.err
		if status, body := w.ingest(speech); status < 400 || len(w.stored) != c.stays {
			t.Errorf("%s: %d %s, and %d files stay, want %d", c.name, status, body, len(w.stored), c.stays)
		}
	}
}

func TestEstimateIsTheMedian(t *testing.T) {
	w := newWorld()
	for i, took := range []time.Duration{2 * time.Second, 100 * time.Second, 3500 * time.Millisecond} {
		id := functions.TaskID(fmt.Sprintf("01920000-0000-7000-8000-0000000001%02d", i))
		w.tasks[id] = functions.Task{ID: id, Function: "speech", State: functions.Succeeded, CreatedAt: now, FinishedAt: now.Add(took)}
	}
	if _, body := w.ingest(speech); !strings.Contains(body, `"estimated_time":4}`) {
		t.Errorf("got %s", body)
	}
}

// TestStatus holds the exact bytes of each kind of answer.
func TestStatus(t *testing.T) {
	base := functions.Task{ID: otherID, Function: "speech", State: functions.Queued, CreatedAt: now, Route: functions.Route{Device: functions.GPU}}
	running := base
	running.State, running.Attempt = functions.Assigned, 2
	running.Attempts = []functions.Attempt{{Number: 2, Device: functions.CPU, StartedAt: now.Add(2 * time.Second)}}
	running.Fallback = functions.GPUHost
	text := "plain words"
	const head = `{"task_id":"01920000-0000-7000-8000-000000000002","status":`
	for name, c := range map[string]struct {
		task   functions.Task
		change func(*functions.Task)
		live   *functions.Progress
		want   string
	}{
		"queued":                   {base, nil, nil, `"PENDING","progress":0,"message":"Waiting for a free gpu","result":null,"error":null,"created_at":"2026-03-01T12:00:00Z","started_at":null,"completed_at":null,"estimated_time_remaining":null,"device_requested":"gpu","device_used":null,"fallback_reason":null,"attempts":0}`},
		"awaiting":                 {base, func(t *functions.Task) { t.State = functions.AwaitingUpload }, nil, `"PENDING","progress":0,"message":"Waiting for the upload","result":null,"error":null,"created_at":"2026-03-01T12:00:00Z","started_at":null,"completed_at":null,"estimated_time_remaining":null,"device_requested":"gpu","device_used":null,"fallback_reason":null,"attempts":0}`},
		"running":                  {running, nil, &functions.Progress{Attempt: 2, Fraction: 0.25, Stage: "transcribe"}, `"PROGRESS","progress":0.25,"message":"transcribe","result":null,"error":null,"created_at":"2026-03-01T12:00:00Z","started_at":"2026-03-01T12:00:02Z","completed_at":null,"estimated_time_remaining":24,"device_requested":"gpu","device_used":"cpu","fallback_reason":"gpu_host","attempts":2}`},
		"report of an old attempt": {running, nil, &functions.Progress{Attempt: 1, Fraction: 0.9}, `"PROGRESS","progress":0,"message":"Running on the cpu","result":null,"error":null,"created_at":"2026-03-01T12:00:00Z","started_at":"2026-03-01T12:00:02Z","completed_at":null,"estimated_time_remaining":null,"device_requested":"gpu","device_used":"cpu","fallback_reason":"gpu_host","attempts":2}`},
		"succeeded": {running, func(t *functions.Task) {
			t.State, t.FinishedAt, t.Outcome = functions.Succeeded, now.Add(5*time.Second), &functions.Outcome{Result: json.RawMessage(`{"text":"hi"}`)}
		}, nil, `"SUCCESS","progress":1,"message":"Processing completed","result":{"text":"hi"},"error":null,"created_at":"2026-03-01T12:00:00Z","started_at":"2026-03-01T12:00:02Z","completed_at":"2026-03-01T12:00:05Z","estimated_time_remaining":null,"device_requested":"gpu","device_used":"cpu","fallback_reason":"gpu_host","attempts":2}`},
		"succeeded, files not kept": {running, func(t *functions.Task) {
			t.State, t.Outcome = functions.Succeeded, &functions.Outcome{Result: json.RawMessage(`{"text":"hi"}`), Outputs: []functions.Output{{Name: "a"}}}
			t.Purged = functions.Purged{Inputs: now, Outputs: now, Logs: now}
		}, nil, `"SUCCESS","progress":1,"message":"Processing completed","result":{"text":"hi"},"error":null,"created_at":"2026-03-01T12:00:00Z","started_at":"2026-03-01T12:00:02Z","completed_at":null,"estimated_time_remaining":null,"device_requested":"gpu","device_used":"cpu","fallback_reason":"gpu_host","attempts":2}`},
		"text result": {running, func(t *functions.Task) {
			t.State, t.Outcome = functions.Succeeded, &functions.Outcome{ResultText: &text}
		}, nil, `"SUCCESS","progress":1,"message":"Processing completed","result":{"text":"plain words"},"error":null,"created_at":"2026-03-01T12:00:00Z","started_at":"2026-03-01T12:00:02Z","completed_at":null,"estimated_time_remaining":null,"device_requested":"gpu","device_used":"cpu","fallback_reason":"gpu_host","attempts":2}`},
		"result that is no object": {running, func(t *functions.Task) {
			t.State, t.Outcome = functions.Succeeded, &functions.Outcome{Result: json.RawMessage(`[1]`)}
		}, nil, `"SUCCESS","progress":1,"message":"Processing completed","result":{"value":[1]},"error":null,"created_at":"2026-03-01T12:00:00Z","started_at":"2026-03-01T12:00:02Z","completed_at":null,"estimated_time_remaining":null,"device_requested":"gpu","device_used":"cpu","fallback_reason":"gpu_host","attempts":2}`},
		"failed": {running, func(t *functions.Task) {
			t.State, t.Failure = functions.TimedOut, &functions.Failure{Class: functions.TimedOutRun, Message: "ran past 5m"}
		}, nil, `"FAILURE","progress":0,"message":"Processing failed","result":null,"error":"ran past 5m","created_at":"2026-03-01T12:00:00Z","started_at":"2026-03-01T12:00:02Z","completed_at":null,"estimated_time_remaining":null,"device_requested":"gpu","device_used":"cpu","fallback_reason":"gpu_host","attempts":2}`},
		"canceled": {base, func(t *functions.Task) { t.State = functions.Canceled }, nil, `"REVOKED","progress":0,"message":"Canceled","result":null,"error":null,"created_at":"2026-03-01T12:00:00Z","started_at":null,"completed_at":null,"estimated_time_remaining":null,"device_requested":"gpu","device_used":null,"fallback_reason":null,"attempts":0}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			if c.change != nil {
				c.change(&c.task)
			}
			w.tasks[otherID] = c.task
			if c.live != nil {
				w.live[otherID] = *c.live
			}
			status, body := w.get("/api/v1/status/" + string(otherID))
			if d := gocmp.Diff(head+c.want+"\n", body); status != 200 || d != "" {
				t.Errorf("%d (-want +got):\n%s", status, d)
			}
		})
	}
	for _, s := range functions.States {
		if words[s] == "" {
			t.Errorf("%s has no word", s)
		}
	}
	for _, id := range []string{string(newID), "nonsense", "%2e%2e"} {
		if status, body := newWorld().get("/api/v1/status/" + id); status != 404 || !strings.Contains(body, `"detail":"there is no task`) {
			t.Errorf("unknown %s: %d %s", id, status, body)
		}
	}
}

func TestCancel(t *testing.T) {
	for state, c := range map[functions.State]struct {
		status int
		says   string
	}{
		functions.Queued:    {200, `{"task_id":"01920000-0000-7000-8000-000000000002","status":"REVOKED","message":"Task cancelled"}`},
		functions.Assigned:  {200, `"status":"PROGRESS","message":"Task is being stopped"`},
		functions.Canceling: {200, `"message":"Task is being stopped"`},
		functions.Canceled:  {200, `"status":"REVOKED"`},
		functions.Succeeded: {409, `"detail":"the task has ended as SUCCESS"`},
		functions.Failed:    {409, `FAILURE`},
	} {
		w := newWorld()
		w.tasks[otherID] = functions.Task{ID: otherID, State: state, Attempt: 1, Attempts: []functions.Attempt{{Number: 1}}}
		if status, body := w.call("DELETE", "/api/v1/ingest/"+string(otherID), "", nil); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s", state, status, body)
		}
	}
	if status, _ := newWorld().call("DELETE", "/api/v1/ingest/"+string(otherID), "", nil); status != 404 {
		t.Errorf("unknown task: %d", status)
	}
}

func TestWorkersAndQueues(t *testing.T) {
	w := newWorld()
	add := func(n int, state functions.State, d functions.Device) {
		id := functions.TaskID(fmt.Sprintf("01920000-0000-7000-8000-%012d", n))
		w.tasks[id] = functions.Task{ID: id, Function: "speech", State: state, Route: functions.Route{Device: d}}
	}
	add(1, functions.Queued, functions.GPU)
	add(2, functions.Queued, functions.CPU)
	add(3, functions.Queued, functions.CPU)
	add(4, functions.Assigned, functions.GPU)
	add(5, functions.Succeeded, functions.GPU)
	add(6, functions.TimedOut, functions.GPU)
	add(7, functions.Canceled, functions.CPU)
	node := func(id functions.NodeID, alive bool, running int, gpus ...functions.GPUInfo) functions.NodeStatus {
		return functions.NodeStatus{NodeInfo: functions.NodeInfo{ID: id, GPUs: gpus, Ready: true, Capacity: functions.Resources{Tasks: 4}}, Alive: alive, Running: make([]functions.Running, running)}
	}
	w.nodes = []functions.NodeStatus{
		node("g1", true, 1, functions.GPUInfo{State: functions.GPULeased}), node("c1", true, 0),
		node("sick", true, 0, functions.GPUInfo{State: functions.GPUQuarantined}), node("gone", false, 2, functions.GPUInfo{State: functions.GPUFree}),
	}
	off := node("off", true, 0, functions.GPUInfo{State: functions.GPUFree})
	off.GPUHost = &functions.GPUHostInfo{State: functions.GPUHostOff, Reason: "driver not loaded"}
	shared := node("g2", true, 2, functions.GPUInfo{State: functions.GPULeased, Leases: make([]functions.GPULease, 2)}, functions.GPUInfo{State: functions.GPUEjected})
	for name, c := range map[string]struct {
		n    functions.NodeStatus
		want bool
	}{
		"off": {off, false}, "shared": {shared, true}, "ejected": {node("e", true, 0, functions.GPUInfo{State: functions.GPUEjected}), false},
		"unread": {node("u", true, 0, functions.GPUInfo{State: functions.GPUUnread}), false},
	} {
		if got := healthyGPU(c.n); got != c.want {
			t.Errorf("a GPU host that is %s: %v", name, got)
		}
	}
	for path, want := range map[string]string{
		"/api/v1/status/workers": `{"workers":{"total":3,"gpu":1,"cpu":2,"details":{` +
			`"c1":{"type":"cpu","active_tasks":0,"max_tasks":4,"queues":["celery"]},` +
			`"g1":{"type":"gpu","active_tasks":1,"max_tasks":4,"queues":["gpu-tasks","celery"]},` +
			`"sick":{"type":"cpu","active_tasks":0,"max_tasks":4,"queues":["celery"]}}},` +
			`"queues":{"celery":{"length":2,"workers":3},"gpu-tasks":{"length":1,"workers":1}},"gpu_available":true}`,
		"/api/v1/status/stats/queues": `{"pending":3,"active":1,"completed":1,"failed":1,"revoked":1,"queues":{"celery":2,"gpu-tasks":1}}`,
		"/api/v1/status/":             `{"active_tasks":["01920000-0000-7000-8000-000000000004"],"count":1}`,
	} {
		if status, body := w.get(path); status != 200 || body != want+"\n" {
			t.Errorf("%s: %d\n got %swant %s", path, status, body, want)
		}
	}
	empty := newWorld()
	if _, body := empty.get("/api/v1/status/"); body != `{"active_tasks":[],"count":0}`+"\n" {
		t.Errorf("nothing runs: %s", body)
	}
	if _, body := empty.get("/api/v1/status/workers"); !strings.Contains(body, `"details":{}`) || !strings.Contains(body, `"gpu_available":false`) {
		t.Errorf("no nodes: %s", body)
	}
}

// TestIngestStreams sends a file larger than anything that may be buffered and
// watches it arrive at the store while it is still being sent.
func TestIngestStreams(t *testing.T) {
	w := newWorld()
	door := &watchingDoor{world: w, first: make(chan struct{})}
	api := New(Config{Door: door, Functions: w, Tasks: tasksOf{w}, Nodes: w, Control: w})
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if err := api.ingestFile(rw, r); err != nil {
			api.fail(rw, r, err)
		}
	}))
	defer srv.Close()
	pr, pw := io.Pipe()
	mw := multipart.NewWriter(pw)
	go func() {
		fw, _ := mw.CreateFormFile("file", "long.wav")
		io.WriteString(fw, wav+strings.Repeat("x", 1<<20))
		<-door.first // deadlocks if the handler waits for the whole body
		io.WriteString(fw, strings.Repeat("y", 8<<20))
		mw.WriteField("gpu", "true")
		mw.Close()
		pw.Close()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "POST", srv.URL, pr)
	req.Header.Set("Content-Type", mw.FormDataContentType())
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || w.stored["long.wav"] != int64(len(wav))+(9<<20) || w.accepted[0].Policy != functions.Preferred {
		t.Errorf("%d, stored %v, %+v", resp.StatusCode, w.stored, w.accepted)
	}
}

// watchingDoor tells when the first half MiB has come.
type watchingDoor struct {
	*world
	first chan struct{}
}

func (d *watchingDoor) StoreInput(ctx context.Context, id functions.TaskID, name string, r io.Reader, size int64, declared string) (functions.Input, content.Type, error) {
	half := make([]byte, 512<<10)
	if _, err := io.ReadFull(r, half); err != nil {
		return functions.Input{}, content.Type{}, err
	}
	close(d.first)
	return d.world.StoreInput(ctx, id, name, io.MultiReader(bytes.NewReader(half), r), size, declared)
}

func FuzzIngest(f *testing.F) {
	kind, body := formOf(speech, part{"gpu", "", "", "true"}, part{"metadata", "", "", "{}"})
	_, boundary, _ := strings.Cut(kind, "boundary=")
	f.Add(boundary, body.Bytes())
	f.Add("x", []byte("--x\r\nContent-Disposition: form-data; name=file; filename=a.wav\r\n\r\nRIFF\r\n--x--"))
	f.Add("", []byte("--"))
	f.Fuzz(func(t *testing.T, boundary string, body []byte) {
		w := newWorld()
		status, answer := w.call("POST", "/api/v1/ingest/file", "multipart/form-data; boundary="+boundary, bytes.NewReader(body))
		if status >= 500 || !json.Valid([]byte(answer)) || (status == 200) != (len(w.accepted) == 1) {
			t.Fatalf("%d %s", status, answer)
		}
		for _, c := range w.accepted {
			if functions.FileName(c.Inputs[0].Name) != nil || c.Metadata != nil && !json.Valid(c.Metadata) {
				t.Fatalf("accepted %+v", c)
			}
		}
	})
}
