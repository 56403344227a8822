package containerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// translateError gives an error of containerd its class, by type. doing is a
// verb phrase that says what was tried.
func translateError(doing string, err error) error {
	if err == nil {
		return nil
	}
	var ours *functions.Error
	native := native(err)
	switch {
	case errors.As(err, &ours):
		return err
	case errors.Is(native, context.Canceled), errors.Is(native, context.DeadlineExceeded), errdefs.IsCanceled(native), errdefs.IsDeadlineExceeded(native):
		return fmt.Errorf("%s: %w", doing, native)
	case errdefs.IsUnavailable(native):
		return unreachable(err)
	case errdefs.IsNotFound(native):
		return functions.NotFound("container_missing", "%s", doing).WithCause(native)
	case errdefs.IsConflict(native), errdefs.IsAlreadyExists(native), errdefs.IsFailedPrecondition(native):
		return functions.Conflict("engine_conflict", "%s", doing).WithCause(native)
	case errdefs.IsInvalidArgument(native):
		return functions.Invalid("engine_refused", "%s", doing).WithCause(native)
	}
	return fmt.Errorf("%s: %w", doing, native)
}

// native strips what the transport puts around containerd's error and words.
func native(err error) error {
	if _, ok := status.FromError(err); ok {
		return errgrpc.ToNative(err)
	}
	return err
}

// unreachable is what containerd's silence means.
func unreachable(err error) *functions.Error {
	return functions.Unavailable("engine_unreachable", "the container engine does not answer").
		WithHint("check that containerd runs on the node: ctr version").WithCause(err)
}

// launchError is the error of a Create or Start. The message is the engine's
// own words, because only they tell a GPU's fault from the user's. devices says
// that the step was one in which they are looked at.
func launchError(ctx context.Context, stage string, err error, devices bool) error {
	class := translateError(stage+" container", err)
	message := native(err).Error()
	if errors.Is(class, functions.ErrUnavailable) {
		message = class.Error()
	}
	hung := errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(class, context.DeadlineExceeded)
	if ctx.Err() != nil {
		message = ctx.Err().Error() // and not how the engine's parts took it
		class = fmt.Errorf("%s container: %w", stage, context.Cause(ctx))
	}
	return &runtime.LaunchError{Stage: stage, Message: message, Hung: devices && hung, Err: class}
}
