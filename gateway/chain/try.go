package chain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

const (
	tryTime    = time.Minute     // of one round through the destinations
	firstPause = time.Second     // after a round in which one failed; doubles
	mostPause  = 5 * time.Minute //
	patience   = 72 * time.Hour  // since the end was found
	mostKept   = 5               // rounds that a delivery remembers
)

// What came of a record.
const (
	delivered = "delivered"
	failed    = "failed"
	gaveUp    = "gave_up"
)

// try hands the record to the destinations that do not have it, and returns the
// delivery after it.
func (c *Chain) try(ctx context.Context, d functions.Delivery) functions.Delivery {
	ctx, cancel := context.WithTimeoutCause(ctx, tryTime, functions.ErrTimeout)
	defer cancel()
	began := c.cfg.Now()
	var event json.RawMessage
	t, err := c.cfg.Tasks.Task(ctx, d.Task)
	switch {
	case errors.Is(err, functions.ErrNotFound):
		d.Next, d.GaveUp = time.Time{}, "the task is not known any more"
		return d
	case err == nil && (!t.State.Final() || !t.FinishedAt.Equal(d.EndedAt)):
		d.Next, d.GaveUp = time.Time{}, "the task was begun again meanwhile; its next end counts"
		return d
	case err == nil:
		event, err = c.recordOf(ctx, &t)
	}
	var left []functions.Destination
	for _, to := range d.Left {
		var refused bool
		why := err
		if why == nil {
			why = c.hand(ctx, &t, d, to, event)
			refused = hopeless(why)
		}
		switch {
		case why == nil:
			c.hands.WithLabelValues(delivered).Inc()
			continue
		case refused:
			d.GaveUp = fmt.Sprintf("%s: %v", to, why)
			c.hands.WithLabelValues(gaveUp).Inc()
		default:
			left = append(left, to)
			c.hands.WithLabelValues(failed).Inc()
		}
		if ctx.Err() == nil {
			c.cfg.Logger.Warn("a destination does not take the record of a task's end", "task", d.Task, "to", to, "again", !refused, "err", why)
		}
		d.Tries = remember(d.Tries, functions.DeliveryTry{At: began.UTC(), MS: ms(c.cfg.Now().Sub(began)), Error: fmt.Sprintf("%s: %v", to, why)})
	}
	d.Left = left
	return after(d, c.cfg.Now().UTC())
}

// after decides what follows a round.
func after(d functions.Delivery, now time.Time) functions.Delivery {
	d.Count++
	d.Next = time.Time{}
	switch {
	case len(d.Left) == 0 && d.GaveUp == "":
		d.Delivered = now
	case len(d.Left) == 0:
	case now.Sub(d.CreatedAt) > patience:
		d.GaveUp = fmt.Sprintf("%s took nothing in %s", d.Left[0], patience)
	default:
		pause := firstPause << min(d.Count-1, 20)
		d.Next = now.Add(min(pause, mostPause))
	}
	return d
}

func remember(tries []functions.DeliveryTry, one functions.DeliveryTry) []functions.DeliveryTry {
	tries = append(slices.Clone(tries), one)
	return tries[max(0, len(tries)-mostKept):]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// hopeless reports whether the same would fail again. A function may be deployed,
// and a bucket made, a little later.
func hopeless(err error) bool {
	for _, class := range []error{functions.ErrInvalid, functions.ErrTooLarge} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// hand gives the record to one destination, unless it has it.
func (c *Chain) hand(ctx context.Context, t *functions.Task, d functions.Delivery, to functions.Destination, event json.RawMessage) error {
	if to.Function == "" {
		return c.store(ctx, to.Bucket, to.Key(t.ID), event)
	}
	if t.Depth >= c.cfg.MaxDepth {
		return functions.Invalid("chain_too_long", "%d tasks stand in line before it, each started by the one before", t.Depth+1)
	}
	_, err := c.cfg.Door.Accept(ctx, intake.Call{
		Function: to.Function, Event: event, Content: content.JSON(),
		Parent: t.ID, Depth: t.Depth + 1,
		Source: "chain", Key: "chain|" + d.ID, BodyHash: d.ID, // the same end is the same request
	})
	return err
}

// store writes the record, unless that very record is there: written twice, it
// would be two versions in a bucket that keeps them.
func (c *Chain) store(ctx context.Context, bucket, key string, event json.RawMessage) error {
	size := int64(len(event))
	ref, head, err := c.cfg.Objects.Head(ctx, bucket, key, "", size, size)
	switch {
	case err == nil && ref.Size == size && bytes.Equal(head, event):
		return nil
	case err != nil && !errors.Is(err, functions.ErrNotFound) && !errors.Is(err, functions.ErrConflict):
		return err
	}
	_, err = c.cfg.Objects.Put(ctx, bucket, key, bytes.NewReader(event), size, "application/json")
	return err
}
