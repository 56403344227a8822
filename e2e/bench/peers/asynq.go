package main

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/hibiken/asynq"
)

// asynqQueue is asynq on one Redis.
type asynqQueue struct {
	redis  asynq.RedisClientOpt
	client *asynq.Client
}

func newAsynq(addr string) *asynqQueue {
	redis := asynq.RedisClientOpt{Addr: addr, PoolSize: 80}
	return &asynqQueue{redis: redis, client: asynq.NewClient(redis)}
}

func (q *asynqQueue) enqueue(ctx context.Context, sent time.Time) error {
	payload := binary.BigEndian.AppendUint64(nil, uint64(sent.UnixNano()))
	_, err := q.client.EnqueueContext(ctx, asynq.NewTask("noop", payload))
	return err
}

func (q *asynqQueue) work(_ context.Context, began func(time.Time)) (func(), error) {
	server := asynq.NewServer(q.redis, asynq.Config{
		Concurrency: 64, LogLevel: asynq.FatalLevel,
		TaskCheckInterval: 50 * time.Millisecond, // an idle worker asks this often; a second if not set
	})
	err := server.Start(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		began(time.Unix(0, int64(binary.BigEndian.Uint64(t.Payload()))))
		return nil
	}))
	return server.Shutdown, err
}

func (q *asynqQueue) clear(context.Context) error {
	inspector := asynq.NewInspector(q.redis)
	_, err := inspector.DeleteAllPendingTasks("default")
	return errors.Join(err, inspector.Close())
}
