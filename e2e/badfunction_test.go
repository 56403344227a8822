package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// shell is a function that runs a script, with more YAML lines.
func shell(name, script string, more ...string) string {
	return fmt.Sprintf("name: %s\nimage: %s\nentrypoint: [/bin/sh, -c]\ncommand: [%q]\n%s\n", name, shellImage, script, strings.Join(more, "\n"))
}

// TestBadFunctions runs every way in which a function can misbehave. Each gets
// its class; none is retried on another device; nothing is left behind.
func TestBadFunctions(t *testing.T) {
	needShell(t, "")
	srv := server(t, "--assume-gpu", "1")
	for _, c := range []struct {
		name   string
		yaml   string
		status functions.State
		class  functions.Class
	}{
		{"exits non-zero", shell("exits", "echo bad >&2; exit 3"), functions.Failed, functions.ExitError},
		{"says that trying again is useless", shell("permanent", "exit 65", "retries: {max: 3}"), functions.Failed, functions.Permanent},
		{"is killed for memory", shell("oom", "x=a; while :; do x=$x$x; done", "limits: {memory: 32MiB}"), functions.Failed, functions.OutOfMemory},
		{"hangs", shell("hangs", "sleep 600", "timeout: 1s", "grace: 1s"), functions.TimedOut, functions.TimedOutRun},
		{"ignores SIGTERM", shell("stubborn", "trap '' TERM; while :; do sleep 1; done", "timeout: 1s", "grace: 1s"), functions.TimedOut, functions.TimedOutRun},
		{"writes far more than its disk", shell("disk", "dd if=/dev/zero of=/task/out/big bs=1M count=10240", "limits: {disk: 20MiB}"), functions.Failed, functions.DiskExceeded},
		{"writes many files over its disk", shell("files", "i=0; while :; do dd if=/dev/zero of=/task/out/$i bs=1M count=4 2>/dev/null; i=$((i+1)); done", "limits: {disk: 20MiB}"), functions.Failed, functions.DiskExceeded},
		{"has no such entrypoint", "name: noentry\nimage: " + shellImage + "\nentrypoint: [/no/such]\n", functions.Failed, functions.BadEntry},
		{"has no such image", "name: noimage\nimage: registry.invalid/no/such:1\n", functions.Failed, functions.ImageMissing},
		{"leaves a bad result", shell("badresult", "echo '{' > $TASK_RESULT_FILE"), functions.Failed, functions.BadOutput},
		{"leaves a link for an output", shell("link", "ln -s /etc/passwd /task/out/passwd; echo ok"), functions.Succeeded, ""},
		{"leaves children", shell("children", "sleep 600 & sleep 600 & echo ok"), functions.Succeeded, ""},
		{"floods its log", shell("flood", "i=0; while [ $i -lt 200000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done", "limits: {log: 64KiB}", "timeout: 60s"), functions.Succeeded, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			deploySpec(t, srv, c.yaml)
			fn := strings.TrimPrefix(strings.SplitN(c.yaml, "\n", 2)[0], "name: ")
			task := run(t, srv, fn, `{}`, map[string]string{"Spillway-Device": "never"})
			if c.status == functions.Succeeded {
				if task.Status != string(functions.Succeeded) {
					t.Fatalf("ended as %s: %+v", task.Status, task.Failure)
				}
				if len(task.Outputs) != 0 {
					t.Errorf("outputs %+v, want none: only regular files count", task.Outputs)
				}
			} else {
				wantClass(t, task, c.status, c.class)
			}
			if task.FallbackReason != "" {
				t.Errorf("respawned on the CPU (%s) for a fault that the CPU shares", task.FallbackReason)
			}
			if c.name == "has no such image" && !strings.Contains(task.Failure.Message, "registry.invalid/no/such:1") {
				t.Errorf("the failure does not name the image: %s", task.Failure.Message)
			}
			if c.name == "floods its log" {
				_, _, b, err := srv.Call(t.Context(), http.MethodGet, "/v1/tasks/"+string(task.ID)+"/logs", nil, nil)
				if err != nil || len(b) > 256<<10 || len(b) == 0 {
					t.Errorf("log of %d bytes, err %v; want some, and under 256 KiB", len(b), err)
				}
			}
		})
	}
	eventually(t, time.Minute, "every container is removed", func() bool { return len(containers(t, nodeName(t))) == 0 })
}

// TestUserFaultsNeverRespawn asks for a GPU that this host really has not, with
// functions that would fail on the CPU just the same: the one respawn that
// follows is for the GPU's cause, and the user's fault then ends the task.
func TestUserFaultsNeverRespawn(t *testing.T) {
	needShell(t, "")
	srv := server(t)
	deploySpec(t, srv, shell("exits", "exit 1"))
	deploySpec(t, srv, "name: noentry\nimage: "+shellImage+"\nentrypoint: [/no/such]\n")
	deploySpec(t, srv, shell("oom", "x=a; while :; do x=$x$x; done", "limits: {memory: 32MiB}"))
	deploySpec(t, srv, "name: noimage\nimage: registry.invalid/no/such:1\n")
	for fn, class := range map[string]functions.Class{
		"exits": functions.ExitError, "noentry": functions.BadEntry, "oom": functions.OutOfMemory, "noimage": functions.ImageMissing,
	} {
		task := run(t, srv, fn, `{}`, map[string]string{"Spillway-Device": "preferred"})
		wantClass(t, task, functions.Failed, class)
		if len(task.Attempts) != 1 || task.FallbackReason != "" {
			t.Errorf("%s: %d attempts, fallback %q; want one attempt and none", fn, len(task.Attempts), task.FallbackReason)
		}
	}
}
