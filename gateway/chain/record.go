package chain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spillway/spillway/functions"
)

// record is what a destination gets, in the shape of AWS Lambda's records of
// asynchronous invocations. It depends on the end alone: made again, it is the same.
type record struct {
	Version         string          `json:"version"`
	Timestamp       string          `json:"timestamp"` // of the end
	RequestContext  request         `json:"requestContext"`
	RequestPayload  json.RawMessage `json:"requestPayload"`
	ResponseContext *response       `json:"responseContext,omitempty"` // absent when nothing has run
	ResponsePayload json.RawMessage `json:"responsePayload,omitempty"`
}

type request struct {
	RequestID   functions.TaskID `json:"requestId"`
	FunctionARN string           `json:"functionArn"`
	Condition   string           `json:"condition"` // see conditionOf
	InvokeCount int              `json:"approximateInvokeCount"`
}

type response struct {
	StatusCode      int    `json:"statusCode"`
	ExecutedVersion string `json:"executedVersion"`
	FunctionError   string `json:"functionError,omitempty"`
}

// failure is the payload of a function that did not succeed.
type failure struct {
	Message string `json:"errorMessage"`
	Type    string `json:"errorType"`
}

// mostPayload is the largest event or result that a record holds. In the place of a
// larger one it says which object it is.
const mostPayload = 6 * functions.MiB

// recordOf writes the record of a task that has ended.
func (c *Chain) recordOf(ctx context.Context, t *functions.Task) (json.RawMessage, error) {
	version := strconv.Itoa(t.Version)
	r := record{
		Version: "1.0", Timestamp: t.FinishedAt.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		RequestContext: request{
			RequestID: t.ID, FunctionARN: "arn:aws:lambda:us-east-1:000000000000:function:" + string(t.Function) + ":" + version,
			Condition: conditionOf(t), InvokeCount: t.Attempt,
		},
		RequestPayload: t.Event,
	}
	var err error
	if t.EventRef != nil {
		if r.RequestPayload, err = c.payload(ctx, *t.EventRef); err != nil {
			return nil, fmt.Errorf("read the event of task %s: %w", t.ID, err)
		}
	}
	if t.Attempt > 0 {
		r.ResponseContext = &response{StatusCode: 200, ExecutedVersion: version}
		if t.State != functions.Succeeded {
			r.ResponseContext.FunctionError = "Unhandled"
		}
	}
	if r.ResponsePayload, err = c.result(ctx, t); err != nil {
		return nil, fmt.Errorf("read the result of task %s: %w", t.ID, err)
	}
	return json.Marshal(r)
}

// conditionOf says in AWS's words why the record is sent.
func conditionOf(t *functions.Task) string {
	switch t.State {
	case functions.Succeeded:
		return "Success"
	case functions.Expired:
		return "EventAgeExceeded"
	}
	return "RetriesExhausted"
}

// result is what the function gave back, or why it gave nothing.
func (c *Chain) result(ctx context.Context, t *functions.Task) (json.RawMessage, error) {
	if t.State != functions.Succeeded {
		f := failure{Message: "the task ended as " + string(t.State), Type: string(t.State)}
		if t.Failure != nil {
			f = failure{Message: t.Failure.Message, Type: string(t.Failure.Class)}
			if t.Failure.Type != "" {
				f.Type = t.Failure.Type
			}
		}
		return json.Marshal(f)
	}
	switch out := t.Outcome; {
	case out == nil:
		return nil, nil
	case out.ResultRef != nil:
		return c.payload(ctx, *out.ResultRef)
	case out.ResultText != nil:
		return json.Marshal(*out.ResultText)
	default:
		return out.Result, nil
	}
}

// payload reads a large event or result. What is not kept any more is null, and
// what is not JSON becomes a string.
func (c *Chain) payload(ctx context.Context, ref functions.ObjectRef) (json.RawMessage, error) {
	if ref.Size > int64(mostPayload) {
		return json.Marshal(ref)
	}
	body, err := c.cfg.Objects.Get(ctx, ref)
	if errors.Is(err, functions.ErrNotFound) {
		return json.RawMessage("null"), nil
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	if !json.Valid(b) {
		return json.Marshal(string(b))
	}
	return b, nil
}
