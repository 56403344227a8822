package tasklog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway/spillway/functions"
)

// Marks keep how far the listing of each function's buckets has come. They are
// as durable as the functions themselves, and every server reads and moves them.
type Marks struct {
	kv jetstream.KeyValue
}

// Marks makes the bucket if it is missing.
func (l *Log) Marks(ctx context.Context) (*Marks, error) {
	kv, err := l.bucket(ctx, marksConfig(l.replicas))
	if err != nil {
		return nil, fmt.Errorf("open the marks: %w", errLog(err))
	}
	return &Marks{kv}, nil
}

// Mark returns the mark of a function; zero when it has none.
func (m *Marks) Mark(ctx context.Context, fn functions.Name) (functions.Mark, error) {
	mark, _, err := m.read(ctx, fn)
	if err != nil {
		return functions.Mark{}, fmt.Errorf("read the mark of %s: %w", fn, kvError(err))
	}
	return mark, nil
}

// Move moves the mark of a function forward to mark. An end of it that is
// earlier than the stored one, or zero, changes nothing, so that servers which
// list at once never undo each other.
func (m *Marks) Move(ctx context.Context, fn functions.Name, mark functions.Mark) error {
	for {
		done, err := m.move(ctx, fn, mark)
		if err != nil {
			return fmt.Errorf("move the mark of %s: %w", fn, kvError(err))
		}
		if done {
			return nil
		}
	}
}

// move is one compare-and-set; false when it lost.
func (m *Marks) move(ctx context.Context, fn functions.Name, mark functions.Mark) (bool, error) {
	have, rev, err := m.read(ctx, fn)
	if err != nil {
		return false, err
	}
	want := have.Merge(mark)
	if want == have {
		return true, nil
	}
	value, err := json.Marshal(want)
	if err != nil {
		return false, err
	}
	if _, err = m.kv.Update(ctx, string(fn), value, rev); err != nil { // revision 0: must not exist
		if conflicted(err) {
			return false, nil
		}
		return false, err
	}
	return true, nil
}

func (m *Marks) read(ctx context.Context, fn functions.Name) (mark functions.Mark, rev uint64, err error) {
	if err := fn.Validate(); err != nil {
		return mark, 0, err
	}
	e, err := m.kv.Get(ctx, string(fn))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return mark, 0, nil
	}
	if err != nil {
		return mark, 0, err
	}
	if err := json.Unmarshal(e.Value(), &mark); err != nil {
		return mark, 0, fmt.Errorf("decode mark: %w", err)
	}
	return mark, e.Revision(), nil
}
