package taskdb

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// testID is a UUIDv7-shaped id that ascends with i.
func testID(i int) functions.TaskID {
	return functions.TaskID(fmt.Sprintf("0192%04x-%04x-7000-8000-%012x", (i>>24)&0xffff, (i>>8)&0xffff, i))
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(i int) time.Time { return start.Add(time.Duration(i) * time.Millisecond) }

func submit(i int, fn functions.Name) functions.Event {
	id := testID(i)
	return functions.Event{Kind: functions.Submit, Task: id, At: at(i), Sub: &functions.Task{
		ID: id, Function: fn, Version: 1, Source: "http", CreatedAt: at(i),
		Route: functions.Route{Policy: functions.Auto}.Decide(), Event: json.RawMessage(`{"text":"a small event of a usual size"}`),
	}}
}

func assign(i, attempt int, epoch uint64) functions.Event {
	return functions.Event{Kind: functions.Assign, Task: testID(i), At: at(i), Asg: &functions.Placement{
		Epoch: epoch, Attempt: attempt, Node: "node-1", Boot: "b1", Device: functions.CPU, Reason: "policy auto"}}
}

func finish(i, attempt int) functions.Event {
	return functions.Event{Kind: functions.Finish, Task: testID(i), At: at(i), Fin: &functions.Closing{
		Attempt: attempt, Node: "node-1", Outcome: functions.Outcome{Result: json.RawMessage(`{"ok":true}`)}}}
}

func openTest(tb testing.TB, path string) *DB {
	tb.Helper()
	db, err := Open(tb.Context(), Config{Path: path})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(db.Close)
	return db
}

// feed applies events as messages of up to 256, batches of at most batch events.
func feed(tb testing.TB, db *DB, batch int, events ...functions.Event) []functions.Change {
	tb.Helper()
	var changes []functions.Change
	seq := db.Applied()
	for len(events) > 0 {
		var records []functions.Record
		for len(records) < batch && len(events) > 0 {
			seq++
			for i := range min(256, batch, len(events)) {
				records = append(records, functions.Record{Seq: seq, Index: i, Event: events[i]})
			}
			events = events[min(256, batch, len(events)):]
		}
		got, err := db.Apply(context.Background(), records)
		if err != nil {
			tb.Fatal(err)
		}
		changes = append(changes, got...)
	}
	return changes
}

func BenchmarkApplySubmit(b *testing.B) {
	for _, batch := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			db := openTest(b, filepath.Join(b.TempDir(), "t.db"))
			b.ReportAllocs()
			for i := 0; b.Loop(); i += batch {
				b.StopTimer()
				var events []functions.Event
				for j := range batch {
					events = append(events, submit(i+j, "speech"))
				}
				b.StartTimer()
				feed(b, db, batch, events...)
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkApplyCycle applies whole lives: each batch submits new tasks, places
// those of the batch before, and ends those before them.
func BenchmarkApplyCycle(b *testing.B) {
	const batch = 256
	db := openTest(b, filepath.Join(b.TempDir(), "t.db"))
	feed(b, db, 1, functions.Event{Kind: functions.Lead, Ldr: &functions.Leader{ID: "s1"}})
	for i := 0; b.Loop(); i += batch {
		b.StopTimer()
		var events []functions.Event
		for j := range batch {
			events = append(events, submit(i+j, "speech"))
		}
		for j := range batch {
			if i >= batch {
				events = append(events, assign(i+j-batch, 1, 1))
			}
			if i >= 2*batch {
				events = append(events, finish(i+j-2*batch, 1))
			}
		}
		b.StartTimer()
		feed(b, db, 3*batch, events...)
	}
	b.ReportMetric(float64(b.N*batch*3)/b.Elapsed().Seconds(), "events/s")
	if db.VoidEvents() != 0 {
		b.Fatal("void events", db.VoidEvents())
	}
}

// rss is the resident memory of this process in MiB.
func rss() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib float64
	fmt.Sscan(rest, &kib)
	return kib / 1024
}

// BenchmarkMillion measures reads beside one million tasks. Set
// SPILLWAY_BENCH_TASKS to another number for a quick look.
func BenchmarkMillion(b *testing.B) {
	total := 1_000_000
	fmt.Sscan(os.Getenv("SPILLWAY_BENCH_TASKS"), &total)
	path := filepath.Join(b.TempDir(), "t.db")
	db := openTest(b, path)
	feed(b, db, 1, functions.Event{Kind: functions.Lead, Ldr: &functions.Leader{ID: "s1"}})
	fns := []functions.Name{"speech", "resize", "ocr", "echo"}
	sources := []string{"http", "http", "http", "s3", "cli"}
	var report strings.Builder
	began := time.Now()
	var events []functions.Event
	for i := range total {
		e := submit(i, fns[i%4])
		e.Sub.Source = sources[i%5]
		events = append(events, e)
		if len(events) == 8192 || i == total-1 {
			feed(b, db, 1024, events...)
			events = events[:0]
		}
	}
	runtime.GC()
	fmt.Fprintf(&report, "%d submitted in %v, %.0f/s, RSS %.0f MiB\n", total, time.Since(began), float64(total)/time.Since(began).Seconds(), rss())
	b.Run("live", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for _, err := range db.Live(b.Context()) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != total {
				b.Fatal("live", n)
			}
		}
		b.Logf("RSS %.0f MiB", rss())
	})
	// A tenth has run, of that a hundredth failed.
	for i := 0; i < total; i += 10 {
		events = append(events, assign(i, 1, 1))
		f := finish(i, 1)
		if i%1000 == 0 {
			f.Fin.Outcome = functions.Outcome{Failure: &functions.Failure{Class: functions.ExitError, Message: "exit 1"}, ExitCode: 1}
		}
		events = append(events, f)
	}
	began = time.Now()
	feed(b, db, 1024, events...)
	fmt.Fprintf(&report, "%d asg+fin events on old tasks in %v, %.0f/s\n", len(events), time.Since(began), float64(len(events))/time.Since(began).Seconds())
	for name, q := range map[string]functions.TaskQuery{
		"all":                      {},
		"function":                 {Function: "speech"},
		"state":                    {States: []functions.State{functions.Queued}},
		"final states":             {States: []functions.State{functions.Succeeded, functions.Failed, functions.Canceled}},
		"function and state":       {Function: "speech", States: []functions.State{functions.Succeeded}},
		"rare state":               {States: []functions.State{functions.Deciding}},
		"source":                   {Source: "s3"},
		"absent source":            {Source: "seed"},
		"node":                     {Node: "node-1"},
		"device":                   {Device: functions.CPU},
		"absent fallback":          {Fallback: "any"},
		"function, source":         {Function: "ocr", Source: "cli"},
		"time":                     {Since: at(total / 3), Until: at(total / 2)},
		"time and state":           {Since: at(total / 3), Until: at(total / 2), States: []functions.State{functions.Succeeded}},
		"id prefix":                {IDPrefix: "0192"},
		"function, absent node":    {Function: "ocr", Node: "node-9"},
		"node, rare state":         {Node: "node-1", States: []functions.State{functions.Deciding}},
		"worst: function x source": {Function: "speech", Source: "seed"},
	} {
		b.Run("list "+name, func(b *testing.B) {
			for b.Loop() {
				if _, err := db.List(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("task", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := db.Task(b.Context(), testID(i*7919%total)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reopen", func(b *testing.B) {
		for b.Loop() {
			other, err := Open(b.Context(), Config{Path: path})
			if err != nil {
				b.Fatal(err)
			}
			other.Close()
		}
	})
	size, _ := os.Stat(path)
	b.Run("report", func(b *testing.B) {
		for b.Loop() {
		}
		b.Logf("%sfile %d MiB, RSS %.0f MiB", report.String(), size.Size()>>20, rss())
	})
}
