package tasklog

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"github.com/spillway/spillway/functions"
)

// Progress publishes a report to whoever listens. It may be lost.
func (l *Log) Progress(p functions.Progress) {
	if err := p.Task.Validate(); err != nil {
		l.log.Debug("progress not sent", "err", err)
		return
	}
	l.tell(progressPrefix+string(p.Task), p)
}

// SubscribeProgress hands every report to handle until ctx ends.
func (l *Log) SubscribeProgress(ctx context.Context, handle func(functions.Progress)) error {
	return l.listen(ctx, progressPrefix+"*", func(m *nats.Msg) {
		var p functions.Progress
		if err := json.Unmarshal(m.Data, &p); err != nil {
			l.log.Debug("unreadable progress", "err", err)
			return
		}
		handle(p)
	})
}

// LogLines publishes lines to whoever follows their task. They may be lost; the
// line numbers show it.
func (l *Log) LogLines(lines []functions.LogLine) {
	for len(lines) > 0 {
		first := lines[0]
		n := 1
		for n < len(lines) && lines[n].Task == first.Task && lines[n].Attempt == first.Attempt {
			n++
		}
		n = fit(lines[:n])
		if err := first.Task.Validate(); err != nil {
			l.log.Debug("log lines not sent", "err", err)
		} else {
			l.tell(logSubject(first.Task, first.Attempt), lines[:n])
		}
		lines = lines[n:]
	}
}

// FollowLog hands the lines that the task's attempts write from now on to
// handle until ctx ends. Lines can be missing: a number that does not follow
// the one before says that ReadLog has more.
func (l *Log) FollowLog(ctx context.Context, task functions.TaskID, handle func([]functions.LogLine)) error {
	if err := task.Validate(); err != nil {
		return err
	}
	return l.listen(ctx, logPrefix+string(task)+".*", func(m *nats.Msg) {
		var lines []functions.LogLine
		if err := json.Unmarshal(m.Data, &lines); err != nil {
			l.log.Debug("unreadable log lines", "err", err)
			return
		}
		handle(lines)
	})
}
