package gateway_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"iter"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway"
	"github.com/spillway/spillway/gateway/ingest"
)

type upload struct {
	ID        functions.TaskID
	State     string
	Name      string
	Size      int64
	Method    string
	Upload    *functions.PresignedRequest
	Multipart *struct {
		PartSize  int64 `json:"part_size"`
		Parts     int
		Checksums bool
		Received  []functions.Part
	}
	Form *functions.PostForm
}

func (u upload) at() string { return "/v1/uploads/" + string(u.ID) }

// announce starts an upload; more is what its request has beside the function.
func (w *world) announce(t testing.TB, more string, header ...string) upload {
	t.Helper()
	rec := w.do(t, "POST", "/v1/uploads", `{"function":"echo",`+more+`}`, header...)
	if rec.Code != 201 {
		t.Fatalf("announce %s: %d %s", more, rec.Code, rec.Body)
	}
	return decode[upload](t, rec)
}

// announceMany starts n uploads; checking each answer against openapi.json would
// take most of the time.
func (w *world) announceMany(t testing.TB, n int, more string) []upload {
	t.Helper()
	all := make([]upload, n)
	for i := range all {
		rec := httptest.NewRecorder()
		w.g.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "POST", "/v1/uploads", strings.NewReader(`{"function":"echo",`+more+`}`)))
		if rec.Code != 201 {
			t.Fatalf("announce %s: %d %s", more, rec.Code, rec.Body)
		}
		all[i] = decode[upload](t, rec)
	}
	return all
}

const mib = 1 << 20

var content40 = make([]byte, 40*mib) // two whole parts and half a one

func piece(n int) []byte { return content40[(n-1)*16*mib : min(n*16*mib, len(content40))] }

// partsOf asks for the signature of one part with its SHA-256.
func partsOf(n int, data []byte) string {
	return fmt.Sprintf(`{"parts":[{"number":%d,"sha256":"%x"}]}`, n, sha256.Sum256(data))
}

// sendParts asks for the signatures of some parts of content40 and sends them.
func (w *world) sendParts(t testing.TB, u upload, numbers ...int) {
	t.Helper()
	type wish struct {
		Number int    `json:"number"`
		SHA256 string `json:"sha256,omitempty"`
	}
	var ask struct {
		Parts []wish `json:"parts"`
	}
	for _, n := range numbers {
		one := wish{Number: n}
		if u.Multipart.Checksums {
			one.SHA256 = fmt.Sprintf("%x", sha256.Sum256(piece(n)))
		}
		ask.Parts = append(ask.Parts, one)
	}
	body, err := json.Marshal(ask)
	if err != nil {
		t.Fatal(err)
	}
	rec := w.do(t, "POST", u.at()+"/parts", string(body))
	signed := decode[struct {
		Parts []struct {
			Number int
			functions.PresignedRequest
		}
	}](t, rec)
	if rec.Code != 200 || len(signed.Parts) != len(numbers) {
		t.Fatalf("sign %v: %d %s", numbers, rec.Code, rec.Body)
	}
	for i, p := range signed.Parts {
		if p.Number != numbers[i] || p.Headers["X-Amz-Checksum-Sha256"] != ask.Parts[i].SHA256 {
			t.Errorf("asked for part %d, got %+v", numbers[i], p)
		}
		w.send(t, p.PresignedRequest, piece(p.Number))
	}
}

