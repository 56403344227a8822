package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/runtime/entry"
	"github.com/spillway/spillway/runtime/entry/entrytest"
	"github.com/spillway/spillway/runtime/entry/framelog"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// maxSize of the program: it is mapped into every container.
const maxSize = 2_000_000

func TestSize(t *testing.T) {
	info, err := os.Stat(entrytest.Program(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", info.Size())
	if info.Size() >= maxSize {
		t.Errorf("the program has %d bytes, and is to stay under %d: look for what was imported", info.Size(), maxSize)
	}
}

// within bounds one step; what blocks fails a test instead of hanging it.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// code is the exit code of a command that was run.
func code(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode()
	}
	t.Fatal(err)
	return -1
}

func TestInit(t *testing.T) {
	program := entrytest.Program(t)
	input := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(input, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   string
		code   int
		stdout string
	}{
		{"init -- sh -c 'exit 3'", 3, ""},
		{"init sh -c 'kill -9 $$'", 137, ""},
		{"init -- cat", 0, "inherited"},
		{"init -stdin " + input + " -- cat", 0, "from a file"},
		{"init -stdin /nowhere -- cat", wire.ExitFault, ""},
		{"init -- /nowhere", wire.ExitMissing, ""},
		{"init -- nothing-of-this-name", wire.ExitMissing, ""},
		{"init -- /etc/passwd", wire.ExitNoExec, ""},
		{"init --", wire.ExitFault, ""},
		{"hold -conns 65", wire.ExitFault, ""},
		{"hold -conns", wire.ExitFault, ""},
		{"hold -x", wire.ExitFault, ""},
		{"log", wire.ExitFault, ""},
		{"log x:/tmp/x", wire.ExitFault, ""},
		{"nonsense", wire.ExitFault, ""},
		{"", wire.ExitFault, ""},
	} {
		cmd := exec.CommandContext(within(t), "sh", "-c", "exec "+program+" "+c.args)
		cmd.Stdin = strings.NewReader("inherited")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if got := code(t, cmd.Run()); got != c.code || stdout.String() != c.stdout {
			t.Errorf("%s: exit %d, %q, %q, want %d, %q", c.args, got, stdout.String(), stderr.String(), c.code, c.stdout)
		}
		if c.code > 124 && c.code < 128 && stderr.Len() == 0 {
			t.Errorf("%s: it does not say why it failed", c.args)
		}
	}
}

// TestInitForwards: signals reach the command, and what it makes of them is the
// exit.
func TestInitForwards(t *testing.T) {
	for trap, want := range map[string]int{"trap 'exit 4' TERM": 4, ":": 128 + 15} {
		cmd := exec.CommandContext(within(t), entrytest.Program(t), "init", "--", "sh", "-c", trap+"; echo ready; while :; do sleep 0.01; done")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if got := code(t, cmd.Wait()); got != want {
			t.Errorf("%s: exit %d, want %d", trap, got, want)
		}
	}
}

// TestInitReaps: as process 1 it is the parent of every orphan.
func TestInitReaps(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("SPILLWAY_REQUIRE_NETNS") != "" {
			t.Fatal("not root, and SPILLWAY_REQUIRE_NETNS is set")
		}
		t.Skip("SKIPPED: a namespace of processes needs root")
	}
	cmd := exec.CommandContext(within(t), entrytest.Program(t), "init", "--", "sh", "-c",
		"for i in 1 2 3; do (sleep 0.02 & echo orphan); done; cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3*len("orphan\n"))); err != nil {
		t.Fatal(err)
	}
	for ctx := within(t); ; time.Sleep(5 * time.Millisecond) {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		for _, tid := range threads(t, cmd.Process.Pid) {
			more, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", cmd.Process.Pid, tid))
			children = append(children, more...)
		}
		if err == nil && len(unique(strings.Fields(string(children)))) == 1 {
			break // the command alone
		}
		if ctx.Err() != nil {
			t.Fatalf("the children that are left: %s, %v", children, err)
		}
	}
	stdin.Close()
	if got := code(t, cmd.Wait()); got != 0 {
		t.Errorf("exit %d", got)
	}
}

