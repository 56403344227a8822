package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// bin is the binary under test, built once by TestMain.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	given := false // -parallel was given
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		// Those that run beside each other mostly wait: for a dead node to be given
		// up, for a quarantine to end.
		if err := flag.Set("test.parallel", "6"); err != nil {
			panic(err)
		}
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "spillway-e2e-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = filepath.Join(dir, "spillway")
		if err := harness.Build(context.Background(), "..", bin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// needDocker skips where no engine or no function image is at hand, and fails
// instead where they are required.
func needDocker(t *testing.T) {
	t.Helper()
	out, err := exec.Command("docker", "image", "inspect", "--format", "{{.Id}}", "spillway/echo:latest").CombinedOutput()
	if err == nil {
		return
	}
	msg := fmt.Sprintf("no Docker Engine with the function images (make images): %v: %s", err, bytes.TrimSpace(out))
	if os.Getenv("SPILLWAY_REQUIRE_DOCKER") == "1" {
		t.Fatal(msg)
	}
	t.Skip(msg)
}

// server starts `spillway up` for a test and stops it after; then nothing of its
// node may be left in Docker.
func server(t *testing.T, args ...string) *harness.Server {
	t.Helper()
	return serverWith(t, harness.Config{Args: args})
}

func serverWith(t *testing.T, cfg harness.Config) *harness.Server {
	t.Helper()
	node := nodeName(t)
	log := &logBuffer{}
	cfg.Bin, cfg.Log = bin, log
	if cfg.Data == "" {
		cfg.Data = filepath.Join(t.TempDir(), "data")
	}
	cfg.Args = append([]string{"--no-auth", "--node-id", node, "--log-level", "debug"}, cfg.Args...)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("not ready within a minute"))
	defer cancel()
	srv, err := harness.Start(ctx, cfg)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.tail())
	}
	t.Cleanup(func() {
		if err := srv.Stop(30 * time.Second); err != nil && !strings.Contains(err.Error(), "killed") {
			t.Errorf("stop: %v", err)
		}
		removeContainers(t, node)
		if t.Failed() {
			t.Logf("server log:\n%s", log.tail())
		}
	})
	return srv
}

func nodeName(t *testing.T) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, t.Name())
	return fmt.Sprintf("e2e-%d-%.40s", os.Getpid(), name)
}

// containers lists what a node has in Docker.
func containers(t *testing.T, node string) []string {
	t.Helper()
	out, err := exec.Command("docker", "ps", "-aq", "--filter", "label=spillway.node="+node).Output()
	if err != nil {
		return nil // no engine, no containers
	}
	return strings.Fields(string(out))
}

func removeContainers(t *testing.T, node string) {
	t.Helper()
	if ids := containers(t, node); len(ids) > 0 {
		if out, err := exec.Command("docker", append([]string{"rm", "-f"}, ids...)...).CombinedOutput(); err != nil {
			t.Errorf("remove containers: %v: %s", err, out)
		}
	}
}

// deploySpec deploys a function from YAML.
func deploySpec(t *testing.T, srv *harness.Server, yaml string) {
	t.Helper()
	_, _, _, err := srv.Call(t.Context(), "POST", "/v1/functions", map[string]string{"Content-Type": "application/yaml"}, strings.NewReader(yaml))
	if err != nil {
		t.Fatalf("deploy: %v", err)
	}
}

func deployCatalog(t *testing.T, srv *harness.Server, names ...string) {
	t.Helper()
	args := []string{"deploy"}
	for _, n := range names {
		args = append(args, filepath.Join("..", "functions", "catalog", n))
	}
	if _, err := srv.CLI(t.Context(), args...); err != nil {
		t.Fatal(err)
	}
}

// run submits an event and waits for the task's end.
func run(t *testing.T, srv *harness.Server, fn, event string, header map[string]string) harness.Task {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New("the task did not end within 2 minutes"))
	defer cancel()
	id, err := srv.Submit(ctx, fn, event, header)
	if err != nil {
		t.Fatalf("submit: %v", err)
	}
	task, err := srv.WaitTask(ctx, id)
	if err != nil {
		t.Fatalf("wait for %s: %v (last seen: %+v)", id, err, task)
	}
	return task
}

// eventually polls until ok, for what has no event to wait for.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %s", what, within)
		}
	}
}

func wantClass(t *testing.T, task harness.Task, status functions.State, class functions.Class) {
	t.Helper()
	if task.Status != string(status) || task.Failure == nil || task.Failure.Class != class {
		t.Fatalf("task ended as %s with %+v, want %s with class %s", task.Status, task.Failure, status, class)
	}
}
