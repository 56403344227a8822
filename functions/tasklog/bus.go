package tasklog

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
)

// The bus is what is said beside the log: it is never stored, may be lost, and
// decides nothing.

// call sends a request to subject and reads the answer into value. Without a
// deadline in ctx it waits callTimeout. who is named in errors.
func (l *Log) call(ctx context.Context, who, subject string, request, value any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("write request to %s: %w", who, err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	m, err := l.nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return callError(who, err)
	}
	return decodeReply(m.Data, value)
}

// listen hands each message on subject to handle, in order, until ctx ends. A
// listener that falls behind loses messages.
func (l *Log) listen(ctx context.Context, subject string, handle func(*nats.Msg)) error {
	const backlog = 4096
	messages := make(chan *nats.Msg, backlog)
	sub, err := l.nc.ChanSubscribe(subject, messages)
	if err != nil {
		return fmt.Errorf("listen to %s: %w", subject, callError("the log server", err))
	}
	defer sub.Unsubscribe()
	for {
		select {
		case m := <-messages:
			handle(m)
		case <-ctx.Done():
			return nil
		case <-l.stop:
			return errClosed()
		}
	}
}

// answer hands each request on subject to handle and sends back what it
// returns; up to most at once. It returns when ctx has ended and every handler
// is done.
func (l *Log) answer(ctx context.Context, subject string, most int, handle answerer) error {
	var working sync.WaitGroup
	defer working.Wait()
	slots := make(chan struct{}, most)
	return l.listen(ctx, subject, func(m *nats.Msg) {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		working.Go(func() {
			defer func() { <-slots }()
			data := encodeReply(handle(ctx, m.Data))
			if err := m.Respond(data); err != nil {
				l.log.Warn("answer not sent", "subject", subject, "err", err)
			}
		})
	})
}

// tell publishes and forgets.
func (l *Log) tell(subject string, value any) {
	data, err := json.Marshal(value)
	if err == nil {
		err = l.nc.Publish(subject, data)
	}
	if err != nil {
		l.log.Debug("message not sent", "subject", subject, "err", err)
	}
}
