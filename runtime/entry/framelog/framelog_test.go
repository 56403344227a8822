package framelog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/runtime/entry/wire"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// over is closed: the container has exited.
var over = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// read follows a log that is written already.
func read(t testing.TB, path string) (stdout, stderr []byte, dropped int64) {
	t.Helper()
	var out, errs bytes.Buffer
	dropped, err := Follow(within(t), path, &out, &errs, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), errs.Bytes(), dropped
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// size is that of all files of a pattern.
func size(t interface{ Fatal(...any) }, pattern string) (n int64) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

// TestKeeps: within the limit everything comes back; over it the first half of
// the limit and the newest quarter, and how much is missing between the two. A
// reader that follows a slow writer misses nothing in any case.
func TestKeeps(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(MinLimit, 64<<10).Draw(t, "limit")
		count := rapid.IntRange(0, 60).Draw(t, "writes")
		largest := rapid.SampledFrom([]int{1, 100, 5000, 20 << 10}).Draw(t, "largest")
		follows := rapid.Bool().Draw(t, "follows")
		path := filepath.Join(dir, "log")
		w, err := Create(path, limit)
		if err != nil {
			t.Fatal(err)
		}
		live := &follower{path: path, watch: &watch{mark: -1, done: make(chan struct{})}, buf: make([]byte, 2*maxPayload)}
		var liveOut, liveErr bytes.Buffer
		live.stdout, live.stderr = &liveOut, &liveErr
		catchUp := func() {
			for moved := true; moved; {
				var err error
				if moved, _, err = live.step(); err != nil {
					t.Fatal(err)
				}
			}
		}
		var all [2][]byte
		var both []byte
		framed := int64(0)
		for i := range count {
			n := rapid.IntRange(0, largest).Draw(t, "size")
			p := pattern(i, n)
			which := i % 2
			kind := []wire.Kind{wire.KindStdout, wire.KindStderr}[which]
			if err := w.Write(kind, p); err != nil {
				t.Fatal(err)
			}
			all[which] = append(all[which], p...)
			both = append(both, p...)
			framed += int64(n) + wire.HeaderSize*int64(1+n/1024)
			// Of a write of more than the files hold, a reader sees what is left.
			if follows && int64(n) < limit/8 {
				catchUp()
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if follows && int64(largest) < limit/8 {
			catchUp()
			if !bytes.Equal(liveOut.Bytes(), all[0]) || !bytes.Equal(liveErr.Bytes(), all[1]) || live.dropped != 0 {
				t.Errorf("a follower missed something: %d of %d, %d of %d", liveOut.Len(), len(all[0]), liveErr.Len(), len(all[1]))
			}
		}
		if live.file != nil {
			live.file.Close()
		}

		var order bytes.Buffer // everything as it came
		dropped, err := Follow(context.Background(), path, &order, &order, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := order.Bytes()
		if int64(len(got))+dropped != int64(len(both)) {
			t.Fatalf("%d bytes are there and %d dropped, of %d", len(got), dropped, len(both))
		}
		first, used := size(t, path), size(t, path+"*")
		if used > limit {
			t.Errorf("the log has %d bytes, over %d", used, limit)
		}
		if dropped == 0 {
			if !bytes.Equal(got, both) {
				t.Error("what came back is not what was written")
			}
			return
		}
		if framed < limit-4*reserve {
			t.Errorf("%d bytes are dropped of %d, within the limit of %d", dropped, framed, limit)
		}
		head := commonPrefix(got, both)
		tail := len(got) - head
		if !bytes.Equal(got[head:], both[len(both)-tail:]) {
			t.Error("what came back is not the head and the tail of what was written")
		}
		if rest := used - first; first < limit/2-2*reserve || rest < limit/4-2*reserve {
			t.Errorf("of a limit of %d the head has %d bytes, the tail %d", limit, first, rest)
		}
	})
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// pattern is output that is not like any other.
func pattern(seed, n int) []byte {
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	p := make([]byte, n, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:i+8], r.Uint64())
	}
	return p
}

func TestFollowsAsItGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var out, errs runtimetest.Pane
	ended := make(chan struct{})
	done := make(chan error, 1)
	ctx := within(t)
	go func() { // before the log is there
		_, err := Follow(ctx, path, &out, &errs, ended)
		done <- err
	}()
	w, err := Create(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(stream{w, wire.KindStdout}, "one")
	runtimetest.Until(t, "one", func() bool { return out.String() == "one" })
	fmt.Fprint(stream{w, wire.KindStderr}, "two")
	runtimetest.Until(t, "two", func() bool { return errs.String() == "two" })
	close(ended) // the container has exited, its writer has not
	fmt.Fprint(stream{w, wire.KindStdout}, "three")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || out.String() != "onethree" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := w.Write(wire.KindStdout, []byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
}

// TestCutOff: the writer was killed within a frame.
func TestCutOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := Create(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(stream{w, wire.KindStdout}, "whole")
	fmt.Fprint(stream{w, wire.KindStdout}, "and a part")
	if err := w.file.Truncate(w.size - 3); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	followed := make(chan struct{})
	ctx := within(t)
	go func() { // while it lives
		defer close(followed)
		if dropped, err := Follow(ctx, path, &out, nil, over); err != nil || dropped != 0 {
			t.Errorf("%d dropped, %v", dropped, err)
		}
	}()
	time.Sleep(5 * time.Millisecond) // either order is right; this is the likelier one
	w.file.Close()                   // as the kernel does for one that is killed
	<-followed
	if out.String() != "whole" {
		t.Errorf("%q, with its writer killed meanwhile", out.String())
	}
	out.Reset()
	if dropped, err := Follow(within(t), path, &out, nil, over); err != nil || dropped != 0 || out.String() != "whole" {
		t.Errorf("%q, %d, %v", out.String(), dropped, err)
	}
}

func TestFollowEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	if _, err := Follow(within(t), path, nil, nil, over); err != nil {
		t.Errorf("no log at all, and the container has exited: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := Follow(ctx, path, nil, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no log, and the context ended: %v", err)
	}
}

// TestNoRoom: on a full disk output is lost, and the log says how much.
func TestNoRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := Create(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	room := w.file
	fmt.Fprint(stream{w, wire.KindStdout}, "before ")
	if w.file, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Skipf("SKIPPED: no /dev/full here (%v)", err)
	}
	if err := w.Write(wire.KindStdout, []byte("lost")); err == nil {
		t.Error("a full disk is no error")
	}
	w.file.Close()
	w.file = room
	fmt.Fprint(stream{w, wire.KindStdout}, "after")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if out, _, dropped := read(t, path); string(out) != "before after" || dropped != 4 {
		t.Errorf("%q, %d dropped", out, dropped)
	}
}

