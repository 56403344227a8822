package ingest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spillway/spillway/functions"
)

func TestEventsAsTheirSendersWriteThem(t *testing.T) {
	want := map[string][]Hint{
		"minio-put.json":               {{"uploads", "in/a b+c%20d&e=f/u.bin", "2133fdb6-613b-402a-8bd9-bc7e145d76a5", "9dd4e461268c8034f5c8564e155c67a6", 1, ""}},
		"minio-multipart.json":         {{"uploads", "big.mp4", "", "0f343b0931126a20f133d67c2b018a3b-3", 104857600, ""}},
		"minio-copy.json":              {{"uploads", "copy/码.txt", "", "abc", 3, ""}},
		"minio-post.json":              {{"uploads", "form.png", "", "abc", 3, ""}},
		"minio-delete-marker.json":     nil,
		"aws-2.1.json":                 {{"my-inbox", "in/my file(a).png", "096fKKXTRTtl3on89fVO.nfljtsv6qko", "d41d8cd98f00b204e9800998ecf8427e", 1024, ""}},
		"aws-2.6-two-records.json":     {{"my-inbox", "a", "", "e-2", 1, ""}, {"my-inbox", "c+d", "", "e", 1, ""}},
		"aws-sns.json":                 {{"my-inbox", "in/my file(a).png", "096fKKXTRTtl3on89fVO.nfljtsv6qko", "d41d8cd98f00b204e9800998ecf8427e", 1024, ""}},
		"aws-eventbridge.json":         {{"my-inbox", "raw/a b+c%20d", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e", "b1946a", 5, ""}},
		"aws-eventbridge-deleted.json": nil,
		"aws-test.json":                nil,
	}
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d files, want %d, %v", len(files), len(want), err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(body)
		if w, known := want[filepath.Base(file)]; err != nil || !known || !slices.Equal(got, w) {
			t.Errorf("%s: got %+v, %v, want %+v", file, got, err, w)
		}
	}
}

func TestHookAnswersWhatMakesTheSenderDoTheRightThing(t *testing.T) {
	event, err := os.ReadFile("testdata/events/minio-put.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, token, auth, body string
		err                     error
		want, offered           int
	}{
		{"taken in", "secret", "Bearer secret", string(event), nil, 200, 1},
		{"token of two words", "Basic abc", "Basic abc", string(event), nil, 200, 1},
		{"wrong token", "secret", "Bearer secrets", string(event), nil, 403, 0},
		{"no token sent", "secret", "", string(event), nil, 403, 0},
		{"no token set", "", "Bearer ", string(event), nil, 403, 0},
		{"no token set nor sent", "", "", string(event), nil, 403, 0},
		{"not JSON", "s", "Bearer s", "{", nil, 200, 0},
		{"empty", "s", "Bearer s", "", nil, 200, 0},
		{"too long", "s", "Bearer s", strings.Repeat(" ", maxEvent+1), nil, 200, 0},
		{"store down", "s", "Bearer s", string(event), functions.Unavailable("x", "x"), 503, 1},
		{"unknown error", "s", "Bearer s", string(event), errors.New("x"), 503, 1},
		{"function deleted", "s", "Bearer s", string(event), functions.NotFound("x", "x"), 200, 1},
		{"queue full", "s", "Bearer s", string(event), functions.NewError(functions.ErrThrottled, "x", "x"), 200, 1},
	} {
		in, _, _ := build(nil)
		h := NewHook(in, WebhookFast, c.token)
		offered := 0
		h.take = func(_ context.Context, body []byte) error {
			hints, err := decode(body)
			offered += len(hints)
			return errors.Join(c.err, err)
		}
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body))
		if c.auth != "" {
			r.Header.Set("Authorization", c.auth)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want || offered != c.offered {
			t.Errorf("%s: got %d after %d offers, want %d after %d", c.name, w.Code, offered, c.want, c.offered)
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		hints, err := decode(body)
		if err != nil && len(hints) > 0 {
			t.Errorf("both hints and an error: %v", err)
		}
		for _, h := range hints {
			if h.Bucket == "" || h.Key == "" || !utf8.ValidString(h.Key) {
				t.Errorf("hint %+v names no object", h)
			}
		}
	})
}
