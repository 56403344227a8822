package docker

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// translateError gives an error of the client its class, by type. doing is a
// verb phrase that says what was tried.
func translateError(doing string, err error) error {
	var network *net.OpError // what an attach fails with; it does not use the client's transport
	switch {
	case err == nil:
		return nil
	case client.IsErrConnectionFailed(err), errors.As(err, &network):
		return functions.Unavailable("engine_unreachable", "the container engine does not answer").
			WithHint("check that Docker runs on the node: docker info").WithCause(err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, err)
	case errdefs.IsNotFound(err):
		return functions.NotFound("container_missing", "%s", doing).WithCause(err)
	case errdefs.IsConflict(err):
		return functions.Conflict("engine_conflict", "%s", doing).WithCause(err)
	case errdefs.IsInvalidArgument(err):
		return functions.Invalid("engine_refused", "%s", doing).WithCause(err)
	case errdefs.IsUnavailable(err):
		return functions.Unavailable("engine_unavailable", "%s", doing).WithCause(err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// launchError is the error of a Create or Start. The message is the engine's
// own words, because only they tell a GPU's fault from the user's.
func launchError(ctx context.Context, stage string, err, class error) error {
	return &runtime.LaunchError{
		Stage:   stage,
		Message: words(err),
		// A create that gets no answer is the engine's trouble alone: devices are
		// looked at in the start.
		Hung: stage == runtime.StageStart && (errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)),
		Err:  class,
	}
}

// words strips what the client puts before the engine's own words.
func words(err error) string {
	const prefix = "Error response from daemon: "
	text := err.Error()
	if len(text) > len(prefix) && text[:len(prefix)] == prefix {
		return text[len(prefix):]
	}
	return text
}
