package entry

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry/wire"
)

func TestDoor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "door") // over what a socket's path may have
	d, err := NewDoor(dir)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: os.ModeDir | 0o711, d.socket(): os.ModeSocket | 0o666} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	if _, err := NewDoor(dir); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("a second door there: %v, want a conflict", err)
	}
	want := []runtime.Mount{{Source: dir, Target: wire.Dir, ReadOnly: true}, {Source: "/p", Target: wire.Program, ReadOnly: true}}
	if got := d.Mounts("/p"); got[0] != want[0] || got[1] != want[1] {
		t.Errorf("mounts %v, want %v", got, want)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := d.Accept(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody comes: %v, want it to wait until its context ends", err)
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

// TestAcceptIsBounded: one who comes and says nothing is waited for no longer
// than the context says.
func TestAcceptIsBounded(t *testing.T) {
	d, err := NewDoor(filepath.Join(t.TempDir(), "door"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	peer, err := net.Dial("unix", d.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Accept(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent peer: %v, want the context's end", err)
	}
}

// session returns the agent's end of a session and the other end of it.
func session(t *testing.T) (*Session, *net.UnixConn) {
	t.Helper()
	d, err := NewDoor(filepath.Join(t.TempDir(), "door"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	peer, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: d.socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	if _, err := peer.Write(hello(t, wire.Version)); err != nil {
		t.Fatal(err)
	}
	s, err := d.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, peer
}

// TestUnexpectedFrames: what no entry program sends ends the session.
func TestUnexpectedFrames(t *testing.T) {
	for name, c := range map[string]struct {
		start bool
		send  []byte
	}{
		"output before orders": {false, wire.AppendFrame(nil, wire.KindStdout, []byte("x"))},
		"report before orders": {false, wire.AppendFrame(nil, wire.KindReport, []byte("exit=0\x00"))},
		"a strange frame":      {true, wire.AppendFrame(nil, '?', nil)},
		"a broken report":      {true, wire.AppendFrame(nil, wire.KindReport, []byte("exit"))},
		"an endless frame":     {true, []byte{'1', 0xff, 0xff, 0xff, 0xff}},
	} {
		t.Run(name, func(t *testing.T) {
			s, peer := session(t)
			if c.start {
				if err := s.Start(wire.Orders{Argv: []string{"a"}}, runtime.Streams{}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := peer.Write(c.send); err != nil {
				t.Fatal(err)
			}
			if r, err := s.Wait(t.Context()); !errors.Is(err, functions.ErrUnavailable) {
				t.Errorf("Wait: %+v, %v, want unavailable", r, err)
			}
			<-s.Done()
		})
	}
}

func TestBadOrders(t *testing.T) {
	s, _ := session(t)
	for _, o := range []wire.Orders{{}, {Argv: []string{"a\x00b"}}, {Argv: []string{strings.Repeat("a", wire.MaxFrame)}}} {
		if err := s.Start(o, runtime.Streams{}); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("%d arguments: %v, want invalid", len(o.Argv), err)
		}
	}
	if err := s.Start(wire.Orders{Argv: []string{"a"}}, runtime.Streams{}); err != nil {
		t.Errorf("after bad ones: %v", err)
	}
	if _, err := s.Dial(t.Context(), 80); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("Dial without sockets: %v, want a conflict", err)
	}
}

// TestStuckEntry: an entry program that reads nothing holds up nobody for ever.
func TestStuckEntry(t *testing.T) {
	s, _ := session(t)
	if err := s.Start(wire.Orders{Argv: []string{"a"}}, runtime.Streams{Stdin: make([]byte, 8<<20)}); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v, want the context's end", err)
	}
	if err := s.Close(); err != nil { // which ends the feeding
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestInstall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	path, err := install(dir, []byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o555 {
		t.Fatalf("%s: %v, %v", path, info, err)
	}
	again, err := install(dir, []byte("program"))
	if err != nil || again != path {
		t.Errorf("again: %s, %v", again, err)
	}
	if other, err := install(dir, []byte("another")); err != nil || other == path {
		t.Errorf("another program: %s, %v", other, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("prog"), 0o555); err != nil { // cut by a crash
		t.Fatal(err)
	}
	if path, err = install(dir, []byte("program")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "program" {
		t.Errorf("a damaged program became %q, %v", text, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".entry-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := built.ReadFile("bin/entry"); err == nil {
		_, err = Install(dir)
		if err != nil {
			t.Errorf("Install: %v", err)
		}
	} else if _, err := Install(dir); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("Install without the program: %v, want unavailable", err)
	}
}

func TestCommand(t *testing.T) {
	for want, o := range map[string]Options{
		"hold":                   {},
		"hold -api -s3 -conns 5": {API: true, S3: true, Conns: 5},
	} {
		if got := strings.Join(Command(o), " "); got != wire.Program+" "+want {
			t.Errorf("%+v: %s", o, got)
		}
	}
}