func TestMultipartUploadFrontToBack(t *testing.T) {
	for _, checksums := range []bool{false, true} {
		t.Run(fmt.Sprintf("checksums %v", checksums), func(t *testing.T) {
			w := newWorld(t, nil)
			w.run = nil
			sum := strings.Repeat("ab", 32)
			u := w.announce(t, fmt.Sprintf(`"name":"a b+%%ü.wav","size":%d,"method":"multipart","type":"audio/wav","sha256":"%s","part_checksums":%v`, len(content40), strings.ToUpper(sum), checksums))
			if u.State != "awaiting_upload" || u.Method != "multipart" || u.Multipart.PartSize != 16*mib || u.Multipart.Parts != 3 ||
				u.Multipart.Checksums != checksums || u.Multipart.Received == nil || u.Upload != nil || u.Form != nil {
				t.Fatalf("%+v", u)
			}
			w.sendParts(t, u, 3, 1)
			got := decode[upload](t, w.do(t, "GET", u.at(), "")) // a client that starts again
			if r := got.Multipart.Received; len(r) != 2 || r[0].Number != 1 || r[1].Number != 3 || r[1].Size != 8*mib || (r[0].SHA256 != "") != checksums {
				t.Errorf("received %+v", r)
			}
			rec := w.do(t, "POST", u.at()+"/complete", "")
			if p := decode[problem](t, rec); rec.Code != 409 || p.Code != "parts_missing" || !strings.Contains(p.Detail, "lacks parts 2 of 3") || p.Hint == "" {
				t.Errorf("complete too early: %d %s", rec.Code, rec.Body)
			}
			w.sendParts(t, u, 2)
			for range 2 {
				rec := w.do(t, "POST", u.at()+"/complete", "")
				if v := decode[taskView](t, rec); rec.Code != 200 || v.Status != "queued" || v.Route.Declared != "audio/wav" {
					t.Errorf("complete: %d %s", rec.Code, rec.Body)
				}
			}
			in := w.get(u.ID).Inputs[0]
			if in.Size != int64(len(content40)) || in.SHA256 != sum || in.ETag == "" || !bytes.Equal(w.objects[in.Bucket+"/"+in.Key].data, content40) {
				t.Errorf("the task has %+v", in)
			}
			if got := decode[upload](t, w.do(t, "GET", u.at(), "")); got.State != "queued" || got.Method != "multipart" || got.Multipart != nil {
				t.Errorf("after it: %+v", got)
			}
			if rec := w.do(t, "POST", u.at()+"/parts", `{"parts":[{"number":1}]}`); rec.Code != 409 || !strings.Contains(rec.Body.String(), "upload_ended") {
				t.Errorf("a part after the end: %d %s", rec.Code, rec.Body)
			}
		})
	}
}

func TestTheMethodFollowsTheSize(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct{ more, method string }{
		{`"size":0`, "put"}, {`"size":67108864`, "put"}, {`"size":67108865`, "multipart"}, {`"size":67108865,"method":"put"`, "put"},
		{`"size":1,"method":"multipart"`, "multipart"}, {`"size":1,"method":"form"`, "form"}, {`"method":"form"`, "form"}, {`"size":5497558138880`, "multipart"},
	} {
		u := w.announce(t, `"name":"a",`+c.more)
		if u.Method != c.method || (u.Upload != nil) != (c.method == "put") || (u.Multipart != nil) != (c.method == "multipart") || (u.Form != nil) != (c.method == "form") {
			t.Errorf("%s: %+v", c.more, u)
		}
		if m := u.Multipart; m != nil && int64(m.Parts)*m.PartSize < u.Size {
			t.Errorf("%s: %d parts of %d", c.more, m.Parts, m.PartSize)
		}
	}
}

func TestUploadsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"no JSON", `{"function"`, 400, "bad_json"},
		{"two values", `{"function":"echo","name":"a","size":1}{}`, 400, "bad_json"},
		{"a list", `[]`, 400, "bad_json"},
		{"size as text", `{"function":"echo","name":"a","size":"1"}`, 400, "bad_json"},
		{"size over int64", `{"function":"echo","name":"a","size":9223372036854775808}`, 400, "bad_json"},
		{"no name", `{"function":"echo","size":1}`, 400, "bad_file_name"},
		{"parent folder", `{"function":"echo","name":"..","size":1}`, 400, "bad_file_name"},
		{"path", `{"function":"echo","name":"a/b","size":1}`, 400, "bad_file_name"},
		{"Windows path", `{"function":"echo","name":"C:\\a","size":1}`, 400, "bad_file_name"},
		{"line break", `{"function":"echo","name":"a\nb","size":1}`, 400, "bad_file_name"},
		{"long name", `{"function":"echo","name":"` + strings.Repeat("ü", 128) + `","size":1}`, 400, "bad_file_name"},
		{"a name that the store would replace", `{"function":"echo","name":"${filename}","method":"form"}`, 400, "bad_file_name"},
		{"unknown method", `{"function":"echo","name":"a","size":1,"method":"ftp"}`, 400, "bad_method"},
		{"unknown size by put", `{"function":"echo","name":"a","size":-1,"method":"put"}`, 400, "bad_size"},
		{"negative size by form", `{"function":"echo","name":"a","size":-1,"method":"form"}`, 400, "bad_size"},
		{"empty file in parts", `{"function":"echo","name":"a","size":0,"method":"multipart"}`, 400, "bad_size"},
		{"over a form", `{"function":"echo","name":"a","size":5368709121,"method":"form"}`, 413, "file_too_large"},
		{"over all", `{"function":"echo","name":"a","size":5497558138881}`, 413, "file_too_large"},
		{"checksums without parts", `{"function":"echo","name":"a","size":1,"part_checksums":true}`, 400, "bad_part_checksums"},
		{"two types", `{"function":"echo","name":"a","size":1,"type":"a/b","content_type":"a/c"}`, 400, "bad_content_type"},
		{"no type", `{"function":"echo","name":"a","size":1,"type":"audio"}`, 400, "bad_content_type"},
		{"type with a line break", `{"function":"echo","name":"a","size":1,"type":"a/b\r\nX: y"}`, 400, "bad_content_type"},
		{"short sum", `{"function":"echo","name":"a","size":1,"sha256":"abcd"}`, 400, "bad_sha256"},
		{"no function, in parts", `{"function":"nosuch","name":"a","size":1,"method":"multipart"}`, 404, "function_not_found"},
		{"bad policy, in parts", `{"function":"echo","name":"a","size":1,"method":"multipart","device":"tpu"}`, 400, "bad_policy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			rec := w.do(t, "POST", "/v1/uploads", c.body)
			if p := decode[problem](t, rec); rec.Code != c.status || p.Code != c.code || p.Hint == "" && p.Code != "function_not_found" {
				t.Errorf("got %d %s, want %d %s", rec.Code, rec.Body, c.status, c.code)
			}
			if len(w.tasks)+w.begun != 0 {
				t.Errorf("left %d tasks and %d begun uploads", len(w.tasks), w.begun)
			}
		})
	}
}