// TestReplaced: a log of the same name leaves nothing of the old one.
func TestReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	beside := path + ".x" // is not of the log
	if err := os.WriteFile(beside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{100 << 10, 1} {
		w, err := Create(path, MinLimit)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(wire.KindStdout, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if out, _, dropped := read(t, path); len(out) != 1 || dropped != 0 {
		t.Errorf("%d bytes, %d dropped", len(out), dropped)
	}
	if err := Remove(path); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 1 || left[0] != beside {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := Remove(path); err != nil {
		t.Errorf("Remove of what is gone: %v", err)
	}
}

// TestManyWriters: both streams come at once, and a follower keeps up or knows.
func TestManyWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := Create(path, 32<<10)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs runtimetest.Pane
	var dropped int64
	followed := make(chan error, 1)
	ctx := within(t)
	go func() {
		n, err := Follow(ctx, path, &out, &errs, nil)
		dropped = n
		followed <- err
	}()
	var writing sync.WaitGroup
	const n = 20000
	for _, kind := range []wire.Kind{wire.KindStdout, wire.KindStderr} {
		writing.Go(func() {
			for i := range n {
				fmt.Fprintf(stream{w, kind}, "%08d\n", i)
			}
		})
	}
	writing.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-followed; err != nil {
		t.Fatal(err)
	}
	if got := int64(len(out.String())+len(errs.String())) + dropped; got != 2*n*9 {
		t.Errorf("%d bytes are accounted for, of %d", got, 2*n*9)
	}
	if used := size(t, path+"*"); used > 32<<10 {
		t.Errorf("the log has %d bytes", used)
	}
}

// stream writes one kind of output, as a container does.
type stream struct {
	to   *Writer
	kind wire.Kind
}

func (s stream) Write(p []byte) (int, error) {
	s.to.Write(s.kind, p) // what is missing is marked in the log
	return len(p), nil
}
