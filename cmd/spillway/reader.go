package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/taskdb"
	"github.com/spillway/spillway/functions/tasklog"
)

// reader is the projection for clients. A task is accepted when the log has it,
// and the projection follows a moment later: whoever asks for a task so young
// waits for that moment instead of being told that there is none.
type reader struct {
	*taskdb.DB
	log *tasklog.Log
}

const (
	// youngTask is the age up to which a task may not be projected yet. Ids tell
	// their age; an older one that is not there is not there.
	youngTask = time.Minute
	// projectionPatience bounds the wait; the projection lags by milliseconds.
	projectionPatience = 2 * time.Second
)

// Task returns a task by its id.
func (r reader) Task(ctx context.Context, id functions.TaskID) (functions.Task, error) {
	t, err := r.DB.Task(ctx, id)
	if !errors.Is(err, functions.ErrNotFound) || !young(id, time.Now()) {
		return t, err
	}
	if err := r.catchUp(ctx); err != nil {
		return t, err
	}
	return r.DB.Task(ctx, id)
}

// Find returns the one task whose id begins with prefix.
func (r reader) Find(ctx context.Context, prefix string) (functions.Task, error) {
	if id := functions.TaskID(prefix); id.Validate() == nil {
		return r.Task(ctx, id)
	}
	return r.DB.Find(ctx, prefix)
}

// catchUp waits until the projection shows all that the log holds now.
func (r reader) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, projectionPatience, functions.ErrTimeout)
	defer cancel()
	last, err := r.log.LastSeq(ctx)
	if err != nil {
		return fmt.Errorf("read the log's end: %w", err)
	}
	return r.DB.WaitApplied(ctx, last)
}

// young reports whether id was made within youngTask of now.
func young(id functions.TaskID, now time.Time) bool {
	at := id.Time()
	return !at.IsZero() && now.Sub(at).Abs() < youngTask
}