func TestNamesPassUnchanged(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	for _, name := range []string{"a b.txt", "100%.txt", "a+b.txt", "ü 世界 🎞.txt", "a%2Fb", "...", "-", `"quoted"`, "<b>", strings.Repeat("n", 255)} {
		quoted, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		u := w.announce(t, `"size":0,"name":`+string(quoted))
		w.objects["uploads/in/"+string(u.ID)+"/"+name] = object{nil, ""}
		if rec := w.do(t, "POST", u.at()+"/complete", ""); rec.Code != 200 || w.get(u.ID).Inputs[0].Name != name {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
}

func TestPartsThatAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	whole := w.announce(t, `"name":"a","size":5`)
	plain := w.announce(t, fmt.Sprintf(`"name":"a","size":%d,"method":"multipart"`, len(content40)))
	sums := w.announce(t, fmt.Sprintf(`"name":"a","size":%d,"method":"multipart","part_checksums":true`, len(content40)))
	other := w.submit(t)
	canceled := w.announce(t, `"name":"a","size":5,"method":"multipart"`)
	if rec := w.do(t, "DELETE", canceled.at(), ""); rec.Code != 200 || decode[taskView](t, rec).Status != "canceled" {
		t.Fatalf("cancel: %d %s", rec.Code, rec.Body)
	}
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf(`{"number":%d}`, i+1)
	}
	sum := strings.Repeat("0", 64)
	for _, c := range []struct {
		name   string
		at     string
		body   string
		status int
		code   string
	}{
		{"of a put", whole.at(), `{"parts":[{"number":1}]}`, 409, "no_parts"},
		{"number 0", plain.at(), `{"parts":[{"number":0}]}`, 400, "bad_parts"},
		{"negative", plain.at(), `{"parts":[{"number":-1}]}`, 400, "bad_parts"},
		{"behind the last", plain.at(), `{"parts":[{"number":1},{"number":4}]}`, 400, "bad_parts"},
		{"huge", plain.at(), `{"parts":[{"number":9223372036854775807}]}`, 400, "bad_parts"},
		{"twice", plain.at(), `{"parts":[{"number":1},{"number":1}]}`, 400, "bad_parts"},
		{"none", plain.at(), `{"parts":[]}`, 400, "bad_parts"},
		{"no body", plain.at(), ``, 400, "bad_parts"},
		{"101", plain.at(), `{"parts":[` + strings.Join(many, ",") + `]}`, 400, "bad_parts"},
		{"malformed", plain.at(), `{"parts":[{"number":}]}`, 400, "bad_json"},
		{"an unknown key", plain.at(), `{"parts":[{"number":1,"size":5}]}`, 400, "bad_json"},
		{"an unwanted sum", plain.at(), `{"parts":[{"number":1,"sha256":"` + sum + `"}]}`, 400, "bad_sha256"},
		{"no sum", sums.at(), `{"parts":[{"number":1}]}`, 400, "bad_sha256"},
		{"a bad sum", sums.at(), `{"parts":[{"number":1,"sha256":"xyz"}]}`, 400, "bad_sha256"},
		{"after cancel", canceled.at(), `{"parts":[{"number":1}]}`, 409, "upload_ended"},
		{"of a task that is no upload", "/v1/uploads/" + string(other), `{"parts":[{"number":1}]}`, 404, "no_such_upload"},
		{"of an unknown id", "/v1/uploads/01920000-0000-7000-8000-000000000001", `{"parts":[{"number":1}]}`, 404, "task_not_found"},
		{"of a bad id", "/v1/uploads/..%2f", `{"parts":[{"number":1}]}`, 400, "bad_task_id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := w.do(t, "POST", c.at+"/parts", c.body)
			if p := decode[problem](t, rec); rec.Code != c.status || p.Code != c.code || p.Hint == "" && c.code != "task_not_found" {
				t.Errorf("got %d %s, want %d %s", rec.Code, rec.Body, c.status, c.code)
			}
		})
	}
	for _, method := range []string{"GET", "DELETE"} {
		if rec := w.do(t, method, "/v1/uploads/"+string(other), ""); rec.Code != 404 || w.get(other).State != functions.Queued {
			t.Errorf("%s of a task that is no upload: %d %s", method, rec.Code, rec.Body)
		}
	}
	if rec := w.do(t, "POST", canceled.at()+"/complete", ""); rec.Code != 409 || !strings.Contains(rec.Body.String(), "upload_ended") {
		t.Errorf("complete after cancel: %d %s", rec.Code, rec.Body)
	}
	if rec := w.do(t, "DELETE", canceled.at(), ""); rec.Code != 200 {
		t.Errorf("cancel twice: %d %s", rec.Code, rec.Body)
	}
}

// What an earlier attempt, or something else, left in the store at a complete.
func TestCompletingWhatWasBegunBefore(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(w *world, id, key string)
		shown  int // parts that a GET shows; -1 = it starts the task, -2 = it is a conflict
		status int
		code   string
		left   int // uploads in the store at the end
	}{
		{"the object was made and nobody said so", func(w *world, id, key string) {
			w.objects[key] = object{content40, ""}
			delete(w.pending, id)
		}, -1, 200, "", 0},
		{"the object is there, and the parts too", func(w *world, _, key string) {
			w.objects[key] = object{content40, ""}
		}, 3, 200, "", 0},
		{"an object of another size is there", func(w *world, _, key string) {
			w.objects[key] = object{[]byte("x"), ""}
		}, 3, 409, "size_mismatch", 1},
		{"the store gave up the parts", func(w *world, id, _ string) {
			delete(w.pending, id)
		}, -2, 409, "upload_ended", 0},
		{"a part has another length", func(w *world, id, _ string) {
			w.pending[id].parts[2] = []byte("short")
		}, 2, 409, "parts_missing", 1},
		{"parts that the file does not have", func(w *world, id, _ string) {
			w.pending[id].parts[4] = []byte("x")
		}, 3, 200, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.run = nil
				defer w.running(t)()
				u := w.announce(t, fmt.Sprintf(`"name":"a","size":%d,"method":"multipart"`, len(content40)))
				w.sendParts(t, u, 1, 2, 3)
				c.change(w, w.get(u.ID).Upload.ID, "uploads/in/"+string(u.ID)+"/a")
				rec := w.do(t, "GET", u.at(), "")
				switch got := decode[struct {
					State     string
					Multipart struct{ Received []any }
				}](t, rec); {
				case c.shown == -2 && rec.Code == 409, c.shown == -1 && got.State == "queued", c.shown >= 0 && len(got.Multipart.Received) == c.shown:
				default:
					t.Errorf("shown: %d %s", rec.Code, rec.Body)
				}
				rec = w.do(t, "POST", u.at()+"/complete", "")
				var p problem
				if rec.Code >= 400 {
					p = decode[problem](t, rec)
				}
				if rec.Code != c.status || p.Code != c.code || c.code != "" && p.Hint == "" {
					t.Errorf("complete: %d %s, want %d %s", rec.Code, rec.Body, c.status, c.code)
				}
				synctest.Wait()
				if len(w.pending) != c.left {
					t.Errorf("%d uploads are left, want %d", len(w.pending), c.left)
				}
			})
		})
	}
}

