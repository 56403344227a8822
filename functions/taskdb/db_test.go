package taskdb

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
)

// childEnv makes the test binary the process that TestKill kills.
const childEnv = "TASKDB_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := applyForEver(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// life is event seq of an endless history: a leader first, then each task is
// submitted, placed and finished.
func life(seq uint64) functions.Event {
	if seq == 1 {
		return functions.Event{Kind: functions.Lead, Ldr: &functions.Leader{ID: "s"}}
	}
	i := int(seq-2) / 3
	switch (seq - 2) % 3 {
	case 0:
		e := submit(i, "speech")
		e.Sub.Key = fmt.Sprint("key-", i)
		return e
	case 1:
		return assign(i, 1, 1)
	}
	return finish(i, 1)
}

func applyForEver(path string) error {
	db, err := Open(context.Background(), Config{Path: path})
	if err != nil {
		return err
	}
	for {
		var batch []functions.Record
		for range rand.IntN(40) + 1 {
			seq := db.Applied() + uint64(len(batch)) + 1
			batch = append(batch, functions.Record{Seq: seq, Event: life(seq)})
		}
		if _, err := db.Apply(context.Background(), batch); err != nil {
			return err
		}
		fmt.Println(db.Applied())
	}
}

// TestKill kills the writing process at any moment. Whatever it has told to be
// applied is there afterwards, and the rows say exactly what the applied
// sequence says.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	m := newModel()
	for round := range 6 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 20 + rand.IntN(60) {
			if !lines.Scan() {
				t.Fatal("the child ended by itself")
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		var told uint64
		for ok := true; ok; ok = lines.Scan() { // what was still in the pipe
			fmt.Sscan(lines.Text(), &told)
		}
		child.Wait()

		db, err := Open(t.Context(), Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if db.Applied() < told {
			t.Fatalf("round %d: applied %d after the kill, %d before", round, db.Applied(), told)
		}
		for m.applied < db.Applied() {
			m.apply(functions.Record{Seq: m.applied + 1, Event: life(m.applied + 1)})
		}
		for id, want := range m.tasks {
			if got, err := db.Task(t.Context(), id); err != nil || text(t, got) != text(t, want) {
				t.Fatalf("round %d: task %s: %v\n got %s\nwant %s", round, id, err, text(t, got), text(t, want))
			}
			if got, ok, err := db.ByKey(t.Context(), "speech", want.Key); got != id || !ok || err != nil {
				t.Fatalf("key of %s: %v %v %v", id, got, ok, err)
			}
		}
		counts, _ := db.Counts(t.Context())
		if got, want := text(t, counts), text(t, m.counts()); got != want {
			t.Fatalf("counts %s, want %s", got, want)
		}
		db.Close()
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(t.Context(), Config{Path: filepath.Join(dir, "tasks.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Apply(t.Context(), []functions.Record{{Seq: 1, Event: life(1)}}); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
}

func TestApplyKeepsLogOrder(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "t.db"))
	rec := func(seq uint64, index int) functions.Record {
		return functions.Record{Seq: seq, Index: index, Event: submit(int(seq)*10+index, "speech")}
	}
	for _, step := range []struct {
		name    string
		records []functions.Record
		gap     bool
		applied uint64
		changes int
	}{
		{"a log that begins late is a hole", []functions.Record{rec(2, 0)}, true, 0, 0},
		{"a message that begins late is a hole", []functions.Record{rec(1, 1)}, true, 0, 0},
		{"two messages", []functions.Record{rec(1, 0), rec(1, 1), rec(2, 0)}, false, 2, 3},
		{"all of them again", []functions.Record{rec(1, 0), rec(1, 1), rec(2, 0)}, false, 2, 0},
		{"a hole behind a good record", []functions.Record{rec(3, 0), rec(5, 0)}, true, 2, 0},
		{"a hole within a message", []functions.Record{rec(3, 0), rec(3, 2)}, true, 2, 0},
		{"old and new", []functions.Record{rec(2, 0), rec(3, 0)}, false, 3, 1},
		{"nothing", nil, false, 3, 0},
	} {
		changes, err := db.Apply(t.Context(), step.records)
		if errors.Is(err, ErrGap) != step.gap || (err != nil) != step.gap || len(changes) != step.changes || db.Applied() != step.applied {
			t.Errorf("%s: %d changes, %v, applied %d", step.name, len(changes), err, db.Applied())
		}
		if step.gap && !errors.Is(err, functions.ErrUnavailable) {
			t.Errorf("%s: %v has no class", step.name, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.Apply(ended, []functions.Record{rec(4, 0)}); err == nil || db.Applied() != 3 {
		t.Errorf("applied %d with an ended context: %v", db.Applied(), err)
	}
}

// TestGarbledMessageIsVoid applies what reading a damaged message gives: many
// empty events, and a task at a place that no row number is left for.
func TestGarbledMessageIsVoid(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "t.db"))
	var records []functions.Record
	for i := range maxEvents + 2 {
		records = append(records, functions.Record{Seq: 1, Index: i})
	}
	records[5].Event, records[maxEvents+1].Event = submit(1, "speech"), submit(2, "speech")
	badID := submit(3, "speech")
	badID.Task, badID.Sub.ID = "../etc", "../etc"
	records[6].Event = badID
	changes, err := db.Apply(t.Context(), append(records, functions.Record{Seq: 2, Event: submit(4, "speech")}))
	if err != nil || len(changes) != 2 || db.Applied() != 2 || db.VoidEvents() != maxEvents+1 {
		t.Errorf("%d changes, applied %d, %d void, %v", len(changes), db.Applied(), db.VoidEvents(), err)
	}
}

func TestWaitApplied(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "t.db"))
	var waits sync.WaitGroup
	woken := make(chan uint64, 64)
	for seq := range uint64(32) {
		waits.Go(func() {
			if err := db.WaitApplied(t.Context(), seq+1); err != nil {
				t.Error(err)
			}
			if db.Applied() < seq+1 {
				t.Errorf("woken for %d at %d", seq+1, db.Applied())
			}
			woken <- seq + 1
		})
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	never := make(chan error)
	go func() { never <- db.WaitApplied(ctx, 1000) }()
	for i := range 32 {
		feed(t, db, 1, submit(i, "speech"))
	}
	waits.Wait()
	if len(woken) != 32 {
		t.Fatalf("%d woken", len(woken))
	}
	cancel(stopped)
	if err := <-never; !errors.Is(err, stopped) {
		t.Fatalf("got %v, want the cause", err)
	}
	if len(db.waiters) != 0 {
		t.Fatalf("%d waiters are left", len(db.waiters))
	}
	if err := db.WaitApplied(ctx, 32); err != nil {
		t.Fatalf("what is applied needs no wait: %v", err)
	}
}

func TestFind(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "t.db"))
	for i := range 8 {
		feed(t, db, 1, submit(i, "speech"))
	}
	one := string(testID(3))
	for _, c := range []struct {
		prefix string
		class  error
		says   string
	}{
		{one, nil, ""},
		{strings.ToUpper(one), nil, ""},
		{one[:35], functions.ErrConflict, one},
		{"0192", functions.ErrConflict, "and more"},
		{"0193", functions.ErrNotFound, "0193"},
		{"", functions.ErrInvalid, ""},
		{"019200000", functions.ErrInvalid, "019200000"},
		{"xyz", functions.ErrInvalid, "xyz"},
		{"01%", functions.ErrInvalid, "01%"},
		{one + "0", functions.ErrInvalid, ""},
	} {
		got, err := db.Find(t.Context(), c.prefix)
		if !errors.Is(err, c.class) || err == nil && string(got.ID) != one || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: got %s, %v; want %v", c.prefix, got.ID, err, c.class)
		}
	}
	for _, id := range []functions.TaskID{testID(9), "", "nonsense"} {
		_, err := db.Task(t.Context(), id)
		var e *functions.Error
		if !errors.As(err, &e) || e.Code != "task_not_found" || !errors.Is(err, functions.ErrNotFound) {
			t.Errorf("unknown task %q: %v", id, err)
		}
	}
}

