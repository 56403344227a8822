package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
)

func TestPlaceOf(t *testing.T) {
	for value, want := range map[string]place{
		"file:media/dir/a=b.wav":      {File: "media/dir/a=b.wav"},
		"x.wav=file:media/a.wav":      {Name: "x.wav", File: "media/a.wav"},
		"https://host/a?b=http://c":   {URL: "https://host/a?b=http://c"},
		"page=http://host/":           {Name: "page", URL: "http://host/"},
		"s3://lake/in/a b.wav":        {Bucket: "lake", Key: "in/a b.wav"},
		"s3://lake/a?versionId=v%2F1": {Bucket: "lake", Key: "a", VersionID: "v/1"},
		"y=s3://lake/k=s3://x":        {Name: "y", Bucket: "lake", Key: "k=s3://x"},
		"":                            {}, "media/a.wav": {}, "file:": {}, "s3://lake": {}, "s3://lake/": {}, "s3:///k": {}, "ftp://host/x": {}, "a=b": {}, "s3://lake/a?versionId=%": {},
	} {
		got, err := placeOf(value)
		if bad := want == (place{}); bad != (err != nil) || !bad && got != want {
			t.Errorf("%q: %+v %v, want %+v", value, got, err, want)
		}
	}
}

// posted keeps what was sent to the gateway.
type posted struct {
	path, prefer, key string
	body              map[string]any
}

func (p *posted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.path, p.prefer, p.key = r.Method+" "+r.URL.Path, r.Header.Get("Prefer"), r.Header.Get("Idempotency-Key")
	raw, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(raw, &p.body)
	w.Header().Set("Spillway-Task-Id", "t1")
	w.Header().Set("Spillway-Device-Used", "gpu")
	_, _ = w.Write([]byte(`{"n":1}`))
}

func TestInvokeOnInputsElsewhere(t *testing.T) {
	p := &posted{}
	got := runOn(t, p, "invoke", "function/f", "--input", "file:media/a,b.wav", "--input", "p=https://host/x", "-d", `{"k":1}`, "--device", "required", "--idempotency-key", "once")
	if (got != said{out: `{"n":1}`, err: "task t1 on gpu\n"}) || p.path != "POST /v1/tasks" || p.key != "once" {
		t.Fatalf("%+v, %+v", got, p)
	}
	sent, err := json.Marshal(p.body)
	want := `{"device":"required","event":{"k":1},"function":"f","inputs":[{"file":"media/a,b.wav"},{"name":"p","url":"https://host/x"}]}`
	if err != nil || string(sent) != want {
		t.Errorf("sent %s, want %s", sent, want)
	}
	for _, args := range [][]string{{"--input", "nonsense"}, {"--input", "file:m/a", "-f", "x"}} {
		if got := runOn(t, p, append([]string{"invoke", "f"}, args...)...); got.code == 0 || got.out != "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
}
