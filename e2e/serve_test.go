package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// served makes an image of one of the programs that serve, and returns its name.
func served(t *testing.T, program string) string {
	t.Helper()
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		if os.Getenv("SPILLWAY_REQUIRE_DOCKER") == "1" {
			t.Fatalf("no Docker Engine, and SPILLWAY_REQUIRE_DOCKER is set: %v: %s", err, out)
		}
		t.Skipf("SKIPPED: no Docker Engine here: %v", err)
	}
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "program"),
		"github.com/spillway/spillway/runtime/serve/testdata/"+program)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", program, err, out)
	}
	pack, err := exec.Command("tar", "-C", dir, "-c", "program").Output()
	if err != nil {
		t.Fatal(err)
	}
	image := fmt.Sprintf("spillway-e2e-%s:%d", program, os.Getpid())
	load := exec.CommandContext(t.Context(), "docker", "import", "--change", `ENTRYPOINT ["/program"]`, "-", image)
	load.Stdin = bytes.NewReader(pack)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("import %s: %v\n%s", image, err, out)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", image).Run() })
	return image
}

// answer is what the programs that serve say of themselves.
type answer struct {
	Host    string `json:"host"` // the container
	Served  int    `json:"served"`
	Task    string `json:"task"`
	Request string `json:"request"`
}

// ask invokes a function and waits for its answer.
func ask(t *testing.T, srv *harness.Server, fn, event string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New("no answer within 2 minutes"))
	defer cancel()
	header := map[string]string{"Content-Type": "application/json", "Prefer": "wait=100"}
	_, h, body, err := srv.Call(ctx, http.MethodPost, "/v1/functions/"+fn+"/invoke", header, strings.NewReader(event))
	if err != nil {
		t.Fatalf("call %s: %v", fn, err)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil || a.Host == "" {
		t.Fatalf("%s answers %s (%v, %v)", fn, body, h, err)
	}
	return a
}

// TestServedFunctions runs both contracts whose containers serve again through
// all that decides whether they do.
func TestServedFunctions(t *testing.T) {
	for _, c := range []struct {
		contract, program string
		crash             string // an event that ends the program
		class             functions.Class
	}{
		{"http", "server", `{"do":"kill"}`, functions.Crashed},
		{"lambda", "lambda", `{"do":"exit"}`, functions.Crashed},
	} {
		t.Run(c.contract, func(t *testing.T) {
			image := served(t, c.program)
			srv := server(t)
			spec := func(name, more string) {
				deploySpec(t, srv, fmt.Sprintf("name: %s\nimage: %s\ncontract: %s\ndevice: never\n%s", name, image, c.contract, more))
			}
			spec("usual", "limits: {memory: 64MiB}\n")
			spec("three", "reuse: 3\n")

			first := ask(t, srv, "usual", `{}`)
			for i := 2; i <= 200; i++ {
				if a := ask(t, srv, "usual", `{}`); a.Host != first.Host || a.Served != i {
					t.Fatalf("call %d was served by %s as its number %d, the first by %s", i, a.Host, a.Served, first.Host)
				}
			}
			hosts := map[string]int{}
			for i := range 9 {
				a := ask(t, srv, "three", `{}`)
				if hosts[a.Host]++; a.Served != i%3+1 {
					t.Errorf("call %d is number %d of %s", i, a.Served, a.Host)
				}
			}
			if len(hosts) != 3 {
				t.Errorf("9 calls of a function with reuse 3 took the containers %v", hosts)
			}

			// Only now: one of 200 calls may meet a machine that stands still for a second.
			spec("usual", "timeout: 2s\nlimits: {memory: 64MiB}\n")
			first = ask(t, srv, "usual", `{}`)
			wantClass(t, run(t, srv, "usual", `{"do":"sleep","n":60000}`, nil), functions.TimedOut, functions.TimedOutRun)
			second := ask(t, srv, "usual", `{}`)
			if second.Host == first.Host || second.Served != 1 {
				t.Errorf("after a timeout %s serves as number %d", second.Host, second.Served)
			}
			wantClass(t, run(t, srv, "usual", c.crash, nil), functions.Failed, c.class)
			third := ask(t, srv, "usual", `{}`)
			if third.Host == second.Host || third.Served != 1 {
				t.Errorf("after a crash %s serves as number %d", third.Host, third.Served)
			}
			// What dies between two tasks costs none of them anything.
			if out, err := exec.Command("docker", "kill", third.Host).CombinedOutput(); err != nil {
				t.Fatalf("kill: %v %s", err, out)
			}
			if fourth := ask(t, srv, "usual", `{}`); fourth.Host == third.Host {
				t.Errorf("%s was killed, and serves", fourth.Host)
			}
			if err := srv.Stop(time.Minute); err != nil {
				t.Errorf("stop: %v", err)
			}
			if left := containers(t, nodeName(t)); len(left) > 0 {
				t.Errorf("containers are left when the node has stopped: %v", left)
			}
		})
	}
}

