package intake

import (
	"context"
	"crypto/subtle"
	"fmt"

	"github.com/spillway/spillway/functions"
)

// replay finds the task that an earlier call with the same key made.
func (d *Door) replay(ctx context.Context, c Call) (t Ticket, found bool, err error) {
	id, found, err := d.cfg.Tasks.ByKey(ctx, c.Function, c.Key)
	if err != nil {
		return Ticket{}, false, fmt.Errorf("look up idempotency key: %w", err)
	}
	if !found {
		return Ticket{}, false, nil
	}
	t, err = d.earlier(ctx, c, id)
	return t, true, err
}

// winner returns the task that holds the key after own was submitted as message
// seq. Of two calls that raced, the log's order decides, alike on every server.
func (d *Door) winner(ctx context.Context, c Call, own functions.Task, seq uint64) (Ticket, error) {
	if err := d.cfg.Tasks.WaitApplied(ctx, seq); err != nil {
		return Ticket{}, fmt.Errorf("wait for own task: %w", err)
	}
	id, found, err := d.cfg.Tasks.ByKey(ctx, c.Function, c.Key)
	if err != nil {
		return Ticket{}, fmt.Errorf("look up idempotency key: %w", err)
	}
	if found && id != own.ID { // not found: the winner has been forgotten since, and its key with it
		return d.earlier(ctx, c, id)
	}
	return Ticket{Task: own}, nil
}

func (d *Door) earlier(ctx context.Context, c Call, id functions.TaskID) (Ticket, error) {
	t, err := d.cfg.Tasks.Task(ctx, id)
	if err != nil {
		return Ticket{}, fmt.Errorf("read the key's task: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(t.BodyHash), []byte(c.BodyHash)) != 1 {
		return Ticket{}, functions.Conflict("idempotency_mismatch", "this Idempotency-Key was used for another request, which made task %s", id).
			WithHint("use a new key for a new request").WithField("Idempotency-Key")
	}
	return Ticket{Task: t, Replayed: true}, nil
}
