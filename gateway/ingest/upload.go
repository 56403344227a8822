package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spillway/spillway/functions"
)

// awaitedPrefix begins the keys of files that clients upload for a task.
const awaitedPrefix = "in/"

// uploaded reports the files of an awaiting task, once all are there. Any number
// of reports start the task once: the log takes the first, and for every other
// the task awaits nothing any more.
func (in *Ingest) uploaded(ctx context.Context, h Hint) error {
	idText, _, _ := strings.Cut(strings.TrimPrefix(h.Key, awaitedPrefix), "/")
	id := functions.TaskID(idText)
	if id.Validate() != nil {
		return nil
	}
	task, err := in.Tasks.Task(ctx, id)
	if errors.Is(err, functions.ErrNotFound) {
		return nil // the file of a call that is being accepted, or not known here yet: listing finds it
	}
	if err != nil {
		return fmt.Errorf("look for the task of an upload: %w", err)
	}
	if task.State != functions.AwaitingUpload {
		return nil
	}
	wanted := task.Inputs
	if len(wanted) == 0 {
		wanted = []functions.Input{{Name: fileName(h.Key), ObjectRef: functions.ObjectRef{Bucket: h.Bucket, Key: h.Key}}}
	}
	inputs := make([]functions.Input, len(wanted))
	for i, w := range wanted {
		ref, err := in.Objects.Stat(ctx, w.Bucket, w.Key, "")
		if errors.Is(err, functions.ErrNotFound) {
			return nil // its own hint will come
		}
		if err != nil {
			return fmt.Errorf("look at upload: %w", err)
		}
		if w.Size > 0 && ref.Size != w.Size {
			return nil // not what was announced; the client learns it when it completes the upload
		}
		if ref.SHA256 == "" {
			ref.SHA256 = w.SHA256 // the node compares it when it stages
		}
		inputs[i] = functions.Input{Name: w.Name, ObjectRef: ref}
	}
	ct, err := in.sniff(ctx, inputs[0].ObjectRef)
	if gone(err) {
		return nil // deleted or replaced just now: it has a hint of its own, if it is there again
	}
	if err != nil {
		return fmt.Errorf("tell the type of upload: %w", err)
	}
	inputs[0].ContentType = ct.ContentType
	route := ct.Route(task.Route.Policy)
	_, err = in.Log.Append(ctx, "uploaded-"+string(id), functions.Event{
		Kind: functions.Control, Task: id, At: in.Now(),
		Ctl: &functions.Request{Verb: functions.Uploaded, By: "store", Inputs: inputs, Route: &route},
	})
	if err != nil {
		return fmt.Errorf("report upload: %w", err)
	}
	return nil
}
