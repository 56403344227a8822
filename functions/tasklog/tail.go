package tasklog

import (
	"context"

	"github.com/spillway/spillway/functions"
)

// Tail hands every event after the message with sequence after to handle, in
// order, each message whole, until ctx ends (nil), handle fails, or the log
// turns out not to be the continuation of after (ErrGap). It outlives restarts
// of the server. handle gets what has arrived, up to some thousand events, and
// keeps the slice if it likes. A line that cannot be read arrives as an empty
// event, so that its sequence is not missing.
func (l *Log) Tail(ctx context.Context, after uint64, handle func(context.Context, []functions.Record) error) error {
	r := &reader{log: l, stream: streamName, contiguous: true, next: after + 1}
	return r.run(ctx, func(ctx context.Context, messages []message) error {
		for len(messages) > 0 {
			records := make([]functions.Record, 0, len(messages))
			for len(messages) > 0 && len(records) < tailEvents {
				var err error
				records, err = decode(records, messages[0].seq, messages[0].data)
				if err != nil {
					l.log.Error("unreadable event in the log", "seq", messages[0].seq, "err", err)
				}
				messages = messages[1:]
			}
			if err := handle(ctx, records); err != nil {
				return err
			}
		}
		return nil
	})
}
