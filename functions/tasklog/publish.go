package tasklog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/spillway/spillway/functions"
)

// Append writes events as one message and returns its sequence once it is
// durable. It repeats the same message id until the log answers or ctx ends, so
// that a message is stored once however often it is sent, within ten minutes.
// Two appends with one msgID are one message. An empty msgID means a new one.
// At most 256 events, 512 KiB together.
func (l *Log) Append(ctx context.Context, msgID string, events ...functions.Event) (uint64, error) {
	if len(events) == 0 || len(events) > maxBatch {
		return 0, functions.Invalid("bad_batch", "a message holds 1 to %d events, not %d", maxBatch, len(events))
	}
	lines := make([][]byte, len(events))
	size := 0
	for i, e := range events {
		line, err := encode(e)
		if err != nil {
			return 0, err
		}
		lines[i] = line
		size += len(line) + 1
	}
	if len(events) > 1 && size > maxBatchBytes {
		return 0, functions.NewError(functions.ErrTooLarge, "batch_too_large", "the events take %d bytes together, over the limit of %d", size, maxBatchBytes)
	}
	if msgID == "" {
		msgID = nuid.Next()
	}
	return l.publish(ctx, nil, eventSubject(events), msgID, bytes.Join(lines, newline))
}

// publish repeats until the log acknowledges, ctx ends, or giveUp is closed.
func (l *Log) publish(ctx context.Context, giveUp <-chan struct{}, subject, msgID string, data []byte) (uint64, error) {
	const firstWait, longestWait = 10 * time.Millisecond, 500 * time.Millisecond
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		seq, err := l.publishOnce(ctx, subject, msgID, data)
		if err == nil {
			return seq, nil
		}
		retry, final := publishError(err)
		if !retry {
			return 0, fmt.Errorf("append to the log: %w", final)
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("append to the log: %w", errLog(errors.Join(ctx.Err(), err)))
		case <-giveUp:
			return 0, fmt.Errorf("append to the log: %w", errLog(err))
		case <-l.stop:
			return 0, fmt.Errorf("append to the log: %w", errClosed())
		case <-time.After(wait):
		}
	}
}

func (l *Log) publishOnce(ctx context.Context, subject, msgID string, data []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	ack, err := l.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data},
		jetstream.WithMsgID(msgID), jetstream.WithExpectStream(streamName), jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}
