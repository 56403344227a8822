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
	"time"

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

// awsKey is the key that tests sign with.
const awsKey, awsSecret = "SPILLWAYOFTHETESTS00", "a-secret-that-is-known-to-the-tests"

// awsEnv is the environment of AWS's clients.
func awsEnv(home, secret string) []string {
	return []string{"PATH=/usr/bin:/bin", "HOME=" + home, "LC_ALL=C.UTF-8", "AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1",
		"AWS_ACCESS_KEY_ID=" + awsKey, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_EC2_METADATA_DISABLED=true"}
}

// awsInvoke runs aws lambda invoke as a user does, with a secret.
func awsInvoke(t *testing.T, srv *harness.Server, secret, fn, payload string, more ...string) (invoked, error) {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out.json")
	args := append([]string{"lambda", "invoke", "--endpoint-url", srv.Gateway, "--output", "json", "--no-cli-pager", "--cli-binary-format", "raw-in-base64-out",
		"--function-name", fn, "--payload", payload}, more...)
	cmd := exec.CommandContext(t.Context(), awscliPath, append(args, out)...)
	cmd.Env = append(awsEnv(dir, secret), "AWS_MAX_ATTEMPTS=1")
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
	srv := serverWith(t, harness.Config{
		Args: []string{"--no-auth=false", "--runtime", "simulated", "--assume-gpu", "1"},
		Env:  []string{"SPILLWAY_AWS_ACCESS_KEY_ID=" + awsKey, "SPILLWAY_AWS_SECRET_ACCESS_KEY=" + awsSecret},
	})
	deploySpec(t, srv, "name: echo\nimage: any\ndevice: never\n")
	deploySpec(t, srv, "name: scan\nimage: any\ndevice: preferred\n")

	got, err := awsInvoke(t, srv, awsSecret, "arn:aws:lambda:eu-west-1:000000000000:function:echo", `{"a":1,"say":["hello"]}`, "--qualifier", "1", "--log-type", "Tail")
	if err != nil || got.StatusCode != 200 || got.ExecutedVersion != "1" || got.FunctionError != "" || got.payload != `{"a":1,"say":["hello"]}` {
		t.Fatalf("sync: %+v, %v", got, err)
	}
	log, err := base64.StdEncoding.DecodeString(got.LogResult)
	if text := string(log); err != nil || !strings.HasPrefix(text, "START RequestId: ") || !strings.Contains(text, "hello\nEND RequestId: ") || !strings.HasSuffix(text, "\tDevice: cpu\t\n") {
		t.Errorf("the log is %q, %v", log, err)
	}
	if got, err = awsInvoke(t, srv, awsSecret, "echo", `{}`, "--invocation-type", "Event"); err != nil || got.StatusCode != 202 || got.payload != "" {
		t.Errorf("Event: %+v, %v", got, err)
	}
	if got, err = awsInvoke(t, srv, awsSecret, "echo", `{}`, "--invocation-type", "DryRun"); err != nil || got.StatusCode != 204 {
		t.Errorf("DryRun: %+v, %v", got, err)
	}
	if got, err = awsInvoke(t, srv, awsSecret, "echo", `{"exit":3}`); err != nil || got.StatusCode != 200 || got.FunctionError != "Unhandled" || !strings.Contains(got.payload, `Runtime exited with error: exit status 3`) {
		t.Errorf("a function that fails: %+v, %v", got, err)
	}
	if _, err = awsInvoke(t, srv, awsSecret, "none", `{}`); err == nil || !strings.Contains(err.Error(), "(ResourceNotFoundException)") || !strings.Contains(err.Error(), "Function not found: arn:aws:lambda:") {
		t.Errorf("no such function: %v", err)
	}
	if _, err = awsInvoke(t, srv, "another secret", "echo", `{}`); err == nil || !strings.Contains(err.Error(), "(InvalidSignatureException)") {
		t.Errorf("a wrong secret: %v", err)
	}

	t.Run("attach", func(t *testing.T) { attachedCalls(t, srv) })
	t.Run("an impatient SDK", func(t *testing.T) { impatient(t, srv) })
	t.Run("an event that fails", func(t *testing.T) { failedEvent(t, srv) })
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

// impatientProgram gives up on each try after a second, as boto3 does after sixty.
const impatientProgram = `
import boto3, sys
from botocore.config import Config
client = boto3.client("lambda", endpoint_url=sys.argv[1], config=Config(read_timeout=1, retries={"max_attempts": 8}))
answer = client.invoke(FunctionName="echo", Payload=b'{"sleep_ms":2500}')
print(answer["ResponseMetadata"]["RequestId"], answer["ResponseMetadata"]["RetryAttempts"], answer["Payload"].read().decode())
`

// impatient has boto3 call a function that takes longer than boto3 waits: each of
// its tries joins the one invocation.
func impatient(t *testing.T, srv *harness.Server) {
	const python = "/usr/bin/python3" // another on PATH may have no boto3, or another
	if out, err := exec.Command(python, "-c", "import boto3").CombinedOutput(); err != nil {
		if os.Getenv("REQUIRE_BOTO3") == "1" {
			t.Fatalf("no boto3: run deploy/setup.sh test: %v: %s", err, out)
		}
		t.Skip("no boto3: run deploy/setup.sh test, or install Debian's package python3-boto3")
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", impatientProgram, srv.Gateway)
	cmd.Env = awsEnv(t.TempDir(), awsSecret)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	said := strings.Fields(string(out))
	if len(said) != 3 || said[1] == "0" || said[2] != `{"sleep_ms":2500}` {
		t.Fatalf("boto3 says %s", out)
	}
	task, err := srv.Task(t.Context(), functions.TaskID(said[0]))
	if err != nil || task.Status != "succeeded" || len(task.Attempts) != 1 {
		t.Errorf("%+v, %v", task, err)
	}
	var all struct {
		Tasks []struct {
			ID functions.TaskID `json:"id"`
		} `json:"tasks"`
	}
	if err := srv.JSON(t.Context(), "GET", "/v1/tasks?limit=1", nil, &all); err != nil || len(all.Tasks) != 1 || all.Tasks[0].ID != task.ID {
		t.Errorf("the newest task is another: %+v, %v", all, err)
	}
}

// failedEvent sets that events of a function are not retried, and who is told when
// one has failed.
func failedEvent(t *testing.T, srv *harness.Server) {
	deploySpec(t, srv, "name: flaky\nimage: any\ndevice: never\nretries: {max: 5}\n")
	deploySpec(t, srv, "name: mourner\nimage: any\ndevice: never\n")
	const config = `{"MaximumRetryAttempts":0,"DestinationConfig":{"OnFailure":{"Destination":"arn:aws:lambda:eu-west-1:000000000000:function:mourner"}}}`
	if _, _, body, err := srv.Call(t.Context(), "PUT", "/2019-09-25/functions/flaky/event-invoke-config", nil, strings.NewReader(config)); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	_, h, _, err := srv.Call(t.Context(), "POST", "/2015-03-31/functions/flaky/invocations", map[string]string{"X-Amz-Invocation-Type": "Event"}, strings.NewReader(`{"exit":3}`))
	if err != nil {
		t.Fatal(err)
	}
	task, err := srv.WaitTask(t.Context(), functions.TaskID(h.Get("X-Amzn-RequestId")))
	if err != nil || task.Status != "failed" || len(task.Attempts) != 1 {
		t.Errorf("%+v, %v", task, err)
	}
	eventually(t, 20*time.Second, "the other function is told", func() bool {
		var told struct {
			Tasks []struct {
				Source string `json:"source"`
			} `json:"tasks"`
		}
		err := srv.JSON(t.Context(), "GET", "/v1/tasks?function=mourner", nil, &told)
		return err == nil && len(told.Tasks) == 1 && told.Tasks[0].Source == "chain"
	})
}

// fallenBack calls a function that prefers a GPU, on a host that cannot attach one.
func fallenBack(t *testing.T, srv *harness.Server) {
	status, h, body, err := srv.Call(t.Context(), "POST", "/2015-03-31/functions/scan/invocations", map[string]string{"X-Amz-Log-Type": "Tail"}, strings.NewReader(`{"n":2}`))
	if err != nil || status != http.StatusOK || string(body) != `{"n":2}` || h.Get("X-Amz-Function-Error") != "" {
		t.Fatalf("%d %s, %v", status, body, err)
	}
	why := h.Get("Spillway-Fallback-Reason")
	if h.Get("Spillway-Device-Requested") != "preferred" || h.Get("Spillway-Device-Used") != "cpu" || h.Get("Spillway-Attempts") != "2" || !strings.HasPrefix(why, "gpu_host: ") {
		t.Errorf("the headers are %v", h)
	}
	log, err := base64.StdEncoding.DecodeString(h.Get("X-Amz-Log-Result"))
	if err != nil || !strings.Contains(string(log), "\tDevice: cpu\tFallback: "+why+"\t\n") {
		t.Errorf("the log is %q, %v", log, err)
	}
}