// running runs the gateway's own work until the returned function is called.
func (w *world) running(t testing.TB) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.g.Run(ctx) }()
	return func() {
		cancel()
		<-done
	}
}

// Some stores show neither the parts nor the object while they make it. Whoever
// asks then must not hear that all is lost.
func TestAskingWhileTheObjectIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run = nil
		u := w.announce(t, `"name":"a","size":5,"method":"multipart"`)
		id := w.get(u.ID).Upload.ID
		w.pending[id].parts[1] = []byte("hello")
		release := make(chan struct{})
		w.making = func() { <-release }
		var wg sync.WaitGroup
		first, leave := context.WithCancel(t.Context())
		wg.Go(func() { // this client leaves, and what it began goes on
			w.g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(first, "POST", u.at()+"/complete", nil))
		})
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				if rec := w.do(t, "POST", u.at()+"/complete", ""); rec.Code != 200 || decode[taskView](t, rec).Status != "queued" {
					t.Errorf("complete: %d %s", rec.Code, rec.Body)
				}
			})
			wg.Go(func() {
				if rec := w.do(t, "GET", u.at(), ""); rec.Code != 200 || decode[upload](t, rec).State != "queued" {
					t.Errorf("show: %d %s", rec.Code, rec.Body)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		close(release)
		wg.Wait()
	})
}

func TestFormUpload(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	u := w.announce(t, `"name":"a.txt","method":"form"`)
	if u.Size != functions.UnknownSize || u.Form.FileField != "file" || u.Form.Fields["policy"] != "0 to 5368709120" || u.Form.Fields["key"] != "in/"+string(u.ID)+"/a.txt" {
		t.Errorf("%+v", u)
	}
	if rec := w.do(t, "POST", u.at()+"/complete", ""); rec.Code != 409 || !strings.Contains(rec.Body.String(), "not_uploaded") {
		t.Errorf("complete too early: %d %s", rec.Code, rec.Body)
	}
	w.objects["uploads/in/"+string(u.ID)+"/a.txt"] = object{[]byte("hello"), "text/plain"}
	if rec := w.do(t, "POST", u.at()+"/complete", ""); rec.Code != 200 || w.get(u.ID).Inputs[0].Size != 5 {
		t.Errorf("complete: %d %s", rec.Code, rec.Body)
	}
	if got := decode[upload](t, w.do(t, "GET", u.at(), "", "Accept", "text/html")); got.Size != 5 || got.Form != nil || got.Method != "form" {
		t.Errorf("after it: %+v", got)
	}
	sized := w.announce(t, `"name":"a.txt","method":"form","size":4`)
	if sized.Size != 4 || sized.Form.Fields["policy"] != "4 to 4" {
		t.Errorf("%+v", sized)
	}
	if got := decode[upload](t, w.do(t, "GET", sized.at(), "")); got.Method != "form" || got.Form == nil || got.Upload != nil {
		t.Errorf("shown: %+v", got)
	}
	w.objects["uploads/in/"+string(sized.ID)+"/a.txt"] = object{[]byte("hello"), "text/plain"}
	if rec := w.do(t, "POST", sized.at()+"/complete", ""); rec.Code != 409 || !strings.Contains(rec.Body.String(), "size_mismatch") {
		t.Errorf("a file over its size: %d %s", rec.Code, rec.Body)
	}
}

