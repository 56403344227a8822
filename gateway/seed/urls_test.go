package seed

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

func newWeb() *world {
	w := newWorld()
	w.pages = map[string]string{
		"https://host/a.wav": wav, "http://host/b.wav": wav, "https://host/c.pdf": "%PDF-1.7", "https://host/d.png": "\x89PNG\r\n\x1a\n",
	}
	return w
}

func (w *world) post(path, body string, header ...string) (int, string) {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.handler().ServeHTTP(rec, r)
	return rec.Code, rec.Body.String()
}

func TestIngestURL(t *testing.T) {
	for _, c := range []struct {
		name, body string
		fn         functions.Name
		policy     functions.Policy
		extra      func(intake.Call) bool
	}{
		{"the bytes decide", `{"url":"https://host/a.wav"}`, "speech", functions.Never, nil},
		{"the named kind wins", `{"source_type":"document","url":"https://host/a.wav","gpu":false}`, "words", functions.Never, nil},
		{"a web page is a document", `{"source_type":"web","url":"https://host/a.wav"}`, "words", functions.Never, nil},
		{"an unknown kind says nothing", `{"source_type":"podcast","url":"https://host/c.pdf"}`, "words", functions.Never, nil},
		{"GPU asked for", `{"source_type":"audio","url":"http://host/b.wav","gpu":true}`, "speech", functions.Preferred, nil},
		{"GPU asked for in words", `{"url":"http://host/b.wav","gpu":"True","use_docling":null}`, "speech", functions.Preferred, nil},
		{"metadata and webhook are kept", `{"source_type":"audio","url":"https://host/a.wav","metadata":{"a":[1]},"webhook_url":"https://example.org/hook","use_docling":true,"colour":"red"}`,
			"speech", functions.Never, func(c intake.Call) bool {
				return string(c.Metadata) == `{"source_type":"audio","webhook_url":"https://example.org/hook","metadata":{"a":[1]}}` && c.Webhook == "https://example.org/hook" && string(c.Params) == `{"use_docling":true}`
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWeb()
			status, body := w.post("/api/v1/ingest/url", c.body)
			want := fmt.Sprintf(`{"task_id":"%s","status":"pending","message":"URL was accepted and will be processed by %s","estimated_time":null}`+"\n", newID, c.fn)
			if status != 200 || body != want || len(w.accepted) != 1 {
				t.Fatalf("%d %s, want %s", status, body, want)
			}
			call := w.accepted[0]
			if call.Function != c.fn || call.Policy != c.policy || call.Source != "seed" || len(call.Inputs) != 1 || call.Inputs[0].URL == "" || c.extra != nil && !c.extra(call) {
				t.Errorf("call is %+v, metadata %s", call, call.Metadata)
			}
		})
	}
}

func TestYoutubeNeedsItsFunction(t *testing.T) {
	w := newWeb()
	body := `{"source_type":"YouTube","url":"https://video/watch?v=1","gpu":true}`
	if status, answer := w.post("/api/v1/ingest/url", body); status != 422 || !strings.Contains(answer, "handles youtube") {
		t.Fatalf("%d %s", status, answer)
	}
	w.deployed = append(w.deployed, functions.Function{Spec: functions.Spec{Name: youtube}, Version: 1})
	status, answer := w.post("/api/v1/ingest/url", body)
	if status != 200 || len(w.accepted) != 1 {
		t.Fatalf("%d %s", status, answer)
	}
	if c := w.accepted[0]; c.Function != youtube || string(c.Event) != `{"url":"https://video/watch?v=1"}` || len(c.Inputs) != 0 || c.Policy != functions.Preferred {
		t.Errorf("%+v", c)
	}
}

func TestIngestURLRefuses(t *testing.T) {
	for _, c := range []struct {
		name, body string
		status     int
		says       string
	}{
		{"nothing", ``, 422, "not a JSON object"},
		{"a list", `[]`, 422, "not a JSON object"},
		{"null", `null`, 422, "not a JSON object"},
		{"no URL", `{}`, 422, "url: must start with http"},
		{"a URL that is none", `{"url":7}`, 422, "url: must not be a number"},
		{"another scheme", `{"url":"ftp://host/x"}`, 422, "url: must start with http"},
		{"a refused address", `{"url":"http://127.0.0.1/x"}`, 422, "url: not a public address"},
		{"nothing there", `{"url":"https://host/none"}`, 422, "url: https://host/none answered 404"},
		{"gpu is no switch", `{"url":"https://host/a.wav","gpu":"maybe"}`, 422, "gpu: "},
		{"docling is no switch", `{"url":"https://host/a.wav","use_docling":[1]}`, 422, "use_docling: "},
		{"metadata is a list", `{"url":"https://host/a.wav","metadata":[1]}`, 422, "metadata"},
		{"webhook is no URL", `{"url":"https://host/a.wav","webhook_url":"file:///etc/passwd"}`, 422, "webhook_url"},
		{"nobody handles images", `{"url":"https://host/d.png"}`, 422, "no deployed function handles image (image/png); speech handles"},
		{"nobody handles images, and no server is asked", `{"source_type":"image","url":"https://host/none"}`, 422, "no deployed function handles image; speech handles"},
		{"too large", `{"url":"https://host/` + strings.Repeat("x", 2<<20) + `"}`, 413, "over"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWeb()
			status, body := w.post("/api/v1/ingest/url", c.body)
			var p problem
			if err := json.Unmarshal([]byte(body), &p); err != nil || status != c.status || !strings.Contains(p.Detail, c.says) || p.Code == "" {
				t.Errorf("got %d %s, want %d with %q", status, body, c.status, c.says)
			}
			if len(w.accepted) != 0 {
				t.Error("it was accepted")
			}
		})
	}
}

