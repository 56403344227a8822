package tasklog

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"github.com/spillway/spillway/functions"
)

// Heartbeat reports to all servers. nil means that a leader granted the node's
// lease, which counts from when the heartbeat was sent. Every server hears it
// and only a leader answers: without one it ends with ctx or after 5 s.
func (l *Log) Heartbeat(ctx context.Context, hb functions.Heartbeat) error {
	return l.call(ctx, "the leader", heartbeatSubject, hb, nil)
}

// ServeHeartbeats hands every node's heartbeats to handle, in order, until ctx
// ends, and answers those that it grants. handle must be quick.
func (l *Log) ServeHeartbeats(ctx context.Context, handle func(functions.Heartbeat) (granted bool)) error {
	return l.listen(ctx, heartbeatSubject, func(m *nats.Msg) {
		var hb functions.Heartbeat
		if err := json.Unmarshal(m.Data, &hb); err != nil || hb.Node.ID.Validate() != nil {
			l.log.Warn("unreadable heartbeat", "err", err)
			return
		}
		if !handle(hb) {
			return
		}
		if err := m.Respond(encodeReply(nil, nil)); err != nil {
			l.log.Warn("heartbeat not answered", "node", hb.Node.ID, "err", err)
		}
	})
}