// TestServedOutputs looks at what is kept of tasks that share a container.
func TestServedOutputs(t *testing.T) {
	image := served(t, "server")
	srv := server(t)
	deploySpec(t, srv, "name: web\nimage: "+image+"\ncontract: http\ndevice: never\nhttp: {port: 9000, health: /health}\n")
	for i := range 10 {
		say := fmt.Sprintf("words of %d", i)
		task := run(t, srv, "web", fmt.Sprintf(`{"say":%q}`, say), nil)
		if task.Status != string(functions.Succeeded) {
			t.Fatalf("ended as %s: %+v", task.Status, task.Failure)
		}
		_, _, log, err := srv.Call(t.Context(), http.MethodGet, "/v1/tasks/"+string(task.ID)+"/logs", nil, nil)
		if err != nil || strings.Count(string(log), "words of") != 1 || !strings.Contains(string(log), say) {
			t.Errorf("log of %d: %s, %v", i, log, err)
		}
	}
	task := run(t, srv, "web", `{"do":"text"}`, nil)
	if len(task.Outputs) != 1 || task.Outputs[0].Name != "response" || task.Outputs[0].Size != int64(len("plain words")) {
		t.Fatalf("a text answer: %+v", task)
	}
	res, err := http.Get(task.Outputs[0].DownloadURL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "plain words" || res.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("output %q of type %q, %v", body, res.Header.Get("Content-Type"), err)
	}
	task = run(t, srv, "web", `{"do":"status","n":404}`, nil)
	wantClass(t, task, functions.Failed, functions.Permanent)
	if task.Failure.Type != "Http.404" {
		t.Errorf("type %q", task.Failure.Type)
	}
}

// TestServedAgentDies kills the agent while a container serves a task. The next
// agent removes the container and says so; the task is run again.
func TestServedAgentDies(t *testing.T) {
	image := served(t, "server")
	srv := server(t)
	deploySpec(t, srv, "name: web\nimage: "+image+"\ncontract: http\ndevice: never\n")
	before := ask(t, srv, "web", `{}`)
	id, err := srv.Submit(t.Context(), "web", `{"do":"sleep","n":6000}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the task runs", func() bool {
		task, err := srv.Task(t.Context(), id)
		return err == nil && task.Status == "running"
	})
	srv.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := srv.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	task, err := srv.WaitTask(ctx, id)
	if err != nil || task.Status != string(functions.Succeeded) {
		t.Fatalf("ended as %s, %+v, %v", task.Status, task.Failure, err)
	}
	if len(task.Attempts) != 2 || task.Attempts[0].Failure == nil || task.Attempts[0].Failure.Class != functions.Infra {
		t.Errorf("attempts %+v", task.Attempts)
	}
	if after := ask(t, srv, "web", `{}`); after.Host == before.Host {
		t.Errorf("%s serves, whose agent has died", after.Host)
	}
	eventually(t, time.Minute, "the container of the agent before is removed", func() bool {
		return exec.Command("docker", "inspect", before.Host).Run() != nil
	})
}
