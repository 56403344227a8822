package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
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
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"server": scripts{t}.server,
			"node":   scripts{t}.node,
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
			"registry": scripts{t}.registry,
			"signals":  signals,
			"killed":   killed,
		},
		Condition: func(name string) (bool, error) {
			if name != "docker" {
				return false, fmt.Errorf("no condition %q", name)
			}
			out, err := exec.Command("docker", "info").CombinedOutput()
			if err != nil && os.Getenv("SPILLWAY_REQUIRE_DOCKER") != "" {
				return false, fmt.Errorf("no Docker engine, and SPILLWAY_REQUIRE_DOCKER is set: %s", out)
			}
			return err == nil, nil
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// scripts starts the processes of a script. One that does not stop as it should
// fails t: the script itself is over by then.
type scripts struct{ t *testing.T }

// server: server [flags...] starts `spillway up` with simulated containers
// on free ports, sets SPILLWAY_URL and what its clients and nodes need to know,
// and stops it when the script ends.
func (s scripts) server(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("server cannot be negated")
	}
	store, err := freePort()
	ts.Check(err)
	ready := ts.MkAbs("ready.json")
	ended := s.background(ts, "server.log", append([]string{
		"up", "--runtime", "simulated", "--node-id", "here", "--data", ts.MkAbs("data"),
		"--listen", "127.0.0.1:0", "--store-listen", store, "--ready-file", ready,
	}, args...))
	var u urls
	waitFor(ts, "server.log", ended, func() bool { return isReady(ready, &u) })
	ts.Setenv("SPILLWAY_URL", u.Gateway)
	ts.Setenv("KEY_FILE", u.APIKey)
	ts.Setenv("STORE", u.Store)
	keys, err := loadSecrets(ts.MkAbs("data"))
	ts.Check(err)
	ts.Setenv("SPILLWAY_ENGINE_TOKEN", keys.EngineToken)
	ts.Setenv("SPILLWAY_STORE_ACCESS_KEY", keys.StoreAccess)
	ts.Setenv("SPILLWAY_STORE_SECRET_KEY", keys.StoreSecret)
}

// node: node FLAGS... starts `spillway node` and waits until it is connected.
func (s scripts) node(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("node cannot be negated")
	}
	ended := s.background(ts, "node.log", append([]string{"node", "--runtime", "simulated", "--data", ts.MkAbs("node")}, args...))
	waitFor(ts, "node.log", ended, func() bool { return strings.Contains(ts.ReadFile("node.log"), "is connected to") })
}

// background starts spillway and stops it when the script ends; it must then end
// well.
func (s scripts) background(ts *testscript.TestScript, logName string, args []string) (ended chan error) {
	cmd := exec.Command("spillway", args...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"SPILLWAY_ENGINE_TOKEN", "SPILLWAY_STORE_ACCESS_KEY", "SPILLWAY_STORE_SECRET_KEY"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	log, err := os.Create(ts.MkAbs(logName))
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = log, log
	// A test that dies must not leave its server behind. The kernel sends the
	// signal when the thread that started the child ends: one stays with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	ended = make(chan error, 1)
	go func() {
		goruntime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	ts.Check(<-started)
	ts.Defer(func() {
		defer log.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				s.t.Errorf("%s: %s did not stop cleanly: %v\n%s", ts.Name(), args[0], err, ts.ReadFile(logName))
			}
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			<-ended
			s.t.Errorf("%s: %s did not stop in time\n%s", ts.Name(), args[0], ts.ReadFile(logName))
		}
	})
	return ended
}

func waitFor(ts *testscript.TestScript, logName string, ended chan error, is func() bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute)
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
