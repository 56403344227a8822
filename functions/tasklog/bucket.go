package tasklog

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// bucket opens a bucket, and makes it if it is missing. One that is there keeps
// the settings it was made with.
func (l *Log) bucket(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	kv, err := l.js.KeyValue(ctx, cfg.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return l.js.CreateOrUpdateKeyValue(ctx, cfg)
	}
	return kv, err
}
