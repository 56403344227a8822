package intake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
)

// Arrived starts a task whose awaited files are in the store: it looks at the
// objects and the first bytes, decides the route anew, and logs that they are
// there. by names who noticed, for people. The client that completes its upload,
// the store's event and the sweep may all call it, on any number of servers: the
// log takes the first, and the others get the task as it has become. A task that
// awaits nothing is returned as it is.
//
// ErrConflict: not_uploaded (a file is not there, or not any more) and
// size_mismatch (it is not of the size that was announced). ErrTooLarge
// file_too_large: its size was not announced, and is over MaxPut.
func (d *Door) Arrived(ctx context.Context, t functions.Task, by string) (functions.Task, error) {
	if t.State != functions.AwaitingUpload || len(t.Inputs) == 0 {
		return t, nil
	}
	inputs := slices.Clone(t.Inputs)
	var head []byte // of the first
	for i, want := range inputs {
		most := int64(0)
		if i == 0 {
			most = content.HeadSize
		}
		ref, first, err := d.arrival(ctx, t.ID, want, most)
		if err != nil {
			return t, err
		}
		if i == 0 {
			head = first
		}
		inputs[i].ObjectRef = ref
	}
	what := content.Detect(head, inputs[0].Name, cmp.Or(t.Inputs[0].ContentType, inputs[0].ContentType))
	inputs[0].ContentType = what.ContentType
	route := what.Route(t.Route.Policy)
	seq, err := d.cfg.Log.Append(ctx, "uploaded-"+string(t.ID), functions.Event{
		Kind: functions.Control, Task: t.ID, At: d.cfg.Now().UTC(),
		Ctl: &functions.Request{Verb: functions.Uploaded, By: by, Inputs: inputs, Route: &route},
	})
	if err != nil {
		return t, fmt.Errorf("log the upload: %w", err)
	}
	if err := d.cfg.Tasks.WaitApplied(ctx, seq); err != nil {
		return t, fmt.Errorf("wait for the upload's event: %w", err)
	}
	now, err := d.cfg.Tasks.Task(ctx, t.ID)
	if err != nil {
		return t, fmt.Errorf("read the upload's task: %w", err)
	}
	return now, nil
}

// arrival returns the object that the store has for an announced file, and at
// most so many of its first bytes.
func (d *Door) arrival(ctx context.Context, id functions.TaskID, want functions.Input, most int64) (functions.ObjectRef, []byte, error) {
	ref, head, err := d.cfg.Objects.Head(ctx, want.Bucket, want.Key, "", want.Size, most)
	switch {
	case errors.Is(err, functions.ErrNotFound):
		return ref, nil, functions.Conflict("not_uploaded", "the file of upload %s is not in the store yet", id).
			WithHint("send it with the signed request of GET /v1/uploads/%s, then complete again", id).WithCause(err)
	case errors.Is(err, functions.ErrConflict):
		return ref, nil, functions.Conflict("not_uploaded", "the file of upload %s was replaced just now", id).
			WithHint("complete again when it is there").WithCause(err)
	case err != nil:
		return ref, nil, fmt.Errorf("look for the upload: %w", err)
	case want.Size == functions.UnknownSize && ref.Size > int64(MaxPut):
		return ref, nil, functions.NewError(functions.ErrTooLarge, "file_too_large", "the file holds %d bytes, over %s", ref.Size, MaxPut).
			WithHint("start a new upload in parts")
	case want.Size != functions.UnknownSize && ref.Size != want.Size:
		return ref, nil, functions.Conflict("size_mismatch", "the file holds %d bytes, but %d were announced", ref.Size, want.Size).
			WithHint("start a new upload with the right size")
	}
	if want.SHA256 != "" {
		ref.SHA256 = want.SHA256 // the node compares it when it stages
	}
	return ref, head, nil
}
