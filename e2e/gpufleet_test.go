package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// fleet is `spillway server` and nodes of its own, each a process. Their
// containers and GPUs are simulated.
type fleet struct {
	*harness.Server
	t     *testing.T
	nodes map[string]*harness.Node
	logs  map[string]*logBuffer // of the nodes
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	ports, err := harness.FreePorts() // of which one is the engine's
	if err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("not ready within a minute"))
	defer cancel()
	srv, err := harness.Start(ctx, harness.Config{
		Bin: bin, Data: filepath.Join(t.TempDir(), "data"), Log: log, Engine: ports.Gateway, Args: []string{"--no-auth", "--log-level", "debug"},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log.tail())
	}
	stopAfter(t, "server", srv, log)
	return &fleet{Server: srv, t: t, nodes: map[string]*harness.Node{}, logs: map[string]*logBuffer{}}
}

// node starts a node with simulated GPUs.
func (f *fleet) node(id, gpus string, args ...string) {
	f.t.Helper()
	log := &logBuffer{}
	ctx, cancel := context.WithTimeoutCause(f.t.Context(), time.Minute, errors.New("not ready within a minute"))
	defer cancel()
	n, err := f.StartNode(ctx, harness.NodeConfig{
		ID: id, Data: filepath.Join(f.t.TempDir(), id), Log: log,
		Args: append([]string{"--runtime", "simulated", "--simulate-gpu", gpus, "--cpus", "16", "--memory", "16GiB", "--disk-floor", "64MiB", "--log-level", "debug"}, args...),
	})
	if err != nil {
		f.t.Fatalf("%v\n%s", err, log.tail())
	}
	stopAfter(f.t, "node "+id, n, log)
	f.nodes[id], f.logs[id] = n, log
	eventually(f.t, 30*time.Second, "its GPUs are offered", func() bool {
		for _, g := range f.gpus(id) {
			if !g.State.Healthy() {
				return false
			}
		}
		return len(f.gpus(id)) > 0
	})
}

// faulty is a file of faults, which the test writes and a node reads.
type faulty struct {
	t    *testing.T
	path string
}

func newFaulty(t *testing.T, faults string) faulty {
	t.Helper()
	f := faulty{t, filepath.Join(t.TempDir(), "faults")}
	f.write(faults)
	return f
}

func (f faulty) write(faults string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(faults+"\n"), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// stopAfter stops a process when the test is over, and shows its log when it failed.
func stopAfter(t *testing.T, what string, p interface{ Stop(time.Duration) error }, log *logBuffer) {
	t.Cleanup(func() {
		if err := p.Stop(30 * time.Second); err != nil && !strings.Contains(err.Error(), "killed") {
			t.Errorf("stop %s: %v", what, err)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", what, log.tail())
		}
	})
}

// deploy deploys a function of the simulated runtime that takes next to no CPU.
func (f *fleet) deploy(name string, more ...string) {
	f.t.Helper()
	deploySpec(f.t, f.Server, "name: "+name+"\nimage: simulated\nlimits: {cpus: 0.01, memory: 16MiB}\n"+strings.Join(more, "\n")+"\n")
}

// submit sends so many tasks that each run for some time.
func (f *fleet) submit(fn string, n int, takes time.Duration) (ids []functions.TaskID) {
	f.t.Helper()
	for i := range n {
		id, err := f.Submit(f.t.Context(), fn, fmt.Sprintf(`{"sleep_ms":%d,"n":%d}`, takes.Milliseconds(), i), nil)
		if err != nil {
			f.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// ended waits for the end of tasks, all of which must succeed.
func (f *fleet) ended(ids []functions.TaskID) []harness.Task {
	f.t.Helper()
	ctx, cancel := context.WithTimeoutCause(f.t.Context(), 3*time.Minute, errors.New("the tasks did not end within 3 minutes"))
	defer cancel()
	tasks := make([]harness.Task, len(ids))
	var group sync.WaitGroup
	for i, id := range ids {
		group.Go(func() {
			var err error
			if tasks[i], err = f.WaitTask(ctx, id); err != nil {
				f.t.Errorf("wait for task %s: %v (last seen: %+v)", id, err, tasks[i])
			} else if tasks[i].Status != string(functions.Succeeded) {
				f.t.Errorf("task %s ended as %s: %+v, attempts %s", id, tasks[i].Status, tasks[i].Failure, chain(tasks[i]))
			}
		})
	}
	group.Wait()
	if f.t.Failed() {
		f.t.FailNow()
	}
	return tasks
}

// call invokes a function that prefers a GPU and waits for its answer.
func (f *fleet) call(fn, event string) (http.Header, harness.Task) {
	f.t.Helper()
	ctx, cancel := context.WithTimeoutCause(f.t.Context(), 2*time.Minute, errors.New("no answer within 2 minutes"))
	defer cancel()
	header := map[string]string{"Content-Type": "application/json", "Spillway-Device": "preferred", "Prefer": "wait=60"}
	code, answer, body, err := f.Call(ctx, http.MethodPost, "/v1/functions/"+fn+"/invoke", header, strings.NewReader(event))
	if err != nil || code != http.StatusOK {
		f.t.Fatalf("invoke: %d %v: %s", code, err, body)
	}
	task, err := f.Task(ctx, functions.TaskID(answer.Get("Spillway-Task-Id")))
	if err != nil {
		f.t.Fatal(err)
	}
	return answer, task
}

// chain writes the attempts of a task that did something, one word each, such as
// "gpu_device:SIM-a-0 ok:SIM-a-1" or "gpu_memory:SIM-a-0 ok:cpu".
func chain(t harness.Task) string {
	var words []string
	for _, a := range worked(t) {
		where := strings.Join(a.GPUs, "+")
		if a.Device == functions.CPU {
			where = "cpu"
		}
		end := "ok"
		if a.Failure != nil {
			end = string(a.Failure.Class)
		}
		words = append(words, end+":"+where)
	}
	return strings.Join(words, " ")
}

// worked are the attempts but for those that a node had no room for after all:
// a GPU may be another's by the time that the order arrives.
func worked(t harness.Task) (attempts []functions.Attempt) {
	for _, a := range t.Attempts {
		if a.Failure == nil || a.Failure.Class != functions.Refused {
			attempts = append(attempts, a)
		}
	}
	return attempts
}

// gpus are the devices of a node by UUID, as the server sees them.
func (f *fleet) gpus(node string) map[string]functions.GPUInfo {
	f.t.Helper()
	n, err := f.Node(f.t.Context(), node)
	if err != nil {
		f.t.Fatal(err)
	}
	found := map[string]functions.GPUInfo{}
	for _, g := range n.GPUs {
		found[g.UUID] = g
	}
	return found
}

// running is how many attempts a node holds.
func (f *fleet) running(node string) int {
	n, err := f.Node(f.t.Context(), node)
	if err != nil {
		return 0
	}
	return len(n.Running)
}

// countBy counts tasks by what names them.
func countBy(tasks []harness.Task, name func(functions.Attempt) string) map[string]int {
	counts := map[string]int{}
	for _, t := range tasks {
		all := worked(t)
		counts[name(all[len(all)-1])]++
	}
	return counts
}

func onNode(a functions.Attempt) string   { return string(a.Node) }
func onDevice(a functions.Attempt) string { return strings.Join(a.GPUs, "+") }
func device(a functions.Attempt) string   { return string(a.Device) }
