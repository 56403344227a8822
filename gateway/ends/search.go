package ends

import (
	"context"
	"errors"
	"fmt"

	"github.com/spillway/spillway/functions"
)

// errFound ends the reading of the log.
var errFound = errors.New("all is read")

// search reads the log from the mark to its present end, and keeps a delivery for
// each task that ended there. It returns that end: what comes after, Changed hears.
func (t *Teller) search(ctx context.Context) (last uint64, err error) {
	if last, err = t.cfg.Log.LastSeq(ctx); err != nil {
		return 0, err
	}
	from, known, err := t.cfg.Outbox.Searched(ctx)
	if err != nil {
		return 0, err
	}
	if err := t.cfg.Tasks.WaitApplied(ctx, last); err != nil {
		return 0, err
	}
	if known && from < last {
		err := t.cfg.Log.Tail(ctx, from, func(ctx context.Context, records []functions.Record) error {
			for _, r := range records {
				if err := t.ended(ctx, r); err != nil {
					return err
				}
			}
			if n := len(records); n > 0 && records[n-1].Seq >= last {
				return errFound
			}
			return nil
		})
		switch {
		case errors.Is(err, t.cfg.Gap):
			t.cfg.Logger.Warn(t.cfg.What+": the log does not reach back to the last leader's mark: tasks that ended between are not told of", "mark", from)
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case !errors.Is(err, errFound):
			return 0, fmt.Errorf("read the log for ended tasks: %w", err)
		}
	}
	return last, t.cfg.Outbox.SetSearched(ctx, last)
}

// ended keeps a delivery if the record may have ended its task and the task has.
func (t *Teller) ended(ctx context.Context, r functions.Record) error {
	switch r.Event.Kind {
	case functions.Finish, functions.Release, functions.Control:
	default:
		return nil
	}
	task, err := t.cfg.Tasks.Task(ctx, r.Event.Task)
	if errors.Is(err, functions.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !task.State.Final() {
		return nil
	}
	d, ok := t.deliveryOf(&task)
	if !ok {
		return nil
	}
	return t.cfg.Outbox.Add(ctx, d)
}
