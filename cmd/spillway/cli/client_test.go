package cli

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func env(vars map[string]string) App {
	return App{Getenv: func(name string) string { return vars[name] }}
}

func TestNewClient(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		env       map[string]string
		f         flags
		base, key string
	}{
		{"defaults", nil, flags{}, defaultServer, ""},
		{"environment", map[string]string{"SPILLWAY_URL": "https://a/", "SPILLWAY_API_KEY": "k"}, flags{}, "https://a", "k"},
		{"flags win", map[string]string{"SPILLWAY_URL": "https://a", "SPILLWAY_API_KEY": "k"}, flags{server: "http://b:1", key: "f"}, "http://b:1", "f"},
		{"a key wins over its file", map[string]string{"SPILLWAY_API_KEY": "k", "SPILLWAY_API_KEY_FILE": file}, flags{}, defaultServer, "k"},
		{"key file", map[string]string{"SPILLWAY_API_KEY_FILE": file}, flags{}, defaultServer, "from-file"},
	} {
		got, err := newClient(env(c.env), &c.f)
		if err != nil || got.base != c.base || got.key != c.key {
			t.Errorf("%s: %+v, %v; want %s with key %q", c.name, got, err, c.base, c.key)
		}
	}
	for _, server := range []string{"localhost:8080", "nonsense", "ftp://a", "http://", "://", "http://a\n"} {
		if _, err := newClient(env(nil), &flags{server: server}); ExitCode(err) != 2 {
			t.Errorf("server %q: %v", server, err)
		}
	}
	if _, err := newClient(env(map[string]string{"SPILLWAY_API_KEY_FILE": file + ".missing"}), &flags{}); ExitCode(err) != 4 {
		t.Errorf("missing key file: %v", err)
	}
	if _, err := newClient(env(nil), &flags{key: "a\r\nX: y"}); ExitCode(err) != 2 {
		t.Errorf("a key with a line break: %v", err)
	}
}

// A large result is a redirect to the object store, on another port of the same
// host. The store refuses a signed request that brings a key of ours as well.
func TestKeyStaysWithTheGateway(t *testing.T) {
	var atStore, atGateway http.Header
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		atStore = r.Header.Clone()
		_, _ = w.Write([]byte("large"))
	}))
	defer store.Close()
	got := runOn(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		atGateway = r.Header.Clone()
		http.Redirect(w, r, store.URL+"/results/x?X-Amz-Signature=s", http.StatusSeeOther)
	}), "invoke", "f", "--key", "secret")
	if got.code != 0 || got.out != "large" {
		t.Fatalf("%+v", got)
	}
	if atGateway.Get("Authorization") != "Bearer secret" {
		t.Errorf("the gateway got %q", atGateway.Get("Authorization"))
	}
	if key := atStore.Get("Authorization"); key != "" {
		t.Errorf("the store got the key: %q", key)
	}
}

func TestUnreachableHidesSignatures(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	f := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	session := `{"id":"t1","state":"awaiting_upload","upload":{"method":"PUT","url":"` + srv.URL + `/uploads/x?X-Amz-Signature=secret"}}`
	got := runOn(t, answers{
		"POST /v1/uploads":   {201, session},
		"GET /v1/uploads/t1": {200, session},
	}, "upload", f, "--function", "f")
	if got.code != 7 || strings.Contains(got.err, "secret") || !strings.Contains(got.err, srv.URL) || !strings.Contains(got.err, "--store-public") {
		t.Errorf("%+v", got)
	}
}

func TestUploadSendsWhatWasSigned(t *testing.T) {
	f := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(f, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{200, 403} {
		var put *http.Request
		store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			put = r
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<Code>SignatureDoesNotMatch</Code>"))
		}))
		session := `{"id":"t1","state":"awaiting_upload","size":5,"upload":{"method":"PUT","url":"` + store.URL + `/x","headers":{"X-Signed":"yes"}}}`
		got := runOn(t, answers{
			"POST /v1/uploads":             {201, session},
			"GET /v1/uploads/t1":           {200, session},
			"POST /v1/uploads/t1/complete": {200, `{}`},
			"GET /v1/tasks/t1":             {200, `{"id":"t1","status":"succeeded"}`},
		}, "upload", f, "--function", "f", "-o", "name", "--key", "secret")
		store.Close()
		if put.Method != http.MethodPut || put.ContentLength != 5 || put.Header.Get("X-Signed") != "yes" || put.Header.Get("Authorization") != "" {
			t.Errorf("%d: the store got %s of %d bytes, %v", status, put.Method, put.ContentLength, put.Header)
		}
		want := said{out: "task/t1\n"}
		if status == 403 {
			want = said{err: "error: upload " + f + ": the store refused it: the store answered 403: <Code>SignatureDoesNotMatch</Code>\nhint: " + clockHint + "\n", code: 3}
		}
		if got != want {
			t.Errorf("%d: %+v, want %+v", status, got, want)
		}
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for _, body := range []string{"", "<html>", `{"functions":[{"version":"one"}]}`} {
		if got := runOn(t, answers{"GET /v1/functions": {200, body}}, "functions"); got.code != 1 || !strings.Contains(got.err, "decode the gateway's answer") {
			t.Errorf("%q: %+v", body, got)
		}
	}
	if got := runOn(t, answers{"GET /v1/nodes": {200, `{"nodes":[{"id":"n1","warm":[{"function":"f","version":2,"wanted":3,"idle":2,"starting":1}]}]}`}}, "nodes"); !strings.Contains(got.out, "f 2/3") {
		t.Errorf("warm containers are not listed: %+v", got)
	}
	if got := runOn(t, answers{}, "nodes"); got.code != 1 || !strings.Contains(got.err, "teapot") {
		t.Errorf("%+v", got)
	}
}
