package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"spillway": main})
}

// TestScripts runs the command line as a person does, against servers of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"server":  startServer,
			"exits":   exits,
			"json":    jsonValue,
			"setenv":  setenv,
			"large":   large,
			"signals": signals,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// startServer: server [flags...] starts `spillway up` with simulated containers
// on free ports, sets SPILLWAY_URL and KEY_FILE, and stops it when the script ends.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("server cannot be negated")
	}
	store, err := freePort()
	ts.Check(err)
	ready := ts.MkAbs("ready.json")
	cmd := exec.Command("spillway", append([]string{
		"up", "--runtime", "simulated", "--node-id", "here", "--data", ts.MkAbs("data"),
		"--listen", "127.0.0.1:0", "--store-listen", store, "--ready-file", ready,
	}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	log, err := os.Create(ts.MkAbs("server.log"))
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ts.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				ts.Logf("the server did not stop cleanly: %v", err)
			}
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			ts.Logf("the server did not stop in time")
		}
		log.Close()
	})
	var u urls
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !isReady(ready, &u) {
		select {
		case <-tick.C:
		case err := <-ended:
			ended <- err
			ts.Fatalf("the server ended before it was ready: %v\n%s", err, ts.ReadFile("server.log"))
		case <-limit:
			ts.Fatalf("the server is not ready\n%s", ts.ReadFile("server.log"))
		}
	}
	ts.Setenv("SPILLWAY_URL", u.Gateway)
	ts.Setenv("KEY_FILE", u.APIKey)
}

// isReady reports whether the server has written its ready file and has a node.
func isReady(file string, u *urls) bool {
	b, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(b, u) != nil {
		return false
	}
	resp, err := http.Get(u.Gateway + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

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
