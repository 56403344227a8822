package probe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func newPrograms() *programs { return &programs{room: make(chan struct{}, maxStuck)} }

// TestHeldOutputHoldsNobody has a program whose own child keeps its output open
// after it was killed.
func TestHeldOutputHoldsNobody(t *testing.T) {
	note := filepath.Join(t.TempDir(), "pid")
	p := newPrograms()
	p.env = []string{"NOTE=" + note}
	c, err := p.start(script(t, `sleep 1000 & echo $! >$NOTE; echo '`+event0+`'; wait`))
	if err != nil {
		t.Fatal(err)
	}
	l := <-c.lines
	c.stop()
	text, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("nobody held the output: %v", err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if l.Event == nil {
		t.Errorf("the line is %+v", l)
	}
	if _, more := <-c.lines; more {
		t.Error("more lines after the stop")
	}
}

func TestHowAProgramEnded(t *testing.T) {
	for text, want := range map[string]string{
		"echo why >&2; exit 3": "exit status 3: why",
		"kill -TERM $$":        "signal: terminated",
		"exec sleep 1000 >&-":  "signal: killed",
		"yes out | head -n 9999 >&2; echo of luck >&2; exit 1": "exit status 1: ",
	} {
		p := newPrograms()
		c, err := p.start(script(t, text))
		if err != nil {
			t.Fatal(err)
		}
		for range c.lines {
		}
		e := c.end()
		c.stop()
		if !strings.HasPrefix(e.text, want) || len(e.text) > 2*maxComplaint {
			t.Errorf("%q ended as %+v", text, e)
		}
		if strings.Contains(text, "luck") && !strings.HasSuffix(e.text, "of luck") {
			t.Errorf("the end of its words is not in %q", e.text)
		}
	}
}

func TestStuckProcessesLeaveNoRoom(t *testing.T) {
	p := newPrograms()
	for range maxStuck {
		p.room <- struct{}{}
	}
	if _, err := p.start("/bin/true"); !errors.Is(err, errStuck) {
		t.Errorf("start: %v", err)
	}
	if _, _, err := p.output(t.Context(), time.Minute, "/bin/true"); !errors.Is(err, errStuck) {
		t.Errorf("output: %v", err)
	}
	<-p.room
	if _, e, err := p.output(t.Context(), time.Minute, "/bin/true"); err != nil || e.code != 0 {
		t.Errorf("with room: %+v, %v", e, err)
	}
	if len(p.room) != maxStuck-1 {
		t.Error("a process that is gone takes room")
	}
}

func TestFailedStartTakesNoRoom(t *testing.T) {
	p := newPrograms()
	for range 2 * maxStuck {
		if _, err := p.start("/no/such/program"); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("start: %v", err)
		}
	}
}

func TestOutputIsLimited(t *testing.T) {
	p := newPrograms()
	if _, _, err := p.output(t.Context(), 50*time.Millisecond, "/bin/sleep", "1000"); err == nil || !strings.Contains(err.Error(), "no answer in 50ms") {
		t.Errorf("of a program that hangs: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := p.output(ctx, time.Minute, "/bin/sleep", "1000"); !errors.Is(err, context.Canceled) {
		t.Errorf("of one that nobody waits for: %v", err)
	}
	out, e, err := p.output(t.Context(), time.Minute, script(t, "yes | head -c 3000000; exit 9"))
	if err != nil || e.code != 9 || len(out) != maxOutput {
		t.Errorf("of one that talks: %d bytes, %+v, %v", len(out), e, err)
	}
}

func TestFind(t *testing.T) {
	beside, path := t.TempDir(), t.TempDir()
	t.Setenv("PATH", path)
	if program, smi := Find(filepath.Join(beside, "spillway")); program != "" || smi != "" {
		t.Errorf("where nothing is found %q and %q", program, smi)
	}
	put := func(name string, mode os.FileMode) string {
		if err := os.WriteFile(name, nil, mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	far, smi := put(filepath.Join(path, "gpuprobe"), 0o700), put(filepath.Join(path, "nvidia-smi"), 0o700)
	near := put(filepath.Join(beside, "gpuprobe"), 0o600)
	if p, s := Find(filepath.Join(beside, "spillway")); p != far || s != smi {
		t.Errorf("in PATH: %q and %q", p, s)
	}
	if err := os.Chmod(near, 0o700); err != nil {
		t.Fatal(err)
	}
	if p, _ := Find(filepath.Join(beside, "spillway")); p != near {
		t.Errorf("beside the executable: %q", p)
	}
}
