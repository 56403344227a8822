package cli

import (
	"cmp"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// slow answers an invocation with a ticket, and knows the task's later states
// one by one.
type slow struct {
	states []string
	status int // of the result; 0 = 200
	result string
	prefer string
}

func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		s.prefer = r.Header.Get("Prefer")
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{"id":"t1","status":"queued"}`))
	case strings.HasSuffix(r.URL.Path, "/result"):
		w.Header().Set("Spillway-Task-Id", "t1")
		w.Header().Set("Spillway-Device-Used", "cpu")
		w.Header().Set("Spillway-Fallback-Reason", "gpu_host: no driver")
		w.WriteHeader(cmp.Or(s.status, http.StatusOK))
		_, _ = w.Write([]byte(s.result))
	default:
		_, _ = w.Write([]byte(s.states[0]))
		if len(s.states) > 1 {
			s.states = s.states[1:]
		}
	}
}

// A wait may be longer than the gateway holds a request: the task is then waited
// for, and its result is still the only thing on standard output.
func TestInvokeOutlastsTheGateway(t *testing.T) {
	states := []string{
		`{"id":"t1","status":"queued","waiting":{"code":"gpu_busy","reason":"every GPU is busy"}}`,
		`{"id":"t1","status":"assigned","progress":{"phase":"pull","message":"pulling f: 1MiB of 2MiB, 0 of 1 layers"}}`,
		`{"id":"t1","status":"running"}`, `{"id":"t1","status":"running"}`, `{"id":"t1","status":"succeeded"}`,
	}
	got := runOn(t, &slow{states: states, result: `{"n":1}`}, "invoke", "f", "--wait", "10m")
	want := said{
		out: `{"n":1}`,
		err: "task t1 is queued: every GPU is busy\ntask t1 is assigned: pulling f: 1MiB of 2MiB, 0 of 1 layers\ntask t1 is running\ntask t1 on cpu (gpu_host: no driver)\n",
	}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	quiet := runOn(t, &slow{states: states, result: `{"n":1}`}, "invoke", "f", "--wait", "10m", "-o", "json")
	if (quiet != said{out: `{"n":1}`}) {
		t.Errorf("with -o json: %+v", quiet)
	}
}

func TestInvokeOutlastsAFailure(t *testing.T) {
	got := runOn(t, &slow{
		states: []string{`{"id":"t1","status":"failed"}`}, status: 502,
		result: `{"code":"exit_error","detail":"ended with code 3","task_id":"t1","hint":"look"}`,
	}, "invoke", "f", "--wait", "10m")
	want := said{err: "error: the task did not succeed: exit_error: ended with code 3\nhint: look\n", code: 8}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestInvokeWithoutAResult(t *testing.T) {
	for _, c := range []struct {
		state string
		args  []string
		out   string
		code  int
	}{
		{`{"id":"t1","status":"running"}`, nil, "t1\n", 124},
		{`{"id":"t1","status":"running"}`, []string{"-o", "name"}, "task/t1\n", 124},
		{`{"id":"t1","status":"running"}`, []string{"-o", "jsonl"}, "{\"id\":\"t1\",\"status\":\"running\"}\n", 124},
		{`{"id":"t1","status":"queued","waiting":{"code":"no_gpu_node","reason":"no node has a GPU"}}`, nil, "t1\n", 6},
	} {
		got := runOn(t, &slow{states: []string{c.state}}, append([]string{"invoke", "f", "--wait", "0s"}, c.args...)...)
		if got.out != c.out || got.code != c.code || !strings.Contains(got.err, "hint: the task stays accepted") {
			t.Errorf("%s %v: %+v", c.state, c.args, got)
		}
	}
}

func TestInvokeAsync(t *testing.T) {
	s := &slow{}
	if got := runOn(t, s, "invoke", "f", "--async"); got.out != "t1\n" || got.code != 0 || s.prefer != "respond-async" {
		t.Errorf("%+v, Prefer %q", got, s.prefer)
	}
}

func TestReadEvent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "e.json")
	if err := os.WriteFile(file, []byte(`{"a":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		data, stdin, want string
		code              int
	}{
		{"", "", "", 0},
		{`{"a":1}`, "", `{"a":1}`, 0},
		{"3", "", "3", 0},
		{"@" + file, "", `{"a":1}`, 0},
		{"@-", "[1]", "[1]", 0},
		{"@-", "", "", 0},
		{"@" + file + ".missing", "", "", 4},
		{"{a:1}", "", "", 2},
		{"@-", "not json", "", 2},
	} {
		got, err := readEvent(App{In: strings.NewReader(c.stdin)}, c.data)
		if string(got) != c.want || ExitCode(err) != c.code {
			t.Errorf("-d %q: %s, %v", c.data, got, err)
		}
	}
}

// A disk that does not take the result is an error, although the call succeeded.
func TestResultThatCannotBeWritten(t *testing.T) {
	const full = "/dev/full"
	if _, err := os.Stat(full); err != nil {
		t.Skip("this system has no " + full)
	}
	if got := runOn(t, answers{"POST /v1/functions/f/invoke": {200, "result"}}, "invoke", "f", "-w", full); got.code != 1 || !strings.Contains(got.err, "write the result") {
		t.Errorf("%+v", got)
	}
}
