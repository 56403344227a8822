package queue

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/e2e/bench/measure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPeersWork puts a few tasks through each queue that is installed. Those whose
// driver is built from another module run only with SPILLWAY_REQUIRE_QUEUES, and
// with it all must be there: the first build takes minutes.
func TestPeersWork(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what starts servers")
	}
	for _, o := range Openers("../peers") {
		t.Run(o.Name, func(t *testing.T) {
			required := os.Getenv("SPILLWAY_REQUIRE_QUEUES") != ""
			if !required && !strings.HasPrefix(o.Name, "Celery") {
				t.Skip("SKIPPED: its driver takes minutes to build; SPILLWAY_REQUIRE_QUEUES=1 asks for it")
			}
			p, err := o.Open(t.Context(), t.TempDir())
			if errors.Is(err, measure.ErrSkip) && !required {
				t.Skipf("SKIPPED: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			a, err := p.Do(t.Context(), Command{Do: Enqueue, N: 50, Clients: 4, Processes: 2})
			if err != nil || a.EnqueueSeconds <= 0 {
				t.Errorf("enqueue: %+v, %v", a, err)
			}
			// What was only enqueued must not be drained now.
			a, err = p.Do(t.Context(), Command{Do: Drain, N: 60, Clients: 4, Processes: 2})
			if err != nil || a.TotalSeconds < a.EnqueueSeconds || a.EnqueueSeconds <= 0 {
				t.Errorf("drain: %+v, %v", a, err)
			}
			a, err = p.Do(t.Context(), Command{Do: Latency, N: 5, PerSecond: 20})
			if err != nil || len(a.LatencyMS) != 5 {
				t.Fatalf("latency: %+v, %v", a, err)
			}
			for _, ms := range a.LatencyMS {
				if ms <= 0 || ms > 60_000 {
					t.Errorf("a task began %v ms after it was enqueued", ms)
				}
			}
		})
	}
}

func TestAMissingServerIsASkip(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, fsync := range []string{"always", "everysec"} {
		if _, _, err := redis(t.Context(), t.TempDir(), fsync); !errors.Is(err, measure.ErrSkip) {
			t.Errorf("%v, want skipped", err)
		}
	}
}

func TestADriverThatEndsSaysWhy(t *testing.T) {
	c, err := startClient(exec.Command("/bin/sh", "-c", "read line; echo no luck >&2; exit 4"), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.do(context.Background(), Command{Do: Drain, N: 1})
	if err == nil || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("%v", err)
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}
