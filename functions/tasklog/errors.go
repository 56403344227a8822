package tasklog

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway/spillway/functions"
)

// ErrGap says that the log is not the continuation of what was read before:
// events are missing, or the log went back. Nothing may be decided on it until
// an operator has repaired it.
var ErrGap = errors.New("the log has a gap")

// Server error numbers that jetstream does not name.
const (
	codeNoResources   jetstream.ErrorCode = 10023
	codeStoreExceeded jetstream.ErrorCode = 10047
	codeStoreFailed   jetstream.ErrorCode = 10077 // also: a limit of the stream is reached
)

// errLogFull is a refused append: nothing was stored.
func errLogFull(cause error) error {
	return functions.Unavailable("log_full", "the task log is full").
		WithHint("wait for history to age out, or give the log more room").WithCause(cause)
}

func errLog(cause error) error {
	return functions.Unavailable("log_unavailable", "the task log does not answer").WithCause(cause)
}

func errClosed() error {
	return functions.Unavailable("log_closed", "this server is shutting down")
}

// publishError says whether a failed publish may succeed when it is repeated
// with the same message id; if not, it returns the error for the caller.
func publishError(err error) (retry bool, final error) {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return false, functions.NewError(functions.ErrTooLarge, "event_too_large", "the message is over the log's limit").WithCause(err)
	case errors.Is(err, nats.ErrConnectionClosed):
		return false, errClosed()
	case errors.As(err, &api):
		switch api.ErrorCode {
		case codeStoreFailed, codeStoreExceeded, codeNoResources:
			return false, errLogFull(err)
		}
		if api.Code == 503 || api.Code == 429 { // a cluster that elects, a server that is overrun
			return true, nil
		}
		return false, errLog(err)
	}
	return true, nil
}

// conflicted reports a compare-and-set that lost. jetstream.ErrKeyExists cannot
// tell: it does not match what a replicated bucket answers.
func conflicted(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// missing reports that a stream or bucket does not exist, or that nobody
// serves it at the moment.
func missing(err error) bool {
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) ||
		errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, nats.ErrNoResponders)
}

// callError translates the failure of a request to somebody called who.
func callError(who string, err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return functions.Unavailable("no_responder", "%s is not connected", who)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return functions.NewError(functions.ErrTimeout, "no_answer", "%s did not answer in time", who).WithCause(err)
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, nats.ErrMaxPayload):
		return functions.NewError(functions.ErrTooLarge, "message_too_large", "the message to %s is too large", who).WithCause(err)
	}
	return functions.Unavailable("bus_unavailable", "the connection to the log server is down").WithCause(err)
}
