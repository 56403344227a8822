package tasklog

import (
	"fmt"
	"log/slog"
)

// serverLog passes the embedded server's log lines to slog. Notices, of which a
// start makes dozens, become debug lines.
type serverLog struct {
	log   *slog.Logger
	fatal chan error // the first fatal line; the server goes on after it, dead
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("log server notice", "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Warn("log server warning", "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.log.Error("log server error", "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Fatalf(format string, v ...any) {
	err := fmt.Errorf(format, v...)
	select {
	case l.fatal <- err:
	default:
	}
	l.log.Error("log server failed", "err", err)
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
