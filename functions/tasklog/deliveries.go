package tasklog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway/spillway/functions"
)

// Deliveries are the tellings of ends that are to be made or were made lately, and
// how far the log has been searched for tasks that ended. The leader writes them.
type Deliveries struct {
	kv jetstream.KeyValue
}

// searched is the key of the mark.
const searched = "searched"

// Deliveries are those to webhooks. It makes their bucket if it is missing.
func (l *Log) Deliveries(ctx context.Context) (*Deliveries, error) {
	return l.deliveries(ctx, deliveryBucket)
}

// Chains are those to destinations. It makes their bucket if it is missing.
func (l *Log) Chains(ctx context.Context) (*Deliveries, error) {
	return l.deliveries(ctx, chainBucket)
}

func (l *Log) deliveries(ctx context.Context, bucket string) (*Deliveries, error) {
	kv, err := l.bucket(ctx, deliveriesConfig(bucket, l.replicas))
	if err != nil {
		return nil, fmt.Errorf("open the deliveries: %w", errLog(err))
	}
	return &Deliveries{kv}, nil
}

// Searched returns the sequence up to which every end in the log has its
// delivery; false when nothing is known of it.
func (d *Deliveries) Searched(ctx context.Context) (uint64, bool, error) {
	e, err := d.kv.Get(ctx, searched)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read how far ends are known: %w", kvError(err))
	}
	seq, err := strconv.ParseUint(string(e.Value()), 10, 64)
	return seq, err == nil, nil
}

// SetSearched moves it.
func (d *Deliveries) SetSearched(ctx context.Context, seq uint64) error {
	if _, err := d.kv.Put(ctx, searched, strconv.AppendUint(nil, seq, 10)); err != nil {
		return fmt.Errorf("keep how far ends are known: %w", kvError(err))
	}
	return nil
}

// deliveryKey is the key of a delivery: those of one task stand together.
func deliveryKey(d functions.Delivery) string {
	return string(d.Task) + "." + strconv.FormatInt(d.EndedAt.UnixMilli(), 10)
}

// Add keeps a new delivery; one that is there already stays as it is.
func (d *Deliveries) Add(ctx context.Context, v functions.Delivery) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err = d.kv.Create(ctx, deliveryKey(v), value); err != nil && !conflicted(err) {
		return fmt.Errorf("keep a delivery: %w", kvError(err))
	}
	return nil
}

// Put replaces a delivery.
func (d *Deliveries) Put(ctx context.Context, v functions.Delivery) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err = d.kv.Put(ctx, deliveryKey(v), value); err != nil {
		return fmt.Errorf("keep a delivery: %w", kvError(err))
	}
	return nil
}

// Pending returns every delivery that is still to be tried.
func (d *Deliveries) Pending(ctx context.Context) ([]functions.Delivery, error) {
	all, err := d.read(ctx, jetstream.AllKeys)
	var pending []functions.Delivery
	for _, v := range all {
		if !v.Next.IsZero() {
			pending = append(pending, v)
		}
	}
	return pending, err
}

// Of returns the deliveries of one task, those of its earlier ends first.
func (d *Deliveries) Of(ctx context.Context, task functions.TaskID) ([]functions.Delivery, error) {
	if err := task.Validate(); err != nil {
		return nil, err
	}
	return d.read(ctx, string(task)+".*")
}

func (d *Deliveries) read(ctx context.Context, keys string) ([]functions.Delivery, error) {
	w, err := d.kv.Watch(ctx, keys, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read deliveries: %w", kvError(err))
	}
	defer w.Stop()
	var all []functions.Delivery
	for {
		select {
		case e, open := <-w.Updates():
			switch {
			case !open: // and nobody knows what was still to come
				return nil, errClosed()
			case e == nil: // all that was there has come
				return all, nil
			}
			if !strings.Contains(e.Key(), ".") {
				continue
			}
			var v functions.Delivery
			if err := json.Unmarshal(e.Value(), &v); err != nil {
				return nil, fmt.Errorf("decode delivery %s: %w", e.Key(), err)
			}
			all = append(all, v)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
