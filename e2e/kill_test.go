package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

var (
	kills = flag.Int("kills", 20, "how many times the process is killed")
	seed  = flag.Uint64("seed", 0, "replays the moments of an earlier run; 0 = a new one")
)

// TestKillNine kills the whole process at random moments under load. Every task
// that was accepted ends once, with the one right result; none is lost and none
// is there twice.
func TestKillNine(t *testing.T) {
	needDocker(t)
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("replay with -args -seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 1))
	data := filepath.Join(t.TempDir(), "data")
	srv := serverWith(t, harness.Config{Data: data})
	deployCatalog(t, srv, "echo")

	accepted := &ledger{byKey: map[string]functions.TaskID{}}
	load, stopLoad := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	const clients = 4
	for c := range clients {
		wg.Go(func() { submitForever(load, srv, c, accepted) })
	}
	for range *kills {
		pause(t, time.Duration(200+rng.IntN(2500))*time.Millisecond)
		srv.Kill()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("not ready within a minute"))
		err := srv.Restart(ctx)
		cancel()
		if err != nil {
			stopLoad()
			wg.Wait()
			t.Fatalf("restart: %v", err)
		}
	}
	stopLoad()
	wg.Wait()
	accepted.check(t, srv, clients)
	eventually(t, time.Minute, "no container and no task folder is left", func() bool {
		folders, err := os.ReadDir(filepath.Join(data, "node", "tasks"))
		return err == nil && len(folders) == 0 && len(containers(t, nodeName(t))) == 0
	})
}

// ledger remembers what the server accepted.
type ledger struct {
	mu    sync.Mutex // guards the fields below
	byKey map[string]functions.TaskID
	sent  int
}

// submitForever sends echo calls with an idempotency key each, as a careful
// client does: an answer that never came is asked for again with the same key.
func submitForever(ctx context.Context, srv *harness.Server, client int, l *ledger) {
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("c%d-%d", client, n)
		for ctx.Err() == nil {
			l.mu.Lock()
			l.sent++
			l.mu.Unlock()
			id, err := srv.Submit(ctx, "echo", fmt.Sprintf(`{"key":%q}`, key), map[string]string{"Idempotency-Key": key})
			if err == nil {
				l.mu.Lock()
				if old, ok := l.byKey[key]; ok && old != id {
					panic(fmt.Sprintf("key %s was answered with two tasks, %s and %s", key, old, id))
				}
				l.byKey[key] = id
				l.mu.Unlock()
				break
			}
			wait(ctx, 50*time.Millisecond)
		}
		wait(ctx, 400*time.Millisecond) // twice what two cores of containers can follow
	}
}

// check waits for every accepted task and compares.
func (l *ledger) check(t *testing.T, srv *harness.Server, clients int) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 8*time.Minute, errors.New("accepted tasks did not end within 8 minutes"))
	defer cancel()
	attempts := map[int]int{}
	for key, id := range l.byKey {
		task, err := srv.WaitTask(ctx, id)
		if err != nil {
			t.Fatalf("task %s of key %s: %v (last seen: %+v)", id, key, err, task)
		}
		if task.Status != string(functions.Succeeded) {
			t.Errorf("task %s ended as %s: %+v, attempts %+v", id, task.Status, task.Failure, task.Attempts)
			continue
		}
		var result struct {
			Echo struct{ Key string } // of the echo function
			Key  string               // of the simulated runtime
		}
		if err := srv.JSON(ctx, http.MethodGet, "/v1/tasks/"+string(id)+"/result", nil, &result); err != nil {
			t.Errorf("result of %s: %v", id, err)
		} else if result.Key != key && result.Echo.Key != key {
			t.Errorf("task %s of key %s has another task's result: %+v", id, key, result)
		}
		attempts[len(task.Attempts)]++
	}
	ids := listAll(ctx, t, srv)
	known := map[functions.TaskID]bool{}
	for _, id := range l.byKey {
		known[id] = true
	}
	strays := 0
	for _, id := range ids {
		if !known[id] {
			strays++ // accepted just as the load stopped: its answer was lost with the connection
		}
	}
	if strays > clients {
		t.Errorf("%d tasks exist that no client was told of; at most one per client can", strays)
	}
	t.Logf("accepted %d, listed %d, lost 0, attempts per task %v", len(l.byKey), len(ids), attempts)
	if len(l.byKey) == 0 {
		t.Error("nothing was accepted: the test shows nothing")
	}
}

// listAll lists the id of every task.
func listAll(ctx context.Context, t *testing.T, srv *harness.Server) []functions.TaskID {
	t.Helper()
	var ids []functions.TaskID
	for _, task := range listTasks(ctx, t, srv) {
		ids = append(ids, task.ID)
	}
	return ids
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pause lets the load run on before the next fault.
func pause(t *testing.T, d time.Duration) { wait(t.Context(), d) }
