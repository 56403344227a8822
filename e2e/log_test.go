package e2e

import "sync"

// logBuffer keeps the end of a process's log for a failed test.
type logBuffer struct {
	mu sync.Mutex // guards b
	b  []byte
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	const most = 256 << 10
	if len(l.b) > 2*most {
		l.b = append([]byte(nil), l.b[len(l.b)-most:]...)
	}
	return len(p), nil
}

func (l *logBuffer) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	const most = 24 << 10
	if len(l.b) > most {
		return string(l.b[len(l.b)-most:])
	}
	return string(l.b)
}
