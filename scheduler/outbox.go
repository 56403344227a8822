package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spillway/spillway/functions"
	"golang.org/x/sync/errgroup"
)

// outbox is what goes to the log and to nodes. To the log goes one message at a time. While one is on its
// way, decisions collect, so that a busy scheduler writes full messages and an
// idle one writes at once.
type outbox struct {
	verdicts  []functions.Event
	messages  uint64 // sent in this term
	appending bool
	done      chan error
	kills     []killOrder
	orders    *errgroup.Group // orders to nodes and appends on their way
}

// maxVerdictText bounds the text that one message of verdicts carries; log
// messages hold at most 512 KiB.
const maxVerdictText = 256 << 10

// send appends the verdicts that wait, else the assignments of a new round.
func (t *term) send(ctx context.Context) {
	if t.appending {
		return
	}
	events := t.takeVerdicts()
	if len(events) == 0 && t.isOpen() {
		t.refresh()
		events = t.plan()
	}
	if len(events) == 0 {
		return
	}
	t.appending = true
	t.messages++
	id := fmt.Sprintf("sched-%d-%d", t.epoch, t.messages)
	t.orders.Go(func() error {
		t.done <- t.append(ctx, id, events)
		return nil
	})
}

func (t *term) takeVerdicts() []functions.Event {
	n, text := 0, 0
	for n < min(len(t.verdicts), maxBatch) {
		v := t.verdicts[n].Rel
		text += 512 + len(v.Why)
		if v.Failure != nil {
			text += len(v.Failure.Message) + len(v.Failure.Hint)
		}
		if n > 0 && text > maxVerdictText {
			break
		}
		n++
	}
	events := t.verdicts[:n:n]
	t.verdicts = t.verdicts[n:]
	return events
}

// append repeats one message until it is durable. The id makes that safe: what
// was written and not answered is not written twice.
func (t *term) append(ctx context.Context, id string, events []functions.Event) error {
	pause := t.cfg.AppendRetry
	for {
		_, err := t.cfg.Log.Append(ctx, id, events...)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		for _, hopeless := range []error{
			functions.ErrInvalid, functions.ErrTooLarge, functions.ErrForbidden, functions.ErrConflict, functions.ErrStale,
		} {
			if errors.Is(err, hopeless) {
				return err
			}
		}
		t.log.Warn("append is repeated", "message", id, "pause", pause, "err", err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		pause = min(2*pause, time.Second)
	}
}