// The page is a form that a browser sends as it is: whatever the name, every
// field has exactly the value that was signed, and nothing in it runs.
func TestFormPage(t *testing.T) {
	w := newWorld(t, nil)
	name := `"><script>alert(1)</script>&amp; ü'.txt`
	name = strings.ReplaceAll(name, "/", "")
	quoted, err := json.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"function":"echo","method":"form","name":` + string(quoted) + `}`
	made := w.do(t, "POST", "/v1/uploads", body, "Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	shown := w.do(t, "GET", made.Header().Get("Location"), "", "Accept", "*/*, TEXT/HTML;q=0.1")
	for _, rec := range []*httptest.ResponseRecorder{made, shown} {
		if kind := rec.Header().Get("Content-Type"); kind != "text/html; charset=utf-8" || rec.Code/100 != 2 {
			t.Fatalf("%d %s %s", rec.Code, kind, rec.Body)
		}
		csp := rec.Header().Get("Content-Security-Policy")
		if csp != "default-src 'none'; form-action https://store.example:9000; base-uri 'none'; frame-ancestors 'none'; sandbox allow-forms" {
			t.Errorf("policy %q", csp)
		}
		page, err := html.Parse(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		fields, form := map[string]string{}, map[string]string{}
		last := ""
		for n := range page.Descendants() {
			attr := map[string]string{}
			for _, a := range n.Attr {
				attr[a.Key] = a.Val
			}
			switch n.Data {
			case "script":
				t.Error("the page has a script")
			case "form":
				form = attr
			case "input":
				last = attr["name"] + " " + attr["type"]
				if attr["type"] == "hidden" {
					fields[attr["name"]] = attr["value"]
				}
			}
		}
		if form["action"] != "https://store.example:9000/uploads" || form["enctype"] != "multipart/form-data" || form["method"] != "post" || last != "file file" {
			t.Errorf("form %v, last input %q", form, last)
		}
		if len(fields) != 3 || !strings.HasSuffix(fields["key"], "/"+name) || fields["policy"] != "0 to 5368709120" {
			t.Errorf("fields %q", fields)
		}
	}
	if rec := w.do(t, "GET", made.Header().Get("Location"), ""); decode[upload](t, rec).Form == nil {
		t.Errorf("without asking for a page: %s", rec.Body)
	}
	if rec := w.do(t, "POST", "/v1/uploads", `{"function":"echo","name":"a","size":1}`, "Accept", "text/html"); decode[upload](t, rec).Upload == nil {
		t.Errorf("no form, no page: %s", rec.Body)
	}
}

// listed gives ingest the listing that it needs beside what the world has.
type listed struct{ *world }

func (l listed) ListSince(context.Context, string, string, time.Time) iter.Seq2[functions.Listed, error] {
	return func(func(functions.Listed, error) bool) {}
}

// Whoever is first of clients, events and sweeps, and however they race with
// each other and with a cancel, an upload starts its task once or not at all.
func TestAnUploadStartsExactlyOneTask(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		parts, cancel := rapid.Bool().Draw(rt, "in parts"), rapid.IntRange(0, 4).Draw(rt, "cancel") == 0
		acts := rapid.SliceOfN(rapid.SampledFrom([]string{"complete", "event", "sweep"}), 1, 8).Draw(rt, "acts")
		if cancel {
			acts = append(acts, "cancel")
		}
		synctest.Test(t, func(t *testing.T) {
			started, state, codes := race(t, parts, acts)
			if cancel && started <= 1 && state == functions.Canceled {
				return
			}
			if started != 1 || state != functions.Queued || slices.ContainsFunc(codes, func(c int) bool { return c != 200 }) {
				t.Errorf("%v: started %d times, is %s, completes answered %v", acts, started, state, codes)
			}
		})
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// race does acts at one moment about an upload whose file is there.
func race(t *testing.T, parts bool, acts []string) (started int, state functions.State, codes []int) {
	w := newWorld(t, func(c *gateway.Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } }) // so that the sweep looks for it
	w.run = nil
	w.watch = func(c functions.Change) {
		if c.Before == functions.AwaitingUpload && c.Task.State == functions.Queued {
			started++
		}
	}
	in := ingest.New(ingest.Config{Functions: registry{w}, Objects: listed{w}, Door: w.cfg.Door, Tasks: w})
	var u upload
	if parts {
		u = w.announce(t, `"name":"a","size":5,"method":"multipart"`)
		w.pending[w.get(u.ID).Upload.ID].parts[1] = []byte("hello")
	} else {
		u = w.announce(t, `"name":"a","size":5`)
		w.objects["uploads/in/"+string(u.ID)+"/a"] = object{[]byte("hello"), ""}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards codes
	ready := make(chan struct{})
	for _, act := range acts {
		if act == "sweep" {
			defer w.running(t)()
			continue
		}
		wg.Go(func() {
			<-ready
			switch act {
			case "complete":
				rec := w.do(t, "POST", u.at()+"/complete", "")
				mu.Lock()
				defer mu.Unlock()
				codes = append(codes, rec.Code)
			case "event":
				if err := in.Offer(t.Context(), ingest.Hint{Bucket: "uploads", Key: "in/" + string(u.ID) + "/a"}); err != nil {
					t.Error(err)
				}
			case "cancel":
				w.do(t, "DELETE", u.at(), "")
			}
		})
	}
	close(ready)
	wg.Wait()
	defer w.running(t)() // a sweep has the last word: the client may have died
	synctest.Wait()
	return started, w.get(u.ID).State, codes
}

func TestAFileThatVanishesWhileItIsLookedAt(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	u := w.announce(t, `"name":"a","size":5`)
	key := "in/" + string(u.ID) + "/a"
	w.objects["uploads/"+key] = object{[]byte("hello"), ""}
	w.stat = func(context.Context, string, string, string) (functions.ObjectRef, error) {
		ref, err := w.look("uploads", key)
		delete(w.objects, "uploads/"+key)
		return ref, err
	}
	rec := w.do(t, "POST", u.at()+"/complete", "")
	if p := decode[problem](t, rec); rec.Code != 409 || p.Code != "not_uploaded" || p.Hint == "" || w.get(u.ID).State != functions.AwaitingUpload {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestSpentUploadsAreAborted(t *testing.T) {
	const mpu = `"name":"a","size":5,"method":"multipart"`
	t.Run("canceled and expired", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.run = nil
			defer w.running(t)()
			kept, canceled, expired := w.announce(t, mpu), w.announce(t, mpu), w.announce(t, mpu)
			w.do(t, "DELETE", canceled.at(), "")
			w.release(expired.ID, functions.Verdict{To: functions.Expired, Failure: &functions.Failure{Class: functions.UploadExpired}})
			synctest.Wait()
			if _, ok := w.pending[w.get(kept.ID).Upload.ID]; !ok || len(w.pending) != 1 {
				t.Errorf("left %v", w.pending)
			}
		})
	})
	t.Run("replayed and refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.run = nil
			defer w.running(t)()
			first := w.announce(t, mpu, "Idempotency-Key", "k")
			if again := w.announce(t, mpu, "Idempotency-Key", "k"); again.ID != first.ID {
				t.Errorf("the same key made %s and %s", first.ID, again.ID)
			}
			if rec := w.do(t, "POST", "/v1/uploads", `{"function":"echo",`+mpu+`,"params":{}}`, "Idempotency-Key", "k"); rec.Code != 422 {
				t.Errorf("the key of another request: %d", rec.Code)
			}
			f := w.fns["echo"][0]
			f.MaxQueue, w.queued = 1, 1
			w.fns["echo"] = []functions.Function{f}
			if rec := w.do(t, "POST", "/v1/uploads", `{"function":"echo",`+mpu+`}`); rec.Code != 429 {
				t.Errorf("a full queue: %d", rec.Code)
			}
			synctest.Wait()
			if _, ok := w.pending[w.get(first.ID).Upload.ID]; !ok || len(w.pending) != 1 || w.begun != 4 {
				t.Errorf("begun %d, left %v", w.begun, w.pending)
			}
			w.queued = 0
			w.down = functions.Unavailable("log_unavailable", "down") // it may have the task all the same
			if rec := w.do(t, "POST", "/v1/uploads", `{"function":"echo",`+mpu+`}`); rec.Code != 503 {
				t.Errorf("no log: %d", rec.Code)
			}
			synctest.Wait()
			if len(w.pending) != 2 {
				t.Errorf("left %v", w.pending)
			}
		})
	})
	t.Run("after a restart, and when the store comes back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.run = nil
			u := w.announce(t, mpu)
			done := w.announce(t, mpu)
			w.pending[w.get(done.ID).Upload.ID].parts[1] = []byte("hello")
			if rec := w.do(t, "POST", done.at()+"/complete", ""); rec.Code != 200 {
				t.Fatal(rec.Body)
			}
			w.do(t, "DELETE", done.at(), "") // its file was there: it has no parts
			w.do(t, "DELETE", u.at(), "")
			w.abortErr = functions.Unavailable("store_unavailable", "down")
			g, err := gateway.New(w.cfg) // which has seen no change
			if err != nil {
				t.Fatal(err)
			}
			w.g = g
			defer w.running(t)()
			synctest.Wait()
			if len(w.pending) != 1 || w.aborts != 1 {
				t.Errorf("%d left after %d tries", len(w.pending), w.aborts)
			}
			w.mu.Lock()
			w.abortErr = nil
			w.mu.Unlock()
			time.Sleep(31 * time.Second) // fake clock
			synctest.Wait()
			if len(w.pending) != 0 || w.aborts != 2 {
				t.Errorf("%d left after %d tries", len(w.pending), w.aborts)
			}
		})
	})
}

func TestSweepCompletesPartsAndSkipsWhatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run = nil
		const mpu = `"name":"a","size":5,"method":"multipart"`
		lacking, whole := w.announceMany(t, 600, mpu), w.announceMany(t, 3, mpu) // over one page
		for _, u := range whole {
			w.pending[w.get(u.ID).Upload.ID].parts[1] = []byte("hello")
		}
		time.Sleep(2 * time.Minute) // fake clock; no server ran, and the first sweep is at its start
		w.asked = 0
		defer w.running(t)()
		synctest.Wait()
		for _, u := range whole {
			if got := w.get(u.ID).State; got != functions.Queued {
				t.Errorf("with all its parts: %s", got)
			}
		}
		for _, u := range lacking {
			if got := w.get(u.ID).State; got != functions.AwaitingUpload {
				t.Errorf("without a part: %s", got)
			}
		}
		if w.asked > 603+3 { // the parts of each, and the objects that were made
			t.Errorf("asked the store %d times", w.asked)
		}
	})
}

// One upload that the store cannot answer for holds up no other; when it answers
// for none, it is not asked for all.
func TestSweepGivesUpWhenTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run = nil
		w.announceMany(t, 500, `"name":"a","size":5`)
		bad := w.announce(t, `"name":"bad","size":5`)
		good := w.announce(t, `"name":"good","size":5`)
		w.objects["uploads/in/"+string(good.ID)+"/good"] = object{[]byte("hello"), ""}
		w.stat = func(_ context.Context, bucket, key, version string) (functions.ObjectRef, error) {
			if strings.HasSuffix(key, "/bad") {
				return functions.ObjectRef{}, functions.Unavailable("store_unavailable", "lost a disk")
			}
			return w.look(bucket, key)
		}
		time.Sleep(2 * time.Minute) // fake clock
		stop := w.running(t)
		synctest.Wait()
		if a, b := w.get(bad.ID).State, w.get(good.ID).State; a != functions.AwaitingUpload || b != functions.Queued {
			t.Errorf("the bad one is %s, the good one %s", a, b)
		}
		stop()
		w.stat = func(context.Context, string, string, string) (functions.ObjectRef, error) {
			return functions.ObjectRef{}, functions.Unavailable("store_unavailable", "down")
		}
		w.asked = 0
		defer w.running(t)()
		synctest.Wait()
		if w.asked == 0 || w.asked > 40 {
			t.Errorf("asked a store that is away %d times", w.asked)
		}
	})
}

func BenchmarkSweepOfWaitingUploads(b *testing.B) {
	w := newWorld(b, func(c *gateway.Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } })
	w.announceMany(b, 5000, `"name":"a","size":5`)
	for b.Loop() {
		w.asked = 0
		stop := w.running(b)
		for {
			w.mu.Lock()
			n := w.asked
			w.mu.Unlock()
			if n >= 5000 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		stop()
	}
}
