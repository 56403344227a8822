package runtimetest

import (
	"bytes"
	"os"
	"sync"
	"testing"
	"time"
)

// Patience bounds what a test waits for: far more than it takes, for a machine
// that is busy. SPILLWAY_TEST_PATIENCE is for machines that are emulated.
var Patience = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("SPILLWAY_TEST_PATIENCE")); err == nil {
		return d
	}
	return time.Minute
}()

// Until waits for a condition that some other goroutine or process brings about,
// and fails the test when it does not come.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(Patience)
	defer late.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// Pane is a writer that can be read while it is written. The zero value is ready.
type Pane struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (p *Pane) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

// String is what was written so far.
func (p *Pane) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}
