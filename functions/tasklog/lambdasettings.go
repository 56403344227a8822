package tasklog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway/spillway/functions"
)

// LambdaSettings keep what AWS Lambda's API knows of each function beside its
// versions. Every server reads and changes them; a change that lost to another
// is refused, never merged.
type LambdaSettings struct {
	kv jetstream.KeyValue
}

// LambdaSettings makes the bucket if it is missing.
func (l *Log) LambdaSettings(ctx context.Context) (*LambdaSettings, error) {
	kv, err := l.bucket(ctx, lambdaConfig(l.replicas))
	if err != nil {
		return nil, fmt.Errorf("open the Lambda settings: %w", errLog(err))
	}
	return &LambdaSettings{kv}, nil
}

// Get returns the settings of a function and their revision; both are zero when
// it has none.
func (s *LambdaSettings) Get(ctx context.Context, fn functions.Name) (have functions.LambdaSettings, rev uint64, err error) {
	if err := fn.Validate(); err != nil {
		return have, 0, err
	}
	e, err := s.kv.Get(ctx, string(fn))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return have, 0, nil
	}
	if err != nil {
		return have, 0, fmt.Errorf("read the Lambda settings of %s: %w", fn, kvError(err))
	}
	if err := json.Unmarshal(e.Value(), &have); err != nil {
		return functions.LambdaSettings{}, 0, fmt.Errorf("read the Lambda settings of %s: %w", fn, err)
	}
	return have, e.Revision(), nil
}

// Put replaces the settings that have revision rev; 0 means that there are none.
// The error is of class ErrConflict when they have another revision.
func (s *LambdaSettings) Put(ctx context.Context, fn functions.Name, want functions.LambdaSettings, rev uint64) error {
	if err := fn.Validate(); err != nil {
		return err
	}
	value, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("write the Lambda settings of %s: %w", fn, err)
	}
	if rev == 0 {
		_, err = s.kv.Create(ctx, string(fn), value) // over the mark of a deletion too, which an update from 0 is not
	} else {
		_, err = s.kv.Update(ctx, string(fn), value, rev)
	}
	switch {
	case err == nil:
		return nil
	case conflicted(err):
		return functions.Conflict("settings_changed", "the Lambda settings of %q were changed meanwhile", fn).WithHint("read them again and repeat the change")
	}
	return fmt.Errorf("write the Lambda settings of %s: %w", fn, kvError(err))
}

// Delete forgets the settings of a function; it is well when there are none.
func (s *LambdaSettings) Delete(ctx context.Context, fn functions.Name) error {
	if err := fn.Validate(); err != nil {
		return err
	}
	if err := s.kv.Delete(ctx, string(fn)); err != nil {
		return fmt.Errorf("delete the Lambda settings of %s: %w", fn, kvError(err))
	}
	return nil
}
