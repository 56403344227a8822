package endstest

import (
	"context"

	"github.com/spillway/spillway/functions"
)

// Outbox is the world's.
type Outbox struct{ *World }

// down is called with the mutex held.
func (o Outbox) down() error {
	if o.outage {
		return functions.Unavailable("log_unavailable", "down")
	}
	return nil
}

// Searched implements ends.Outbox.
func (o Outbox) Searched(context.Context) (uint64, bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.searched == nil {
		return 0, false, o.down()
	}
	return *o.searched, true, o.down()
}

// SetSearched implements ends.Outbox.
func (o Outbox) SetSearched(_ context.Context, seq uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.down(); err != nil {
		return err
	}
	o.searched = &seq
	return nil
}

// Add implements ends.Outbox.
func (o Outbox) Add(_ context.Context, d functions.Delivery) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.down(); err != nil {
		return err
	}
	if _, there := o.kept[d.ID]; !there {
		o.kept[d.ID] = d
	}
	return nil
}

// Put implements ends.Outbox.
func (o Outbox) Put(_ context.Context, d functions.Delivery) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.down(); err != nil {
		return err
	}
	o.kept[d.ID] = d
	return nil
}

// Pending implements ends.Outbox.
func (o Outbox) Pending(context.Context) (pending []functions.Delivery, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range o.kept {
		if !d.Next.IsZero() {
			pending = append(pending, d)
		}
	}
	return pending, o.down()
}
