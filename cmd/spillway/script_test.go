package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
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
			"server": startServer,
			"node":   startNode,
			"poll":   poll,
			"exits":  exits,
			"json":   jsonValue,
			"setenv": setenv,
			"large":  large,
			"freeport": func(ts *testscript.TestScript, _ bool, args []string) {
				addr, err := freePort()
				ts.Check(err)
				ts.Setenv(args[0], addr)
			},
			"signals": signals,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// startServer: server [flags...] starts `spillway up` with simulated containers
// on free ports, sets SPILLWAY_URL and what its clients and nodes need to know,
// and stops it when the script ends.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("server cannot be negated")
	}
	store, err := freePort()
	ts.Check(err)
	ready := ts.MkAbs("ready.json")
	ended := background(ts, "server.log", append([]string{
		"up", "--runtime", "simulated", "--node-id", "here", "--data", ts.MkAbs("data"),
		"--listen", "127.0.0.1:0", "--store-listen", store, "--ready-file", ready,
	}, args...))
	var u urls
	waitFor(ts, "server.log", ended, func() bool { return isReady(ready, &u) })
	ts.Setenv("SPILLWAY_URL", u.Gateway)
	ts.Setenv("KEY_FILE", u.APIKey)
	ts.Setenv("STORE", u.Store)
	s, err := loadSecrets(ts.MkAbs("data"))
	ts.Check(err)
	ts.Setenv("SPILLWAY_ENGINE_TOKEN", s.EngineToken)
	ts.Setenv("SPILLWAY_STORE_ACCESS_KEY", s.StoreAccess)
	ts.Setenv("SPILLWAY_STORE_SECRET_KEY", s.StoreSecret)
}

// startNode: node FLAGS... starts `spillway node` and waits until it is connected.
func startNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("node cannot be negated")
	}
	ended := background(ts, "node.log", append([]string{"node", "--runtime", "simulated", "--data", ts.MkAbs("node")}, args...))
	waitFor(ts, "node.log", ended, func() bool { return strings.Contains(ts.ReadFile("node.log"), "is connected to") })
}

// background starts spillway and stops it when the script ends; it must then end
// well.
func background(ts *testscript.TestScript, logName string, args []string) (ended chan error) {
	cmd := exec.Command("spillway", args...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"SPILLWAY_ENGINE_TOKEN", "SPILLWAY_STORE_ACCESS_KEY", "SPILLWAY_STORE_SECRET_KEY"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	log, err := os.Create(ts.MkAbs(logName))
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = log, log
	ts.Check(cmd.Start())
	ended = make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ts.Defer(func() {
		defer log.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				ts.Fatalf("%s did not stop cleanly: %v\n%s", args[0], err, ts.ReadFile(logName))
			}
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			ts.Fatalf("%s did not stop in time\n%s", args[0], ts.ReadFile(logName))
		}
	})
	return ended
}

func waitFor(ts *testscript.TestScript, logName string, ended chan error, is func() bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case err := <-ended:
			ended <- err
			ts.Fatalf("it ended before it was ready: %v\n%s", err, ts.ReadFile(logName))
		case <-limit:
			ts.Fatalf("it is not ready\n%s", ts.ReadFile(logName))
		}
	}
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

// poll: poll REGEXP ARGS... runs spillway until its output matches.
func poll(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: poll REGEXP ARGS...")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	for limit := time.Now().Add(20 * time.Second); ; {
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
