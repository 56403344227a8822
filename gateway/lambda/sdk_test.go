package lambda

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/spillway/spillway/functions"
)

// client is AWS's own, as a program would use it.
func client(t *testing.T, w http.Handler, accessKey string, tries int) *lambda.Client {
	t.Helper()
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return lambda.New(lambda.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(srv.URL), HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, "secret", ""),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.Backoff = tries, retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		}),
	})
}

func TestSDKInvokes(t *testing.T) {
	w := newWorld(t, nil)
	c := client(t, w, "AKID", 1)
	out, err := c.Invoke(t.Context(), &lambda.InvokeInput{
		FunctionName: aws.String("arn:aws:lambda:eu-west-1:000000000000:function:echo"), Qualifier: aws.String("2"), LogType: types.LogTypeTail,
		Payload: []byte(`{"a":1}`), ClientContext: aws.String(base64.StdEncoding.EncodeToString([]byte(`{"client":{}}`))),
	})
	if err != nil || out.StatusCode != 200 || string(out.Payload) != `{"a":1}` || aws.ToString(out.ExecutedVersion) != "2" || out.FunctionError != nil {
		t.Fatalf("%+v, %v", out, err)
	}
	if log, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult)); err != nil || !strings.Contains(string(log), "Version: 2\n") {
		t.Errorf("log %q, %v", log, err)
	}
	for _, c2 := range []struct {
		kind   types.InvocationType
		status int32
	}{{types.InvocationTypeEvent, 202}, {types.InvocationTypeDryRun, 204}} {
		out, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("echo"), InvocationType: c2.kind})
		if err != nil || out.StatusCode != c2.status || len(out.Payload) != 0 {
			t.Errorf("%s: %+v, %v", c2.kind, out, err)
		}
	}
	w.run = func(functions.Task) *functions.Outcome {
		return &functions.Outcome{Failure: &functions.Failure{Class: functions.ExitError, Type: "ValueError", Message: "bad"}}
	}
	out, err = c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("echo:3")})
	if err != nil || aws.ToString(out.FunctionError) != "Unhandled" || string(out.Payload) != `{"errorType":"ValueError","errorMessage":"bad"}` {
		t.Errorf("a function's error: %+v, %v", out, err)
	}
}

// TestSDKSeesTypedErrors: each error is the exception that programs catch.
func TestSDKSeesTypedErrors(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.QueueWait = time.Millisecond })
	w.run = nil
	zero := 0
	w.fns["off"], w.fns["gone"] = w.fns["echo"], w.fns["echo"]
	w.settings["off"] = functions.LambdaSettings{Concurrency: &zero}
	invoke := func(in lambda.InvokeInput) error {
		_, err := client(t, w, "AKID", 1).Invoke(t.Context(), &in)
		return err
	}
	if err := invoke(lambda.InvokeInput{FunctionName: aws.String("none")}); !is[*types.ResourceNotFoundException](err) || !strings.Contains(err.Error(), "arn:aws:lambda:eu-west-1:000000000000:function:none") {
		t.Errorf("no function: %v", err)
	}
	for name, c := range map[string]struct {
		err error
		ok  func(error) bool
	}{
		"not JSON":    {invoke(lambda.InvokeInput{FunctionName: aws.String("echo"), Payload: []byte("{")}), is[*types.InvalidRequestContentException]},
		"event":       {invoke(lambda.InvokeInput{FunctionName: aws.String("echo"), InvocationType: types.InvocationTypeEvent, Payload: []byte(`"` + strings.Repeat("x", maxEvent) + `"`)}), is[*types.RequestTooLargeException]},
		"body":        {invoke(lambda.InvokeInput{FunctionName: aws.String("echo"), Payload: []byte(`"` + strings.Repeat("x", maxBody) + `"`)}), is[*types.RequestTooLargeException]},
		"qualifiers":  {invoke(lambda.InvokeInput{FunctionName: aws.String("echo:1"), Qualifier: aws.String("2")}), is[*types.InvalidParameterValueException]},
		"full":        {invoke(lambda.InvokeInput{FunctionName: aws.String("echo")}), throttledFor(reasonConcurrency)},
		"reserved":    {invoke(lambda.InvokeInput{FunctionName: aws.String("off")}), throttledFor(reasonReserved)},
		"validation":  {invoke(lambda.InvokeInput{FunctionName: aws.String("a.b")}), coded(codeValidation)},
		"wrong type":  {invoke(lambda.InvokeInput{FunctionName: aws.String("echo"), InvocationType: "Maybe"}), coded(codeValidation)},
		"unknown key": {second(client(t, w, "OTHER", 1).Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("echo")})), coded(codeUnknownClient)},
		"old call":    {second(client(t, w, "AKID", 1).ListLayers(t.Context(), &lambda.ListLayersInput{})), coded(codeUnknownOperation)},
		"streaming":   {second(client(t, w, "AKID", 1).InvokeWithResponseStream(t.Context(), &lambda.InvokeWithResponseStreamInput{FunctionName: aws.String("echo")})), is[*types.InvalidParameterValueException]},
	} {
		if !c.ok(c.err) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	w.run = func(functions.Task) *functions.Outcome {
		return &functions.Outcome{Failure: &functions.Failure{Class: functions.ImageMissing, Message: "no image"}}
	}
	if err := invoke(lambda.InvokeInput{FunctionName: aws.String("gone")}); !is[*types.ResourceNotReadyException](err) {
		t.Errorf("no image: %v", err)
	}
	w.down = errors.New("no log")
	if err := invoke(lambda.InvokeInput{FunctionName: aws.String("gone")}); !is[*types.ServiceException](err) {
		t.Errorf("no log: %v", err)
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func second[T any](_ T, err error) error { return err }

func throttledFor(reason string) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[*types.TooManyRequestsException](err)
		return ok && string(e.Reason) == reason && aws.ToString(e.RetryAfterSeconds) == "1"
	}
}

func coded(code string) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[smithy.APIError](err)
		return ok && e.ErrorCode() == code
	}
}

// TestSDKRetriesAttach: an SDK whose connection breaks sends the call again, and
// gets the answer of the invocation that its first try began.
func TestSDKRetriesAttach(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	begun := make(chan functions.TaskID, 1)
	tries := 0
	flaky := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if tries++; tries == 1 { // its connection breaks while the function runs
			ctx, drop := context.WithCancel(r.Context())
			defer drop()
			first := w.api.cfg.Feed
			w.api.cfg.Feed = feed(func(id functions.TaskID) Watch { drop(); begun <- id; return first.Watch(id) })
			w.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
			w.api.cfg.Feed = first
			panic(http.ErrAbortHandler)
		}
		id := <-begun
		w.start(id, functions.CPU)
		w.finish(id, functions.Outcome{Result: json.RawMessage(`"once"`)})
		w.ServeHTTP(rw, r)
	})
	out, err := client(t, flaky, "AKID", 3).Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("echo"), Payload: []byte("{}")})
	if err != nil || string(out.Payload) != `"once"` || tries != 2 {
		t.Fatalf("%+v, %v after %d tries", out, err, tries)
	}
	if task := w.only(t); task.Attempt != 1 {
		t.Errorf("it ran %d times", task.Attempt)
	}
}

type feed func(id functions.TaskID) Watch

func (f feed) Watch(id functions.TaskID) Watch { return f(id) }
