package gateway_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway"
	"github.com/spillway/spillway/gateway/intake"
)

const wav = "RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x44\xac\x00\x00\x88\x58\x01\x00\x02\x00\x10\x00data\x00\x00\x00\x00"

// filled is a world with a file in every place.
func filled(t testing.TB) *world {
	w := newWorld(t, nil)
	w.objects["lake/in/b.bin"] = object{[]byte(wav), "application/pdf"}
	w.places["media/dir/a.wav"] = place{object: object{data: []byte(wav)}}
	w.places["https://host/x/c.pdf?sig=1"] = place{object: object{[]byte("%PDF-1.7 ..."), "text/html"}}
	w.places["media/private"] = place{err: functions.NewError(functions.ErrForbidden, "share_refused", "its permissions do not let containers read it")}
	w.places["media/gone"] = place{err: functions.NotFound("input_not_found", "media/gone does not exist").WithField("file")}
	w.places["http://10.0.0.1/"] = place{err: functions.NewError(functions.ErrForbidden, "url_refused", "not public").WithField("url")}
	w.places["http://host/404"] = place{err: functions.NotFound("url_status", "http://host/404 answered 404")}
	w.places["http://host/huge"] = place{err: functions.NewError(functions.ErrTooLarge, "url_too_large", "over 10GiB")}
	return w
}

func TestSubmitKnowsWhereInputsAre(t *testing.T) {
	for _, c := range []struct {
		name, input string
		want        functions.Input
		reason      string
	}{
		{"a file of a share", `{"file":"media/dir/a.wav"}`,
			functions.Input{Name: "a.wav", File: "media/dir/a.wav", ObjectRef: functions.ObjectRef{Size: int64(len(wav)), ETag: "seen", ContentType: "audio/wav"}}, "gains from a GPU"},
		{"a share that is not here", `{"file":"attic/b.mp4"}`,
			functions.Input{Name: "b.mp4", File: "attic/b.mp4", ObjectRef: functions.ObjectRef{Size: functions.UnknownSize, ContentType: "video/mp4"}}, "gains from a GPU"},
		{"a URL", `{"url":"https://host/x/c.pdf?sig=1"}`,
			functions.Input{Name: "c.pdf", URL: "https://host/x/c.pdf?sig=1", ObjectRef: functions.ObjectRef{Size: 12, ETag: "seen", ContentType: "application/pdf"}}, "does not gain"},
		{"a server that is down", `{"url":"https://down/a.mp3"}`,
			functions.Input{Name: "a.mp3", URL: "https://down/a.mp3", ObjectRef: functions.ObjectRef{Size: functions.UnknownSize, ContentType: "audio/mpeg"}}, "gains from a GPU"},
		{"a URL without a name", `{"url":"https://down/?a=b","content_type":"video/mp4"}`,
			functions.Input{Name: "download", URL: "https://down/?a=b", ObjectRef: functions.ObjectRef{Size: functions.UnknownSize, ContentType: "video/mp4"}}, "gains from a GPU"},
		{"an object", `{"bucket":"lake","key":"in/b.bin","name":"speech"}`,
			functions.Input{Name: "speech", ObjectRef: functions.ObjectRef{Bucket: "lake", Key: "in/b.bin", Size: int64(len(wav)), ETag: "e", ContentType: "audio/wav"}}, "gains from a GPU"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := filled(t)
			rec := w.do(t, "POST", "/v1/tasks", `{"function":"echo","version":1,"priority":3,"params":{"p":1},"metadata":{"m":1},"inputs":[`+c.input+`]}`)
			if rec.Code != 200 || rec.Body.String() != `{"ok":true}` {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			task := w.get(functions.TaskID(rec.Header().Get("Spillway-Task-Id")))
			if len(task.Inputs) != 1 || task.Inputs[0] != c.want {
				t.Errorf("inputs %+v, want %+v", task.Inputs, c.want)
			}
			if !strings.Contains(task.Route.Reason, c.reason) || task.Priority != 3 || string(task.Params) != `{"p":1}` || string(task.Metadata) != `{"m":1}` {
				t.Errorf("task %+v", task)
			}
			w.do(t, "GET", "/v1/tasks/"+string(task.ID), "") // conforms
		})
	}
}

