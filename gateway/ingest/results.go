package ingest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
)

// Changed hears what the log did to tasks. It does not wait: Run offers the
// outputs of those that succeeded, and listing finds what is too much for it.
func (in *Ingest) Changed(changes []functions.Change) {
	for _, c := range changes {
		if c.Before == functions.Succeeded || c.Task.State != functions.Succeeded || c.Task.Outcome == nil || len(c.Task.Outcome.Outputs) == 0 {
			continue
		}
		select {
		case in.ended <- c.Task.ID:
		default:
		}
	}
}

// followOutputs offers the outputs of tasks that Changed has reported.
func (in *Ingest) followOutputs(ctx context.Context) {
	for {
		select {
		case id := <-in.ended:
			if err := in.offerOutputs(ctx, id); err != nil && ctx.Err() == nil && !permanent(err) {
				in.Logger.Warn("outputs not offered", "task", id, "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// offerOutputs starts what the outputs of a succeeded task start.
func (in *Ingest) offerOutputs(ctx context.Context, id functions.TaskID) error {
	all := in.Functions.List()
	t, err := in.Tasks.Task(ctx, id)
	if err != nil {
		return fmt.Errorf("read the task of outputs: %w", err)
	}
	if t.State != functions.Succeeded || t.Outcome == nil {
		return nil
	}
	var failed error
	for _, o := range t.Outcome.Outputs {
		f := find{Hint: Hint{Bucket: o.Bucket, Key: o.Key, VersionID: o.VersionID, Source: Outputs}, output: o.Name, task: t}
		found := in.chain(f, match(all, f))
		if o.Bucket != in.Results || len(found) == 0 {
			continue
		}
		in.figures.hint(Outputs)
		_, err := in.take(ctx, f, found)
		failed = errors.Join(failed, err)
	}
	return failed
}

// output finds out what a listed object of the results bucket is: an accepted
// output, or nothing that may start anything; then find.output is empty. An
// error means that this cannot be told now, as while its attempt is running.
func (in *Ingest) output(ctx context.Context, h Hint) (find, error) {
	idText, rest, _ := strings.Cut(h.Key, "/")
	attempt, _, _ := strings.Cut(rest, "/")
	id := functions.TaskID(idText)
	if id.Validate() != nil {
		return find{}, nil
	}
	t, err := in.Tasks.Task(ctx, id)
	if errors.Is(err, functions.ErrNotFound) {
		return find{}, nil
	}
	if err != nil {
		return find{}, fmt.Errorf("look for the task of an output: %w", err)
	}
	if running := t.State == functions.Assigned || t.State == functions.Canceling; running && attempt == strconv.Itoa(t.Attempt) {
		return find{}, functions.Unavailable("attempt_running", "attempt %s of task %s has not ended", attempt, id)
	}
	if t.State == functions.Succeeded && t.Outcome != nil {
		for _, o := range t.Outcome.Outputs {
			if o.Bucket == h.Bucket && o.Key == h.Key && (o.VersionID == "" || o.VersionID == h.VersionID) {
				return find{Hint: h, output: o.Name, task: t}, nil
			}
		}
	}
	return find{}, nil
}

// chain drops the candidates that an output must not start: the function that
// made it, and all when too many tasks stand in line before it.
func (in *Ingest) chain(f find, found []candidate) (left []candidate) {
	if f.output == "" {
		return found
	}
	for _, c := range found {
		id := f.Bucket + "/" + f.Key
		switch {
		case c.Name == f.task.Function:
		case f.task.Depth < in.MaxDepth:
			left = append(left, c)
		case !in.wasRefused(id, c.Function):
			in.refuse(id, c.Function)
			in.figures.refuse(functions.IngestRefusal{Function: c.Name, Task: f.task.ID, Output: f.output, Depth: f.task.Depth + 1, At: in.Now().UTC()})
			in.Logger.Warn("output starts nothing: too many tasks in line before it", "function", c.Name, "task", f.task.ID, "output", f.output, "depth", f.task.Depth+1)
		}
	}
	return left
}
