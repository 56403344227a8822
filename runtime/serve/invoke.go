package serve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// MostBody is the most bytes that an event or an answer may have: 6 MiB and the
// slack that AWS allows.
const MostBody = 6_291_556

// Request is one invocation.
type Request struct {
	Task        functions.TaskID
	Attempt     int
	Timeout     time.Duration // of the run; counts from handing the event out
	Body        []byte        // the event
	ContentType string        // empty means application/json
	TraceParent string        // W3C trace context; empty = none
	Source      *Source       // the object that caused the event; nil = none
}

// Response is the answer of a function that succeeded.
type Response struct {
	Body        []byte
	ContentType string // as the function declared it; may be empty
}

// Fault is an invocation that did not succeed, as an error.
type Fault struct {
	functions.Failure
	// Delivered says that the function may have seen the event. Without it another
	// container may be given the event.
	Delivered bool
}

func (f *Fault) Error() string { return string(f.Class) + ": " + f.Message }

// FaultOf returns the fault in an error of Invoke. An error of another kind is
// the platform's own, after delivery as far as anybody knows; nil is nil.
func FaultOf(err error) *Fault {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	return &Fault{Failure: functions.Failure{Class: functions.Infra, Message: err.Error()}, Delivered: true}
}

// fault makes a delivered fault.
func fault(class functions.Class, format string, args ...any) *Fault {
	return &Fault{Failure: functions.Failure{Class: class, Message: fmt.Sprintf(format, args...)}, Delivered: true}
}

// errDeadline ends the context of an invocation that ran past its limit.
var errDeadline = errors.New("the invocation ran past its limit")

// stopped says why an invocation was given up whose context has ended.
func stopped(ctx context.Context, limit time.Duration, delivered bool) *Fault {
	f := fault(functions.CanceledByUser, "the invocation was given up")
	if errors.Is(context.Cause(ctx), errDeadline) {
		f = fault(functions.TimedOutRun, "ran past its limit of %s", functions.Duration(limit))
	}
	f.Delivered = delivered
	return f
}

// clip cuts text to at most n bytes of valid UTF-8.
func clip(b []byte, n int) string {
	return strings.ToValidUTF8(string(b[:min(n, len(b))]), "")
}