func TestSubmitTakesSeveralInputsAndAnEvent(t *testing.T) {
	w := filled(t)
	rec := w.do(t, "POST", "/v1/tasks", `{"function":"echo","device":"Never","event":{"a":1},"inputs":[{"file":"media/dir/a.wav"},{"url":"https://down/x"},{"bucket":"lake","key":"in/b.bin"}]}`,
		"Prefer", "respond-async", "X-Call-Id", "mine")
	if rec.Code != 202 || rec.Header().Get("Preference-Applied") != "respond-async" || rec.Header().Get("Location") == "" {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	task := w.get(w.ids()[0])
	var names []string
	for _, in := range task.Inputs {
		names = append(names, in.Name)
	}
	if !slices.Equal(names, []string{"a.wav", "x", "b.bin"}) || string(task.Event) != `{"a":1}` || task.Route.Policy != functions.Never ||
		task.Route.ContentType != "audio/wav" || task.CallID != "mine" || !slices.Equal(functions.Shares(task.Inputs), []string{"media"}) {
		t.Errorf("%+v", task)
	}
	if rec := w.do(t, "POST", "/v1/tasks", `{"function":"echo","event":{"a":1}}`); rec.Code != 200 {
		t.Errorf("without inputs: %d %s", rec.Code, rec.Body)
	}
}

func TestSubmitRefuses(t *testing.T) {
	many := strings.Repeat(`{"url":"https://down/a"},`, 64) + `{"url":"https://down/a"}`
	for _, c := range []struct {
		name, body string
		status     int
		code       string
		field      string
	}{
		{"no function", `{}`, 400, "bad_name", ""},
		{"an unknown function", `{"function":"nope"}`, 404, "function_not_found", ""},
		{"an unknown version", `{"function":"echo","version":9}`, 404, "function_not_found", ""},
		{"a negative version", `{"function":"echo","version":-1}`, 400, "bad_version", "version"},
		{"an unknown key", `{"function":"echo","input":[]}`, 400, "bad_json", ""},
		{"a priority out of range", `{"function":"echo","priority":101}`, 400, "bad_priority", "priority"},
		{"nowhere", `{"function":"echo","inputs":[{"name":"x"}]}`, 400, "bad_input", "inputs/0"},
		{"in two places", `{"function":"echo","inputs":[{"file":"media/a","url":"http://host/a"}]}`, 400, "bad_input", "inputs/0"},
		{"a bucket alone", `{"function":"echo","inputs":[{"bucket":"lake"}]}`, 400, "bad_input", "inputs/0"},
		{"out of a share", `{"function":"echo","inputs":[{"file":"media/../x"}]}`, 400, "bad_share_path", "inputs/0/file"},
		{"no share", `{"function":"echo","inputs":[{"file":"/etc/passwd"}]}`, 400, "bad_share", "inputs/0"},
		{"a name with a path", `{"function":"echo","inputs":[{"name":"../x","url":"https://down/a"}]}`, 400, "bad_file_name", "inputs/0/name"},
		{"two of one name", `{"function":"echo","inputs":[{"url":"https://down/a"},{"file":"attic/a"}]}`, 400, "duplicate_input", "inputs"},
		{"too many", `{"function":"echo","inputs":[` + many + `]}`, 400, "too_many_inputs", "inputs"},
		{"an unreadable file", `{"function":"echo","inputs":[{"url":"https://down/a"},{"file":"media/private"}]}`, 403, "share_refused", "inputs/1"},
		{"a missing file", `{"function":"echo","inputs":[{"file":"media/gone"}]}`, 404, "input_not_found", "inputs/0/file"},
		{"a refused URL", `{"function":"echo","inputs":[{"url":"http://10.0.0.1/"}]}`, 403, "url_refused", "inputs/0/url"},
		{"a missing URL", `{"function":"echo","inputs":[{"url":"http://host/404"}]}`, 404, "url_status", "inputs/0"},
		{"a huge URL", `{"function":"echo","inputs":[{"url":"http://host/huge"}]}`, 413, "url_too_large", "inputs/0"},
		{"a missing object", `{"function":"echo","inputs":[{"bucket":"lake","key":"nope"}]}`, 404, "input_not_found", "inputs/0/key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := filled(t)
			rec := w.do(t, "POST", "/v1/tasks", c.body)
			p := decode[problem](t, rec)
			if rec.Code != c.status || p.Code != c.code || p.Field != c.field {
				t.Errorf("%d %s %q: %s, want %d %s %q", rec.Code, p.Code, p.Field, p.Detail, c.status, c.code, c.field)
			}
			if len(w.ids()) != 0 || len(w.objects) != 1 {
				t.Errorf("%d tasks, %d objects", len(w.ids()), len(w.objects))
			}
		})
	}
}