func TestListRefusesBadQueries(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "t.db"))
	byID := cursor{id: make([]byte, 16)}.String()
	for _, q := range []functions.TaskQuery{
		{Limit: -1}, {Limit: 1001}, {States: []functions.State{"lost"}}, {IDPrefix: "?"},
		{Cursor: "?"}, {Cursor: "AAAA"}, {Cursor: byID}, {IDPrefix: "01", Cursor: cursor{created: 1, n: 1}.String()},
	} {
		if _, err := db.List(t.Context(), q); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor{created: 5, n: 7}.String(), false)
	f.Add(cursor{id: make([]byte, 16)}.String(), true)
	f.Fuzz(func(t *testing.T, s string, byID bool) {
		c, err := parseCursor(s, byID)
		if err != nil && !errors.Is(err, functions.ErrInvalid) {
			t.Fatalf("%q: %v", s, err)
		}
		if err == nil && c != nil && !byID && c.String() != s {
			t.Fatalf("%q came back as %q", s, c)
		}
	})
}

// TestListNeverSorts holds that each walk reads its index in order: a sort
// would read all of a million rows for a page of fifty.
func TestListNeverSorts(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "t.db"))
	for _, c := range []struct{ index, where, order string }{
		{"tasks_created", "TRUE", byTime.by}, {"tasks_group", "function = 'f' AND source = 's' AND state = 1", byTime.by},
		{"tasks_node", "node = 'n'", byTime.by}, {"tasks_device", "device = 'gpu'", byTime.by},
		{"tasks_fallback", "fallback IS NOT NULL", byTime.by}, {"tasks_id", "id BETWEEN x'00' AND x'ff'", byID.by},
	} {
		after := " AND " + strings.NewReplacer("(?, ?)", "(5, 5)", "?", "x'80'").Replace(byTime.after)
		if c.order == byID.by {
			after = " AND id < x'80'"
		}
		plan := ""
		for step, err := range query(t.Context(), db.read, func(s scanner) (text string, err error) {
			var a, b, c int
			return text, s.Scan(&a, &b, &c, &text)
		}, "EXPLAIN QUERY PLAN SELECT created, n, id FROM tasks INDEXED BY "+c.index+" WHERE "+c.where+after+" ORDER BY "+c.order+" LIMIT 51") {
			if err != nil {
				t.Fatal(err)
			}
			plan += step + "\n"
		}
		if strings.Contains(plan, "TEMP B-TREE") || !strings.Contains(plan, c.index) {
			t.Errorf("%s: plan is\n%s", c.index, plan)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	newer := filepath.Join(dir, "newer.db")
	openTest(t, newer).Close()
	foreign := filepath.Join(dir, "foreign.db")
	for path, stmt := range map[string]string{newer: "UPDATE meta SET value = 2 WHERE key = 'schema'", foreign: "CREATE TABLE other (x)"} {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(stmt); err != nil {
			t.Fatal(err)
		}
		db.Close()
	}
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 400)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, code := range map[string]string{newer: "taskdb_newer", garbage: "taskdb_corrupt", dir: "taskdb_unwritable", foreign: "taskdb_foreign", "": "no_path"} {
		_, err := Open(t.Context(), Config{Path: path})
		var e *functions.Error
		if !errors.As(err, &e) || e.Code != code || code != "no_path" && e.Hint == "" {
			t.Errorf("%s: got %v, want code %s with a hint", path, err, code)
		}
	}
	made := filepath.Join(dir, "a b?c#d%41", "new folder", "t.db")
	openTest(t, made)
	if _, err := os.Stat(made); err != nil {
		t.Errorf("odd path: %v", err)
	}
}

// TestReadersSeeWholeBatches reads while a writer works: the counters, the rows
// and the applied sequence never contradict each other.
func TestReadersSeeWholeBatches(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "t.db"))
	const messages = 25
	ctx := t.Context()
	var reads sync.WaitGroup
	for range 4 {
		reads.Go(func() {
			for seq := uint64(1); seq <= messages; seq++ {
				if err := db.WaitApplied(ctx, seq); err != nil {
					t.Error(err)
					return
				}
				for i := range 3 {
					if _, err := db.Task(ctx, testID(int(seq-1)*3+i)); err != nil {
						t.Errorf("message %d, task %d: %v", seq, i, err)
						return
					}
				}
				page, err := db.List(ctx, functions.TaskQuery{Limit: 1000, States: []functions.State{functions.Queued}})
				if err != nil || len(page.Tasks)%3 != 0 {
					t.Errorf("half a message was read: %d tasks, %v", len(page.Tasks), err)
					return
				}
			}
		})
	}
	for i := range messages {
		feed(t, db, 3, submit(3*i, "speech"), submit(3*i+1, "speech"), submit(3*i+2, "speech"))
	}
	reads.Wait()
}
