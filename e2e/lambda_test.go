package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// awscliPath is where Debian's package awscli has the program; another aws on
// PATH may be of another make and age.
const awscliPath = "/usr/bin/aws"

// needAWS skips where there is no AWS command line, or fails where it is required.
func needAWS(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(awscliPath); err == nil {
		return
	}
	const why = "no AWS command line: run deploy/setup.sh test, or install Debian's package awscli"
	if os.Getenv("REQUIRE_AWSCLI") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// invoked is what aws lambda invoke prints, and what it writes to its file.
type invoked struct {
	StatusCode      int
	ExecutedVersion string
	FunctionError   string
	LogResult       string
	payload         string
}

// awsInvoke runs aws lambda invoke as a user does.
func awsInvoke(t *testing.T, srv *harness.Server, fn, payload string, more ...string) (invoked, error) {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out.json")
	args := append([]string{"lambda", "invoke", "--endpoint-url", srv.Gateway, "--output", "json", "--no-cli-pager", "--cli-binary-format", "raw-in-base64-out",
		"--function-name", fn, "--payload", payload}, more...)
	cmd := exec.CommandContext(t.Context(), awscliPath, append(args, out)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "LC_ALL=C.UTF-8", "AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=AKIA", "AWS_SECRET_ACCESS_KEY=secret",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return invoked{}, fmt.Errorf("aws %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	var got invoked
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		return got, fmt.Errorf("aws %s: %w: %s", strings.Join(args, " "), err, stdout.String())
	}
	body, err := os.ReadFile(out)
	got.payload = string(body)
	return got, err
}

// TestLambdaClients invokes functions with AWS's own command line, and by hand
// where that cannot.
func TestLambdaClients(t *testing.T) {
	needAWS(t)
	srv := server(t, "--runtime", "simulated", "--assume-gpu", "1")
	deploySpec(t, srv, "name: echo\nimage: any\ndevice: never\n")
	deploySpec(t, srv, "name: scan\nimage: any\ndevice: preferred\n")

	got, err := awsInvoke(t, srv, "echo", `{"a":1,"say":["hello"]}`, "--log-type", "Tail")
	if err != nil || got.StatusCode != 200 || got.ExecutedVersion != "$LATEST" || got.FunctionError != "" || got.payload != `{"a":1,"say":["hello"]}` {
		t.Fatalf("sync: %+v, %v", got, err)
	}
	log, err := base64.StdEncoding.DecodeString(got.LogResult)
	if text := string(log); err != nil || !strings.HasPrefix(text, "START RequestId: ") || !strings.Contains(text, "hello\nEND RequestId: ") || !strings.HasSuffix(text, "\tDevice: cpu\t\n") {
		t.Errorf("the log is %q, %v", log, err)
	}
	if got, err = awsInvoke(t, srv, "arn:aws:lambda:eu-west-1:000000000000:function:echo", `7`, "--qualifier", "1"); err != nil || got.ExecutedVersion != "1" || got.payload != "7" {
		t.Errorf("ARN and qualifier: %+v, %v", got, err)
	}
	if got, err = awsInvoke(t, srv, "echo", `{}`, "--invocation-type", "Event"); err != nil || got.StatusCode != 202 || got.payload != "" {
		t.Errorf("Event: %+v, %v", got, err)
	}
	if got, err = awsInvoke(t, srv, "echo", `{}`, "--invocation-type", "DryRun"); err != nil || got.StatusCode != 204 {
		t.Errorf("DryRun: %+v, %v", got, err)
	}
	if got, err = awsInvoke(t, srv, "echo", `{"exit":3}`); err != nil || got.StatusCode != 200 || got.FunctionError != "Unhandled" || !strings.Contains(got.payload, `Runtime exited with error: exit status 3`) {
		t.Errorf("a function that fails: %+v, %v", got, err)
	}
	if _, err = awsInvoke(t, srv, "none", `{}`); err == nil || !strings.Contains(err.Error(), "(ResourceNotFoundException)") || !strings.Contains(err.Error(), "Function not found: arn:aws:lambda:") {
		t.Errorf("no such function: %v", err)
	}

	t.Run("attach", func(t *testing.T) { attachedCalls(t, srv) })
	t.Run("a GPU that fails", func(t *testing.T) { fallenBack(t, srv) })
}

// attachedCalls sends one call twice, as an SDK does that has lost patience.
func attachedCalls(t *testing.T, srv *harness.Server) {
	header := map[string]string{"amz-sdk-invocation-id": "5f0e0a52-7d6f-4d3c-9a37-1f0e9f3b2c11", "Content-Type": "application/octet-stream"}
	const event = `{"sleep_ms":500,"only":"once"}`
	var ids [2]string
	var calls sync.WaitGroup
	for i := range ids {
		calls.Go(func() {
			status, h, body, err := srv.Call(t.Context(), "POST", "/2015-03-31/functions/echo/invocations", header, strings.NewReader(event))
			if err != nil || status != http.StatusOK || string(body) != event {
				t.Errorf("%d %s, %v", status, body, err)
				return
			}
			ids[i] = h.Get("X-Amzn-RequestId")
		})
	}
	calls.Wait()
	if ids[0] == "" || ids[0] != ids[1] {
		t.Errorf("two tries of one call are %v", ids)
	}
	task, err := srv.Task(t.Context(), functions.TaskID(ids[0]))
	if err != nil || task.Status != "succeeded" || task.Source != "lambda" || len(task.Attempts) != 1 {
		t.Errorf("%+v, %v", task, err)
	}
}

// fallenBack calls a function that prefers a GPU, on a host that cannot attach one.
func fallenBack(t *testing.T, srv *harness.Server) {
	got, err := awsInvoke(t, srv, "scan", `{"n":2}`, "--log-type", "Tail")
	if err != nil || got.FunctionError != "" || got.payload != `{"n":2}` {
		t.Fatalf("%+v, %v", got, err)
	}
	log, err := base64.StdEncoding.DecodeString(got.LogResult)
	if err != nil || !strings.Contains(string(log), "\tDevice: cpu\tFallback: gpu_host: ") {
		t.Errorf("the log is %q, %v", log, err)
	}
	_, h, _, err := srv.Call(t.Context(), "POST", "/2015-03-31/functions/scan/invocations", nil, strings.NewReader("{}"))
	if err != nil || h.Get("Spillway-Device-Requested") != "preferred" || h.Get("Spillway-Device-Used") != "cpu" {
		t.Errorf("%v, %v", h, err)
	}
}
