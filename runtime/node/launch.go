package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// undoTime bounds one attempt to undo something.
const undoTime = 30 * time.Second

// pullTries is how often an image is asked for in one attempt.
const pullTries = 3

func (n *Node) pull(ctx context.Context, a *attempt) *functions.Failure {
	ctx, cancel := context.WithTimeoutCause(ctx, n.time.Pull, functions.ErrTimeout)
	defer cancel()
	tell := n.tellPull(a)
	err := n.images.pull(ctx, a.spec.Image, tell)
	// A registry that cannot be reached may be back in a moment. When it is not,
	// the task ends and names the image, instead of waiting for ever; a retry
	// finds the registry again.
	for again := range pullTries - 1 {
		if !errors.Is(err, functions.ErrUnavailable) || !functions.Sleep(ctx, n.time.Heartbeat<<again) {
			break
		}
		err = n.images.pull(ctx, a.spec.Image, tell)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, functions.ErrNotFound), errors.Is(err, functions.ErrForbidden), errors.Is(err, functions.ErrInvalid):
		return &functions.Failure{Class: functions.ImageMissing, Message: err.Error()}
	case errors.Is(context.Cause(ctx), functions.ErrTimeout):
		return &functions.Failure{Class: functions.ImageMissing, Message: fmt.Sprintf("image %s was not pulled within %s", a.spec.Image, n.time.Pull)}
	}
	if _, down := n.cfg.Driver.Probe(ctx); down == nil && errors.Is(err, functions.ErrUnavailable) {
		return &functions.Failure{Class: functions.ImageMissing, Message: err.Error()}
	}
	return &functions.Failure{Class: functions.Infra, Message: "pull image: " + err.Error()}
}

// launch creates and starts the container. A launch that fails leaves none, and
// one that hangs leaves it to the remover: the engine may still start it.
func (n *Node) launch(ctx context.Context, a *attempt, event []byte) (id runtime.ID, fail *functions.Failure) {
	began := n.cfg.Now()
	spec, err := containerSpec(a.Assignment, a.devices, n.cfg.ID, a.folder, a.binds, containerUser(), began.Add(a.spec.Timeout.Std()))
	if err != nil {
		return "", &functions.Failure{Class: functions.Permanent, Message: err.Error()}
	}
	spec.KnownGPUs = knownGPUs(n.look.reading(), a.devices)
	limited, cancel := context.WithTimeoutCause(ctx, n.time.Launch, functions.ErrTimeout)
	defer cancel()
	id, err = n.cfg.Driver.Create(limited, spec)
	if errors.Is(err, functions.ErrConflict) { // left by an agent that died between create and start
		n.removeStrays(ctx, a)
		id, err = n.cfg.Driver.Create(limited, spec)
	}
	if err != nil {
		n.removeStrays(ctx, a)
		return "", n.launchFailure(a, err)
	}
	defer func() {
		if fail != nil {
			n.removeLater(ctx, a, id)
		}
	}()
	// Before the start: an agent that dies in between must not give the container
	// a second deadline.
	a.state.StartedAt = began
	if err := a.folder.note(entry{State: &a.state}); err != nil {
		return id, diskFailure("write down the start", err)
	}
	stdout, stderr := a.output.streams()
	if err := n.cfg.Driver.Start(limited, id, runtime.Streams{Stdin: event, Stdout: stdout, Stderr: stderr}); err != nil {
		return id, n.launchFailure(a, err)
	}
	if n.cfg.GPUs != nil {
		n.cfg.GPUs.Launched(a.Leased)
	}
	return id, nil
}

func (n *Node) launchFailure(a *attempt, err error) *functions.Failure {
	return n.refused(err, a.onGPU())
}

// refused says what it means that the engine did not launch a container, with a
// GPU or without.
func (n *Node) refused(err error, gpu bool) *functions.Failure {
	message, hung := err.Error(), false
	if le, ok := errors.AsType[*runtime.LaunchError](err); ok {
		message, hung = le.Message, le.Hung
	}
	class := runtime.ClassifyLaunch(message, hung, gpu)
	if hung {
		message = fmt.Sprintf("the engine did not answer the launch within %s", n.time.Launch)
	}
	return &functions.Failure{Class: class, Message: message}
}

// removeStrays removes containers of the attempt that have no known ID.
func (n *Node) removeStrays(ctx context.Context, a *attempt) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	found, err := n.containers(ctx, a)
	for _, c := range found {
		err = errors.Join(err, n.cfg.Driver.Remove(ctx, c.ID))
	}
	if err != nil {
		n.cfg.Log.Warn("stray container not removed", "task", a.key.task, "attempt", a.key.attempt, "err", err)
	}
}
