package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spillway/spillway/functions"
)

// Forgotten is the age from which the files of a task that nobody knows may be
// deleted: its call was never accepted, or the log has forgotten it.
const Forgotten = 48 * time.Hour

// Reader reads tasks by id.
type Reader interface {
	Task(ctx context.Context, id functions.TaskID) (functions.Task, error)
}

// Kept refuses inputs of the task own that are files of another task and given
// up, or about to be: ErrNotFound inputs_expired. Files are deleted only a good
// while after they are given up, so that whoever is accepted right after this
// check is seen to need them.
func Kept(ctx context.Context, tasks Reader, own functions.TaskID, inputs []functions.Input, now time.Time) error {
	for _, in := range inputs {
		o, ok := OwnerOf(in.Bucket, in.Key)
		if !ok || o.Task == own {
			continue
		}
		t, err := tasks.Task(ctx, o.Task)
		if errors.Is(err, functions.ErrNotFound) {
			if now.Sub(o.Task.Time()) < Forgotten-time.Hour {
				continue
			}
			return givenUp(in, o)
		}
		if err != nil {
			return fmt.Errorf("look for the task that input %q is from: %w", in.Name, err)
		}
		// What attempts before a retry left is not the task's any more.
		if !t.Purged.Of(o.Kind).IsZero() || o.Attempt > 0 && o.Attempt <= t.Earlier {
			return givenUp(in, o)
		}
	}
	return nil
}

func givenUp(in functions.Input, o Owner) error {
	return functions.NotFound("inputs_expired", "input %q is a file of task %s, which is not kept any more", in.Name, o.Task).
		WithHint("send the file itself, or run that task again").WithField("inputs")
}