const twoItems = `{"items":[{"source_type":"audio","url":"https://host/a.wav"},{"url":"https://host/c.pdf","gpu":false,"webhook_url":"https://own/hook"}],"webhook_url":"https://all/hook","gpu":true}`

func TestIngestBatch(t *testing.T) {
	w := newWeb()
	status, body := w.post("/api/v1/ingest/batch", twoItems)
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || len(w.accepted) != 2 {
		t.Fatalf("%d %s", status, body)
	}
	ids := []any{string(w.accepted[0].ID), string(w.accepted[1].ID)}
	if len(got) != 4 || got["batch_id"] == "" || got["total_items"] != 2.0 || !slices.Equal(got["task_ids"].([]any), ids) || got["message"] == "" {
		t.Errorf("answer %s", body)
	}
	first, second := w.accepted[0], w.accepted[1]
	if first.Function != "speech" || first.Policy != functions.Preferred || !strings.Contains(string(first.Metadata), "https://all/hook") || first.Key != "" {
		t.Errorf("first %+v, %s", first, first.Metadata)
	}
	if second.Function != "words" || second.Policy != functions.Never || !strings.Contains(string(second.Metadata), "https://own/hook") {
		t.Errorf("second %+v, %s", second, second.Metadata)
	}
}

// A batch with one bad item is refused whole, whatever is wrong with it.
func TestABatchIsTakenWholeOrNotAtAll(t *testing.T) {
	good := `{"url":"https://host/a.wav"}`
	for _, c := range []struct{ name, body, says string }{
		{"no items", `{}`, "items"}, {"empty", `{"items":[]}`, "this one has 0"}, {"no list", `{"items":{}}`, "items"},
		{"too many", `{"items":[` + strings.Repeat(good+",", 50) + good + `]}`, "this one has 51"},
		{"not an object", `{"items":[` + good + `,7]}`, "items[1]: "},
		{"no URL", `{"items":[` + good + `,{}]}`, "items[1]: url"},
		{"a refused address", `{"items":[` + good + `,{"url":"http://127.0.0.1/"}]}`, "items[1]: url: not a public"},
		{"nothing there", `{"items":[` + good + `,{"url":"https://host/none"}]}`, "items[1]: url: "},
		{"nobody handles it", `{"items":[` + good + `,{"url":"https://host/d.png"}]}`, "items[1]: no deployed function handles image"},
		{"gpu of the batch", `{"items":[` + good + `],"gpu":"maybe"}`, "gpu"},
		{"youtube", `{"items":[` + good + `,{"url":"https://video/1","source_type":"youtube"}]}`, "items[1]: no deployed function handles youtube"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWeb()
			status, body := w.post("/api/v1/ingest/batch", c.body)
			var p problem
			if err := json.Unmarshal([]byte(body), &p); err != nil || status != 422 || !strings.Contains(p.Detail, c.says) || len(w.accepted) != 0 {
				t.Errorf("%d %s; %d accepted", status, body, len(w.accepted))
			}
		})
	}
	w := newWeb()
	if status, body := w.post("/api/v1/ingest/batch", `{"items":[`+strings.Repeat(good+",", 49)+good+`]}`); status != 200 || len(w.accepted) != 50 {
		t.Errorf("fifty: %d %s", status, body)
	}
}

// With a key a batch that was cut short goes on where it was; without one it is
// taken back. Either way sending it again does nothing twice.
func TestARetriedBatchDoesNotDouble(t *testing.T) {
	w := newWeb()
	w.full = 1
	if status, body := w.post("/api/v1/ingest/batch", twoItems, "Idempotency-Key", "k"); status != 429 || len(w.accepted) != 1 {
		t.Fatalf("%d %s", status, body)
	}
	w.full = 0
	_, first := w.post("/api/v1/ingest/batch", twoItems, "Idempotency-Key", "k")
	status, again := w.post("/api/v1/ingest/batch", twoItems, "Idempotency-Key", "k")
	if status != 200 || again != first || len(w.accepted) != 2 {
		t.Errorf("%d %s and %s; %d accepted", status, first, again, len(w.accepted))
	}
	if status, body := w.post("/api/v1/ingest/batch", strings.Replace(twoItems, "all/hook", "other/hook", 1), "Idempotency-Key", "k"); status != 409 {
		t.Errorf("another batch of the same key: %d %s", status, body)
	}
	if _, other := w.post("/api/v1/ingest/batch", twoItems, "Idempotency-Key", "k2"); other == first || len(w.accepted) != 4 {
		t.Errorf("another key: %s; %d accepted", other, len(w.accepted))
	}

	w = newWeb()
	w.full = 1
	if status, body := w.post("/api/v1/ingest/batch", twoItems); status != 429 {
		t.Fatalf("%d %s", status, body)
	}
	if got := w.tasks[w.accepted[0].ID].State; got != functions.Canceled {
		t.Errorf("the first item of a refused batch is %s", got)
	}
}

func FuzzIngestURLs(f *testing.F) {
	f.Add(twoItems)
	f.Add(`{"url":"https://host/a.wav","gpu":"1","metadata":{}}`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"/api/v1/ingest/url", "/api/v1/ingest/batch"} {
			if status, answer := newWeb().post(path, body); status >= 500 || !json.Valid([]byte(answer)) {
				t.Errorf("%s %q: %d %s", path, body, status, answer)
			}
		}
	})
}
