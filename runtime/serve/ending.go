package serve

import (
	"context"
	"errors"

	"github.com/spillway/spillway/functions"
)

// ending is the end of a container, once and for all who wait for it. The first
// reason that is set counts.
type ending struct {
	ctx context.Context // ends with the container; its cause is a *Fault
	end context.CancelCauseFunc
}

func newEnding() ending {
	ctx, end := context.WithCancelCause(context.Background())
	return ending{ctx, end}
}

func (e ending) set(why functions.Failure) { e.end(&Fault{Failure: why}) }

func (e ending) over() bool { return e.ctx.Err() != nil }

// fault is what the end means for an invocation. Call it when over.
func (e ending) fault(delivered bool) *Fault {
	f := *FaultOf(context.Cause(e.ctx))
	f.Delivered = delivered
	return &f
}

// errEnded ends the context of invocations whose container has ended.
var errEnded = errors.New("the container has ended")

// watch returns a context that the end ends too, and the function that lets go.
func (e ending) watch(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(e.ctx, func() { cancel(errEnded) })
	return ctx, func() { unhook(); cancel(nil) }
}
