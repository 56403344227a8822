package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"pgregory.net/rapid"
)

func newTestCapture(t interface{ TempDir() string }, keep functions.Bytes) *capture {
	return newCapture(key{"t", 1}, filepath.Join(t.TempDir(), "log.jsonl"), functions.Spec{Limits: functions.Limits{Log: keep}})
}

func fileLines(t interface{ Fatal(...any) }, c *capture) (lines []functions.LogLine, size int) {
	data, err := os.ReadFile(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // no line, no file
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var l functions.LogLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines, len(data)
}

// However the bytes are cut into writes, each stream's text comes back whole,
// its lines numbered without a gap, while the log is within its limit.
func TestNothingOfASmallLogIsLost(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		c := newCapture(key{"t", 1}, filepath.Join(dir, "log"), functions.Spec{Limits: functions.Limits{Log: functions.MiB}})
		stdout, stderr := c.streams()
		var want [2]strings.Builder
		for range rapid.IntRange(0, 30).Draw(rt, "writes") {
			piece := rapid.StringMatching(`[a-z\n]{0,40}`).Draw(rt, "piece")
			which := rapid.IntRange(0, 1).Draw(rt, "stream")
			want[which].WriteString(piece)
			if _, err := []*stream{stdout, stderr}[which].Write([]byte(piece)); err != nil {
				rt.Fatal(err)
			}
		}
		if err := c.finish(); err != nil {
			rt.Fatal(err)
		}
		lines, _ := fileLines(rt, c)
		var got [2]strings.Builder
		for i, l := range lines {
			if l.N != int64(i+1) {
				rt.Fatalf("line %d has number %d", i+1, l.N)
			}
			got[map[string]int{"stdout": 0, "stderr": 1}[l.Stream]].WriteString(l.Text + "\n")
		}
		for i := range want {
			text := want[i].String()
			if text != "" && !strings.HasSuffix(text, "\n") {
				text += "\n"
			}
			if got[i].String() != text {
				rt.Fatalf("stream %d: got %q, want %q", i, got[i].String(), text)
			}
		}
	})
}

// However much is written, the log stays within its limit, begins with the first
// line and ends with the last.
func TestALargeLogKeepsHeadAndTail(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		keep := rapid.IntRange(4_000, 50_000).Draw(rt, "keep")
		c := newCapture(key{"t", 1}, filepath.Join(dir, "log"), functions.Spec{Limits: functions.Limits{Log: functions.Bytes(keep)}})
		stdout, _ := c.streams()
		count := rapid.IntRange(1, 600).Draw(rt, "lines")
		for i := range count {
			fmt.Fprintf(stdout, "%d %s\n", i+1, strings.Repeat("x", i%100))
		}
		if err := c.finish(); err != nil {
			rt.Fatal(err)
		}
		lines, size := fileLines(rt, c)
		if size > keep+1000 { // the line about the gap, and the estimate per line
			rt.Fatalf("%d bytes, limit %d", size, keep)
		}
		if first, last := lines[0], lines[len(lines)-1]; first.N != 1 || last.N != int64(count) {
			rt.Fatalf("lines %d to %d of %d", first.N, last.N, count)
		}
		for i := 1; i < len(lines); i++ {
			if lines[i].N <= lines[i-1].N {
				rt.Fatalf("line %d after line %d", lines[i].N, lines[i-1].N)
			}
		}
	})
}

func TestLongLinesAreCutAndBytesMadeText(t *testing.T) {
	c := newTestCapture(t, functions.MiB)
	stdout, _ := c.streams()
	for _, text := range []string{strings.Repeat("x", int(longestLine)+10), "\r\n\xff\n", "no end"} {
		if _, err := stdout.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.finish(); err != nil {
		t.Fatal(err)
	}
	lines, _ := fileLines(t, c)
	if len(lines) != 4 || len(lines[0].Text) != int(longestLine) || lines[1].Text != "xxxxxxxxxx" || lines[2].Text != "\ufffd" || lines[3].Text != "no end" {
		t.Errorf("%d lines, the last %+v", len(lines), lines[1:])
	}
}

func TestAnOldStreamIsNotHeard(t *testing.T) {
	c := newTestCapture(t, functions.MiB)
	var live []functions.LogLine
	c.feed(func(l []functions.LogLine) { live = append(live, l...) }, func(string) {})
	old, _ := c.streams()
	fmt.Fprintln(old, "one")
	renewed, _ := c.streams()
	if _, err := old.Write([]byte("two\n")); err == nil {
		t.Error("the old stream still takes")
	}
	fmt.Fprint(renewed, "one\ntwo\n")
	if err := c.finish(); err != nil {
		t.Fatal(err)
	}
	if _, err := renewed.Write([]byte("x")); err == nil {
		t.Error("a finished log still takes")
	}
	lines, _ := fileLines(t, c)
	if len(lines) != 2 || lines[1].Text != "two" {
		t.Errorf("log %+v", lines)
	}
	if len(live) != 2 || live[0].N != 1 || live[1].N != 2 {
		t.Errorf("live %+v, want each line once", live)
	}
}

func TestLiveLinesComeInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCapture(t, functions.MiB)
		var batches []int
		c.feed(func(l []functions.LogLine) { batches = append(batches, len(l)) }, func(string) {})
		stdout, _ := c.streams()
		fmt.Fprint(stdout, strings.Repeat("x\n", 250))
		check := func(want string) {
			t.Helper()
			c.mu.Lock() // lines are sent under it
			defer c.mu.Unlock()
			if got := fmt.Sprint(batches); got != want {
				t.Errorf("batches %s, want %s", got, want)
			}
		}
		check("[100 100]")
		time.Sleep(batchTime)
		synctest.Wait()
		check("[100 100 50]")
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAFloodIsThinnedForFollowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCapture(t, 10_000)
		sent := 0
		c.feed(func(l []functions.LogLine) { sent += len(l) }, func(string) {})
		stdout, _ := c.streams()
		for range 10 { // a second of 10,000 lines
			fmt.Fprint(stdout, strings.Repeat("x\n", 1000))
			time.Sleep(batchTime)
			synctest.Wait()
		}
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
		if sent < 500 || sent > 2500 {
			t.Errorf("%d lines were sent", sent)
		}
	})
}

func TestReadPagesThroughAll(t *testing.T) {
	for _, keep := range []functions.Bytes{20_000, functions.MiB} {
		c := newTestCapture(t, keep)
		stdout, _ := c.streams()
		for i := range 2500 {
			fmt.Fprintf(stdout, "line %d\n", i+1)
		}
		var after, seen int64
		for {
			lines, err := c.read(after)
			if err != nil {
				t.Fatal(err)
			}
			if len(lines) == 0 {
				break
			}
			for _, l := range lines {
				if l.N <= after || l.Text != fmt.Sprintf("line %d", l.N) {
					t.Fatalf("line %+v after %d", l, after)
				}
				after = l.N
				seen++
			}
		}
		if after != 2500 || keep == functions.MiB && seen != 2500 {
			t.Errorf("limit %s: read %d lines, the last is %d", keep, seen, after)
		}
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkCapture(b *testing.B) {
	c := newTestCapture(b, 8*functions.MiB)
	c.feed(func([]functions.LogLine) {}, func(string) {})
	stdout, _ := c.streams()
	line := []byte(strings.Repeat("x", 99) + "\n")
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := stdout.Write(line); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.finish(); err != nil {
		b.Fatal(err)
	}
}
