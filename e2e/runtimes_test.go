package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/containerd/containerdtest"
)

// TestRuntimesBesideDocker runs functions on the runtimes that Docker is not a
// part of. The image is one that only Docker has: they take it from there. Then
// the server dies under a task, as one that the machine kills does.
func TestRuntimesBesideDocker(t *testing.T) {
	for name, args := range map[string]func(t *testing.T) []string{
		"containerd": func(t *testing.T) []string {
			return []string{"--containerd", containerdtest.Start(t, containerdtest.Machine(t)).Address}
		},
		"oci": func(t *testing.T) []string { needOCI(t); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			needShell(t, "")
			srv := serverWith(t, harness.Config{Args: append([]string{"--runtime", name}, args(t)...)})
			deploySpec(t, srv, shell("cold", "cat > /task/out/event; echo words"))
			deploySpec(t, srv, shell("warm", "cat > /task/out/event; echo words", "warm: 2"))
			deploySpec(t, srv, shell("fails", "echo no >&2; exit 7"))
			deploySpec(t, srv, shell("greedy", "x=a; while :; do x=$x$x; done", "limits: {memory: 32MiB}"))
			deploySpec(t, srv, shell("slow", "sleep 3; echo done > /task/out/done"))

			succeeds := func(fn string) harness.Task {
				t.Helper()
				task := run(t, srv, fn, `{"a":1}`, nil)
				if task.Status != string(functions.Succeeded) || len(task.Outputs) != 1 || task.Outputs[0].Size != 7 {
					t.Fatalf("%s ended as %s with outputs %+v: %+v", fn, task.Status, task.Outputs, task.Failure)
				}
				return task
			}
			succeeds("cold")
			eventually(t, time.Minute, "a task runs in a container that was started before it", func() bool {
				return succeeds("warm").Attempts[0].Warm
			})
			for fn, want := range map[string]functions.Class{"fails": functions.ExitError, "greedy": functions.OutOfMemory} {
				if task := run(t, srv, fn, `{}`, nil); task.Failure == nil || task.Failure.Class != want {
					t.Errorf("%s ended as %s: %+v, want %s", fn, task.Status, task.Failure, want)
				}
			}

			id, err := srv.Submit(t.Context(), "slow", `{}`, nil)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, time.Minute, "the slow one runs", func() bool {
				task, err := srv.Task(t.Context(), id)
				return err == nil && task.Status == "running"
			})
			pause(t, time.Second) // it is in its container now, or on the way there
			srv.Kill()
			if err := srv.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			task, err := srv.WaitTask(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if task.Status != string(functions.Succeeded) || len(task.Attempts) != 1 || len(task.Outputs) != 1 {
				t.Errorf("after the kill it ended as %s in %d attempts with %+v: %+v", task.Status, len(task.Attempts), task.Outputs, task.Failure)
			}
			if err := srv.Stop(time.Minute); err != nil {
				t.Errorf("stop: %v", err)
			}
			nothingRuns(t, srv.Data())
		})
	}
}

// nothingRuns fails when a process stays that has a path below dir in its command
// line: what stands beside a container, or watches its output.
func nothingRuns(t *testing.T, dir string) {
	t.Helper()
	eventually(t, time.Minute, "nothing runs any more that belongs to "+dir, func() bool {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range lines {
			if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), dir) {
				return false
			}
		}
		return true
	})
}
