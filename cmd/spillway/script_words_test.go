package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// exits: exits CODE [ARGS...] runs spillway and wants this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: exits CODE [ARGS...]")
	}
	code := 0
	if err := ts.Exec("spillway", args[1:]...); err != nil {
		var end *exec.ExitError
		if !errors.As(err, &end) {
			ts.Fatalf("run spillway: %v", err)
		}
		code = end.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// poll: poll REGEXP ARGS... runs spillway until its output matches.
func poll(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: poll REGEXP ARGS...")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	for limit := time.Now().Add(time.Minute); ; {
		ts.Check(ts.Exec("spillway", args[1:]...))
		switch {
		case want.MatchString(ts.ReadFile("stdout")):
			return
		case time.Now().After(limit):
			ts.Fatalf("no %q in time", args[0])
		}
	}
}

// jsonValue: json PATH [WANT] wants stdout to be one JSON value and nothing
// else, and to hold WANT at PATH, such as .tasks.0.status; a number of elements
// is asked for with .tasks.length. A negated json wants another value there.
func jsonValue(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: json PATH [WANT]")
	}
	got := lookup(ts, args[0])
	if len(args) > 1 && (got == args[1]) == neg {
		ts.Fatalf("%s is %q (negated: %t)", args[0], got, neg)
	}
}

func lookup(ts *testscript.TestScript, path string) string {
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &v); err != nil {
		ts.Fatalf("stdout is not JSON alone: %v", err)
	}
	for key := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '.' }) {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i, err := strconv.Atoi(key)
			switch {
			case key == "length":
				v = len(in)
			case err != nil || i >= len(in):
				ts.Fatalf("%s: no element %q", path, key)
			default:
				v = in[i]
			}
		default:
			ts.Fatalf("%s: %q is not in %v", path, key, v)
		}
	}
	return fmt.Sprint(v)
}

// setenv: setenv NAME [PATH] keeps stdout, or the value at a JSON path of it.
func setenv(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: setenv NAME [PATH]")
	case len(args) == 1:
		ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
	default:
		ts.Setenv(args[0], lookup(ts, args[1]))
	}
}

// signals: signals CODE ARGS... runs spillway, interrupts it once it has said
// something, and wants this exit code and no error message.
func signals(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: signals CODE ARGS...")
	}
	cmd := exec.Command("spillway", args[1:]...)
	cmd.Env = append(os.Environ(), "SPILLWAY_URL="+ts.Getenv("SPILLWAY_URL"))
	said, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	b := make([]byte, 4096)
	n, err := said.Read(b)
	if err != nil {
		_ = cmd.Wait()
		ts.Fatalf("it ended without a word: %v", err)
	}
	ts.Check(cmd.Process.Signal(syscall.SIGINT))
	rest := new(strings.Builder)
	for err == nil {
		var m int
		m, err = said.Read(b[n:])
		rest.Write(b[n : n+m])
	}
	_ = cmd.Wait() // the exit code says it all
	if code := cmd.ProcessState.ExitCode(); strconv.Itoa(code) != args[0] || strings.Contains(rest.String(), "error") {
		ts.Fatalf("exit code %d, want %s; it said %s%s", code, args[0], b[:n], rest)
	}
}

// killed: killed ARGS... runs an upload and kills it, as kill -9 does, once the
// store has at least one part and not yet the end.
func killed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: killed ARGS...")
	}
	cmd := exec.Command("spillway", args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "SPILLWAY_URL="+ts.Getenv("SPILLWAY_URL"), "XDG_CACHE_HOME="+ts.Getenv("XDG_CACHE_HOME"))
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for limit := time.Now().Add(time.Minute); partsOf(ts) == 0; {
		select {
		case err := <-ended:
			ts.Fatalf("it ended before it could be killed: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(limit) {
			_ = cmd.Process.Kill()
			ts.Fatalf("no part in time")
		}
	}
	_ = cmd.Process.Kill()
	if err := <-ended; err == nil {
		ts.Fatalf("it ended before it was killed")
	}
}

// partsOf is how many parts the store has of the upload that is remembered.
func partsOf(ts *testscript.TestScript) int {
	files, err := filepath.Glob(filepath.Join(ts.Getenv("XDG_CACHE_HOME"), "spillway", "uploads", "*.json"))
	ts.Check(err)
	if len(files) != 1 {
		return 0
	}
	b, err := os.ReadFile(files[0])
	ts.Check(err)
	var upload struct {
		ID        string
		Multipart struct{ Received []any }
	}
	if json.Unmarshal(b, &upload) != nil {
		return 0 // it is just being written
	}
	resp, err := http.Get(ts.Getenv("SPILLWAY_URL") + "/v1/uploads/" + upload.ID)
	ts.Check(err)
	defer resp.Body.Close()
	ts.Check(json.NewDecoder(resp.Body).Decode(&upload))
	return len(upload.Multipart.Received)
}

// large: large MIB FILE makes a file of zeros.
func large(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: large MIB FILE")
	}
	n, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Check(errors.Join(f.Truncate(n<<20), f.Close()))
}
