package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// uploaded tells the door that the file of an awaiting task is there. What is
// not complete or not as announced is no error here: the client learns it when
// it completes the upload, and the gateway's sweep comes back to it.
func (in *Ingest) uploaded(ctx context.Context, h Hint) error {
	idText, _, _ := strings.Cut(strings.TrimPrefix(h.Key, intake.InputPrefix), "/")
	id := functions.TaskID(idText)
	if id.Validate() != nil {
		return nil
	}
	task, err := in.Tasks.Task(ctx, id)
	if errors.Is(err, functions.ErrNotFound) {
		return nil // the file of a call that is being accepted, or not known here yet: the sweep finds it
	}
	if err != nil {
		return fmt.Errorf("look for the task of an upload: %w", err)
	}
	_, err = in.Door.Arrived(ctx, task, "store")
	if errors.Is(err, functions.ErrConflict) || errors.Is(err, functions.ErrTooLarge) {
		return nil
	}
	return err
}