func threads(t *testing.T, pid int) (ids []string) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

func unique(words []string) map[string]bool {
	set := map[string]bool{}
	for _, w := range words {
		set[w] = true
	}
	return set
}

// TestLog runs the program as containerd runs a logger.
func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a name & more")
	uri, err := url.Parse(entry.LogURI(entrytest.Program(t), path, 1<<20).String())
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for k, v := range uri.Query() {
		args = append(args, k, v[0])
	}
	cmd := exec.CommandContext(within(t), uri.Path, args...)
	cmd.Stderr = os.Stderr
	var ours, theirs [3]*os.File
	for i := range ours {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if ours[i], theirs[i] = w, r; i == 2 { // by which it says that it is ready
			ours[i], theirs[i] = r, w
		}
		defer ours[i].Close()
	}
	cmd.ExtraFiles = theirs[:]
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range theirs {
		f.Close()
	}
	if ready, err := io.ReadAll(ours[2]); err != nil || len(ready) != 1 {
		t.Fatalf("ready: %q, %v", ready, err)
	}
	// As containerd ends it: there is still output in the pipes.
	out, errs := strings.Repeat("out\n", 10000), strings.Repeat("err\n", 10000)
	fmt.Fprint(ours[0], out)
	fmt.Fprint(ours[1], errs)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ours[0].Close()
	ours[1].Close()
	if got := code(t, cmd.Wait()); got != 0 {
		t.Errorf("exit %d", got)
	}
	var gotOut, gotErr bytes.Buffer
	dropped, err := framelog.Follow(within(t), path, &gotOut, &gotErr, nil)
	if err != nil || dropped != 0 || gotOut.String() != out || gotErr.String() != errs {
		t.Errorf("%d and %d bytes came back, %d dropped, %v", gotOut.Len(), gotErr.Len(), dropped, err)
	}
}

// TestStuckAgent: an agent that takes nothing holds up a container's end for a
// bounded time only.
func TestStuckAgent(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	to := &agent{socket: os.NewFile(uintptr(fds[0]), "agent")}
	defer to.socket.Close()
	defer syscall.Close(fds[1])
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		to.send(make([]byte, 16<<20)) // over what the kernel keeps
		to.report(wire.Report{})
	}()
	to.limit(10 * time.Millisecond)
	select {
	case <-sent:
	case <-within(t).Done():
		t.Fatal("it waits for ever")
	}
	if !to.gone {
		t.Error("it still counts on the agent")
	}
}

func TestMerge(t *testing.T) {
	got := wire.MergeEnv([]string{"A=1", "B=2"}, []string{"B=3", "C=", "C=4"})
	if want := "A=1 B=3 C=4"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"a/tool": 0o644, "b/tool": 0o755, "a/text": 0o644, "c/tool/x": 0o755} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=" + strings.Join([]string{dir + "/c", dir + "/a", dir + "/b"}, ":")}
	for _, c := range []struct {
		name, dir string
		env       []string
		path      string
		code      int
	}{
		{name: "tool", env: env, path: dir + "/b/tool"},
		{name: "tool", env: []string{"PATH=b"}, dir: dir, path: "b/tool"},
		{name: "tool", env: []string{"PATH="}, dir: dir + "/b", path: "./tool"},
		{name: "text", env: env, code: wire.ExitNoExec},
		{name: "none", env: env, code: wire.ExitMissing},
		{name: "tool", code: wire.ExitMissing},
		{name: "./any", path: "./any"},
		{name: "./any", dir: dir + "/none", code: wire.ExitNoExec},
	} {
		got, no := prepare([]string{c.name}, c.env, c.dir)
		switch {
		case no != nil && no.code != c.code, no == nil && (c.code != 0 || got.path != c.path):
			t.Errorf("%s in %v: %+v, %+v, want %q, %d", c.name, c.env, got, no, c.path, c.code)
		}
	}
}
