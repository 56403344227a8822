package cli

import (
	"net/http"
	"strings"
	"testing"
)

const ingestAnswer = `{"sources":[{"name":"webhook:fast","hints":7,"started":5,"duplicates":2,"rejected":0,"failures":1,"error":"the store does not answer"}],
"buckets":[{"name":"inbox","listing_ms":12,"objects":90,"gap":3,"recovered":4,"notification_error":"no such target"}],
"functions":[{"name":"f","held":"queue full"}],"max_depth":8,"refused_by_depth":1,
"refusals":[{"function":"g","task":"t1","output":"a.png","depth":9,"at":"2026-01-02T03:04:05Z"}]}`

func TestIngestIsShown(t *testing.T) {
	a := answers{"GET /v1/ingest": {200, ingestAnswer}}
	got := runOn(t, a, "ingest")
	for _, want := range []string{"webhook:fast  7", "the store does not answer", "inbox", "no such target", "queue full", "a.png"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	if strings.Count(got.out, "\n\n") != 3 {
		t.Errorf("want four tables:\n%s", got.out)
	}
	if got := runOn(t, a, "ingest", "-o", "json"); !strings.Contains(got.out, `"gap": 3`) {
		t.Errorf("%+v", got)
	}
	if got := runOn(t, a, "ingest", "-o", "name"); got.out != "bucket/inbox\n" {
		t.Errorf("%+v", got)
	}
}

func TestBackfillIsFollowedToItsEnd(t *testing.T) {
	const step = `{"listed":1,"matched":1,"started":1,"known":0,"unfit":0,"rejected":0,"done":false,"waiting":"full"}` + "\n"
	const done = `{"listed":5,"matched":4,"started":3,"known":1,"unfit":0,"rejected":0,"done":true}` + "\n"
	const failed = `{"listed":2,"matched":1,"started":1,"known":0,"unfit":0,"rejected":0,"done":false,"error":"the store is away"}` + "\n"
	for _, c := range []struct {
		name, body, format string
		code               int
		out, err           string
	}{
		{"done", step + done, "table", 0, "5       4        3        1      0      0", ""},
		{"as JSON the end alone", step + done, "json", 0, `"started": 3`, ""},
		{"ended early", step + failed, "table", 1, "2       1", "the store is away"},
		{"cut off", step, "table", 1, "1       1", "run it again"},
		{"nothing came", "", "table", 1, "", "run it again"},
	} {
		got := runOn(t, answers{"POST /v1/ingest/backfill": {200, c.body}}, "backfill", "f", "-o", c.format)
		if got.code != c.code || !strings.Contains(got.out, c.out) || !strings.Contains(got.err, c.err) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	var sent string
	runOn(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, r.ContentLength)
		_, _ = r.Body.Read(b)
		sent = string(b)
		_, _ = w.Write([]byte(done))
	}), "backfill", "function/f", "--bucket", "b", "--prefix", "p/", "--until", "2026-01-02T03:04:05Z", "--dry-run")
	if want := `{"function":"f","bucket":"b","prefix":"p/","until":"2026-01-02T03:04:05Z","dry_run":true}`; sent != want {
		t.Errorf("sent %s, want %s", sent, want)
	}
}