// A repeated call finds its task even when its input has gone since, and never
// deletes what it only refers to.
func TestSubmitOnce(t *testing.T) {
	w := filled(t)
	body := `{"function":"echo","inputs":[{"bucket":"lake","key":"in/b.bin"}]}`
	first := w.do(t, "POST", "/v1/tasks", body, "Idempotency-Key", "k")
	again := w.do(t, "POST", "/v1/tasks", body, "Idempotency-Key", "k")
	if again.Code != 200 || again.Header().Get("Idempotency-Replayed") != "true" || again.Header().Get("Spillway-Task-Id") != first.Header().Get("Spillway-Task-Id") {
		t.Errorf("%d %v", again.Code, again.Header())
	}
	if len(w.objects) != 1 {
		t.Fatal("the object of another was deleted")
	}
	clear(w.objects)
	if rec := w.do(t, "POST", "/v1/tasks", body, "Idempotency-Key", "k"); rec.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	other := w.do(t, "POST", "/v1/tasks", `{"function":"echo"}`, "Idempotency-Key", "k")
	if p := decode[problem](t, other); other.Code != 422 || p.Code != "idempotency_mismatch" {
		t.Errorf("%d %s", other.Code, other.Body)
	}
}

// Files that another task left may be used until they are given up.
func TestSubmitOnFilesOfOtherTasks(t *testing.T) {
	w := filled(t)
	rec := w.do(t, "POST", "/v1/functions/echo/invoke", "\x89PNG\r\n\x1a\n", "Content-Type", "image/png", "X-File-Name", "a.png")
	id := functions.TaskID(rec.Header().Get("Spillway-Task-Id"))
	w.objects["results/"+string(id)+"/1/out.txt"] = object{[]byte("x"), "text/plain"}
	left := []string{
		fmt.Sprintf(`{"bucket":"uploads","key":%q}`, intake.InputKey(id, "a.png")),
		fmt.Sprintf(`{"bucket":"results","key":"%s/1/out.txt"}`, id),
	}
	for _, in := range left {
		if rec := w.do(t, "POST", "/v1/tasks", `{"function":"echo","inputs":[`+in+`]}`); rec.Code != 200 {
			t.Errorf("%s: %d %s", in, rec.Code, rec.Body)
		}
	}
	w.apply(functions.Event{Kind: functions.Control, Task: id, Ctl: &functions.Request{Verb: functions.Purge, Stored: []functions.Stored{functions.StoredInputs, functions.StoredOutputs}},
		At: w.get(id).CreatedAt})
	for _, in := range left {
		rec := w.do(t, "POST", "/v1/tasks", `{"function":"echo","inputs":[`+in+`]}`)
		if p := decode[problem](t, rec); p.Code != "inputs_expired" || !strings.Contains(p.Detail, string(id)) {
			t.Errorf("%s: %d %s", in, rec.Code, rec.Body)
		}
	}
}

// A server that takes no URLs, and has no shares, says so or leaves it to nodes.
func TestSubmitWithoutPlaces(t *testing.T) {
	w := newWorld(t, nil)
	bare := newWorld(t, func(c *gateway.Config) {
		c.Door = intake.New(intake.Config{Log: w, Functions: w, Tasks: w, Queue: w, Objects: w})
	})
	rec := bare.do(t, "POST", "/v1/tasks", `{"function":"echo","inputs":[{"url":"http://host/"}]}`)
	if p := decode[problem](t, rec); rec.Code != 400 || p.Code != "no_urls" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := bare.do(t, "POST", "/v1/tasks?wait=0", `{"function":"echo","inputs":[{"file":"media/a"}]}`); rec.Code >= 400 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func FuzzSubmit(f *testing.F) {
	f.Add(`{"function":"echo","inputs":[{"file":"media/dir/a.wav"},{"url":"https://down/a"},{"bucket":"lake","key":"in/b.bin"}]}`, "respond-async")
	f.Add(`{"function":"echo","event":null,"inputs":null}`, "wait=0")
	w := filled(f)
	f.Fuzz(func(t *testing.T, body, prefer string) {
		w.survives(t, "POST", "/v1/tasks?wait=0", body, map[string]string{"Prefer": prefer, "Content-Type": "application/json"})
		for _, id := range w.ids() {
			for _, in := range w.get(id).Inputs {
				if functions.FileName(in.Name) != nil {
					t.Errorf("input named %q of %s", in.Name, body)
				}
				if _, err := json.Marshal(in); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
