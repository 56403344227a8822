package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambda"
	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
)

// asRuntime makes this test's program a Lambda function.
const asRuntime = "SPILLWAY_TEST_AS_RUNTIME"

func TestMain(m *testing.M) {
	if os.Getenv(asRuntime) != "" {
		lambda.StartWithOptions(echo, lambda.WithEnableSIGTERM())
		return
	}
	goleak.VerifyTestMain(m)
}

// echo answers with its event, or fails as the event asks.
func echo(_ context.Context, event json.RawMessage) (json.RawMessage, error) {
	switch string(event) {
	case `"fail"`:
		return nil, errors.New("as asked")
	case `"panic"`:
		panic("as asked")
	}
	return event, nil
}

// goRuntime starts AWS's own runtime as a process that uses the API at addr. It
// returns a function that waits for its end.
func goRuntime(t testing.TB, addr string) (wait func() string) {
	t.Helper()
	p := exec.Command(os.Args[0])
	p.Env = append(os.Environ(), asRuntime+"=1", "AWS_LAMBDA_RUNTIME_API="+addr)
	said := new(bytes.Buffer)
	p.Stdout, p.Stderr = said, said
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = p.Wait() }() // how it ends is what some tests are about
	t.Cleanup(func() { p.Process.Kill(); <-ended })
	return func() string { <-ended; return said.String() }
}

func TestAWSRuntime(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{Function: "echo", Version: 1})
	wait := goRuntime(t, addr)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	large := `"` + strings.Repeat("x", MostBody-2) + `"`
	for i, event := range []string{`{}`, `1`, `{"a":[1,2]}`, large, `{}`} {
		r := request(event)
		r.Task = functions.TaskID(fmt.Sprint("task-", i))
		res, err := l.Invoke(ctx, r)
		if err != nil || string(res.Body) != event {
			t.Fatalf("event %d: %d bytes, %v", i, len(res.Body), err)
		}
	}
	_, err := l.Invoke(ctx, request(`"fail"`))
	if f := faultIn(t, err); f.Message != "as asked" || f.Type != "errorString" {
		t.Errorf("got %+v", f)
	}
	if res, err := l.Invoke(ctx, request(`2`)); err != nil || string(res.Body) != "2" {
		t.Errorf("after an error: %s, %v", res.Body, err)
	}
	_, err = l.Invoke(ctx, request(`"panic"`))
	if f := faultIn(t, err); f.Message != "as asked" || f.Type != "string" {
		t.Errorf("got %+v", f)
	}
	if said := wait(); !strings.Contains(said, "as asked") {
		t.Errorf("the runtime ended with %s", said)
	}
}

// One runtime asks for several events at once when it is told that it may.
func TestAWSRuntimeAtOnce(t *testing.T) {
	l, addr := lambdaAt(t, LambdaConfig{Concurrency: 4})
	t.Setenv("AWS_LAMBDA_MAX_CONCURRENCY", "4")
	goRuntime(t, addr)
	var outs []<-chan invoked
	for i := range 40 {
		r := request(fmt.Sprint(i))
		r.Task = functions.TaskID(fmt.Sprint("task-", i))
		outs = append(outs, invoke(t.Context(), l, r))
	}
	for i, out := range outs {
		if got, err := await(t, out); err != nil || string(got.Body) != fmt.Sprint(i) {
			t.Errorf("%d got %s, %v", i, got.Body, err)
		}
	}
}
