package tasklog

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/spillway/spillway/functions"
)

// childDir names the variable that turns the test binary into a server that
// submits until it is killed, and prints what was acknowledged.
const childDir = "TASKLOG_TEST_CHILD_DIR"

func child(dir string) int {
	ctx := context.Background()
	s, err := StartServer(ctx, ServerConfig{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l, err := Open(ctx, Config{Server: s})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var mu sync.Mutex
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for {
				id := newID()
				if _, err := l.Submit(ctx, submission(id)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				mu.Lock()
				fmt.Println(id)
				mu.Unlock()
			}
		})
	}
	g.Wait()
	return 1
}

// TestKilledServerKeepsEveryAcknowledgedEvent kills a server process twice
// under load and reads its log.
func TestKilledServerKeepsEveryAcknowledgedEvent(t *testing.T) {
	dir := t.TempDir()
	acked := map[functions.TaskID]bool{}
	for range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			id := functions.TaskID(strings.TrimSpace(lines.Text()))
			if id.Validate() == nil { // the last line may be cut
				acked[id] = true
			}
			if n == 1000 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
	}
	if len(acked) < 2000 {
		t.Fatalf("only %d events were acknowledged", len(acked))
	}

	l := openLog(t, startServer(t, dir))
	p := project(t, l)
	last, err := l.LastSeq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitApplied(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	for id := range acked {
		if p.seen[id] != 1 {
			t.Errorf("acknowledged event %s is in the log %d times", id, p.seen[id])
		}
	}
	for id, n := range p.seen {
		if n != 1 {
			t.Errorf("event %s is in the log %d times", id, n)
		}
	}
	t.Logf("%d acknowledged, %d stored", len(acked), len(p.seen))
}
