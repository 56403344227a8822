package taskdb

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
)

// model is the projection as one would write it without a database.
type model struct {
	applied, epoch, void uint64
	tasks                map[functions.TaskID]functions.Task
	order                []functions.TaskID // as accepted
	keys                 map[string]functions.TaskID
}

func newModel() *model {
	return &model{tasks: map[functions.TaskID]functions.Task{}, keys: map[string]functions.TaskID{}}
}

func (m *model) apply(r functions.Record) (change *functions.Change) {
	m.applied = r.Seq
	e := r.Event
	switch e.Kind {
	case functions.Lead:
		m.epoch = r.Seq
		return nil
	case functions.Submit:
		t, err := functions.Accept(e, r.Seq)
		key := string(t.Function) + "\x00" + t.Key
		if _, known := m.tasks[t.ID]; err != nil || known || t.Key != "" && m.keys[key] != "" {
			m.void++
			return nil
		}
		if t.Key != "" {
			m.keys[key] = t.ID
		}
		m.tasks[t.ID] = t
		m.order = append(m.order, t.ID)
		return &functions.Change{Seq: r.Seq, Kind: e.Kind, Task: t}
	}
	before, known := m.tasks[e.Task]
	after, err := before.Apply(e, m.epoch, r.Seq)
	if !known || err != nil {
		m.void++
		return nil
	}
	m.tasks[e.Task] = after
	return &functions.Change{Seq: r.Seq, Kind: e.Kind, Before: before.State, Task: after}
}

func (m *model) counts() functions.Counts {
	c := functions.Counts{}
	for _, t := range m.tasks {
		if c[t.Function] == nil {
			c[t.Function] = map[functions.State]int64{}
		}
		c[t.Function][t.State]++
	}
	return c
}

func (m *model) waiting() map[functions.Device]int64 {
	w := map[functions.Device]int64{}
	for _, t := range m.tasks {
		if d := t.Route.Device; t.State == functions.Queued {
			if t.Only != "" {
				d = t.Only
			}
			w[d]++
		}
	}
	return w
}

func (m *model) live() (ids []functions.TaskID) {
	var ts []functions.Task
	for _, id := range m.order {
		if t := m.tasks[id]; !t.State.Final() {
			ts = append(ts, t)
		}
	}
	slices.SortStableFunc(ts, func(a, b functions.Task) int {
		if c := a.QueuedAt.Compare(b.QueuedAt); c != 0 {
			return c
		}
		return int(a.Seq) - int(b.Seq)
	})
	for _, t := range ts {
		ids = append(ids, t.ID)
	}
	return ids
}

const modelTasks = 12

// anyEvent draws events that are often right and often stale, late or repeated.
func anyEvent(epoch uint64) *rapid.Generator[functions.Event] {
	return rapid.Custom(func(t *rapid.T) functions.Event {
		i := rapid.IntRange(0, modelTasks-1).Draw(t, "task")
		attempt := rapid.IntRange(0, 3).Draw(t, "attempt")
		ep := rapid.SampledFrom([]uint64{epoch, epoch, epoch, epoch - 1, epoch + 1}).Draw(t, "epoch")
		e := functions.Event{Task: testID(i), At: at(rapid.IntRange(0, 50).Draw(t, "at"))}
		switch rapid.SampledFrom([]string{"sub", "sub", "asg", "asg", "asg", "fin", "fin", "rel", "ctl", "ldr", "odd"}).Draw(t, "kind") {
		case "sub":
			at := e.At
			e = submit(i, rapid.SampledFrom([]functions.Name{"speech", "ocr"}).Draw(t, "function"))
			e.At, e.Sub.CreatedAt = at, at
			e.Sub.Key = rapid.SampledFrom([]string{"", "", "k1", "k2"}).Draw(t, "key")
			e.Sub.Route.Device = rapid.SampledFrom([]functions.Device{functions.CPU, functions.GPU}).Draw(t, "wanted")
			e.Sub.Source = rapid.SampledFrom([]string{"http", "s3"}).Draw(t, "source")
			e.Sub.State = rapid.SampledFrom([]functions.State{"", functions.AwaitingUpload, functions.Succeeded}).Draw(t, "state")
		case "asg":
			node := rapid.SampledFrom([]functions.NodeID{"n1", "n2"}).Draw(t, "node")
			e.Kind, e.Asg = functions.Assign, &functions.Placement{Epoch: ep, Attempt: attempt, Node: node, Boot: "b", Device: rapid.SampledFrom([]functions.Device{functions.CPU, functions.GPU}).Draw(t, "device")}
		case "fin":
			e.Kind, e.Fin = functions.Finish, &functions.Closing{Attempt: attempt, Outcome: functions.Outcome{ExitCode: i}}
			if rapid.Bool().Draw(t, "failed") {
				e.Fin.Outcome.Failure = &functions.Failure{Class: functions.ExitError, Message: "<exit 1 & so on>"}
			}
		case "rel":
			e.Kind, e.Rel = functions.Release, &functions.Verdict{Epoch: ep, Attempt: attempt, To: rapid.SampledFrom(functions.States).Draw(t, "to"),
				Fallback: rapid.SampledFrom([]functions.Class{"", functions.GPUHost}).Draw(t, "fallback"), Failure: &functions.Failure{Class: functions.NodeLost}}
		case "ctl":
			e.Kind, e.Ctl = functions.Control, &functions.Request{Verb: rapid.SampledFrom([]functions.Verb{functions.Cancel, functions.Retry, functions.Uploaded, "dance"}).Draw(t, "verb"),
				Device: rapid.SampledFrom([]functions.Device{"", functions.CPU, functions.GPU}).Draw(t, "on")}
		case "ldr":
			e = functions.Event{Kind: functions.Lead, Ldr: &functions.Leader{ID: "s"}}
		default:
			e.Kind = rapid.SampledFrom([]functions.Kind{"", functions.Assign, functions.Submit, "new"}).Draw(t, "odd kind")
		}
		return e
	})
}

// TestProjectionEqualsModel feeds any history in any batches, with repeats,
// holes and restarts, and compares everything that can be read.
func TestProjectionEqualsModel(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		path := filepath.Join(dir, fmt.Sprint(runs, ".db"))
		cache := functions.Bytes(rapid.SampledFrom([]int{1, 5000, 1 << 20}).Draw(t, "cache"))
		open := func() *DB {
			db, err := Open(context.Background(), Config{Path: path, CacheBytes: cache})
			if err != nil {
				t.Fatal(err)
			}
			return db
		}
		db := open()
		defer func() { db.Close(); os.Remove(path) }()

		m := newModel()
		var history []functions.Record
		accepted := map[functions.TaskID]int{}
		var void uint64
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			var batch []functions.Record
			var want []functions.Change
			if n := len(history); n > 0 && rapid.Bool().Draw(t, "repeat") {
				batch = append(batch, history[rapid.IntRange(0, n-1).Draw(t, "from"):]...)
			}
			for range rapid.IntRange(1, 5).Draw(t, "messages") {
				seq := m.applied + 1
				for i := range rapid.IntRange(1, 6).Draw(t, "events") {
					r := functions.Record{Seq: seq, Index: i, Event: anyEvent(m.epoch).Draw(t, "event")}
					epoch := m.epoch
					batch, history = append(batch, r), append(history, r)
					if c := m.apply(r); c != nil {
						want = append(want, *c)
						checkMove(t, *c, accepted)
					}
					if m.epoch < epoch {
						t.Fatalf("epoch went from %d to %d", epoch, m.epoch)
					}
				}
			}
			if rapid.Bool().Draw(t, "hole first") {
				hole := functions.Record{Seq: m.applied + 2, Event: anyEvent(m.epoch).Draw(t, "event")}
				before := db.Applied()
				if _, err := db.Apply(context.Background(), append(slices.Clone(batch), hole)); err == nil || db.Applied() != before {
					t.Fatalf("a hole was applied: %v, applied %d, before %d", err, db.Applied(), before)
				}
			}
			got, err := db.Apply(context.Background(), batch)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(text(t, want), text(t, got)); d != "" {
				t.Fatalf("changes differ (-want +got):\n%s", d)
			}
			if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
				void += db.VoidEvents()
				db.Close()
				db = open()
			}
			compare(t, db, m)
		}
		if got := void + db.VoidEvents(); got != m.void {
			t.Fatalf("%d void events, want %d", got, m.void)
		}
	})
}

// checkMove holds the promises that every history must keep.
func checkMove(t *rapid.T, c functions.Change, results map[functions.TaskID]int) {
	if c.Before.Final() && (c.Kind != functions.Control || c.Task.State != functions.Queued || c.Before == functions.Succeeded) {
		t.Fatalf("%s left the final state %s for %s by %s", c.Task.ID, c.Before, c.Task.State, c.Kind)
	}
	if c.Before != "" && !functions.CanMove(c.Before, c.Task.State) {
		t.Fatalf("%s moved from %s to %s", c.Task.ID, c.Before, c.Task.State)
	}
	if c.Task.State == functions.Succeeded {
		if results[c.Task.ID]++; results[c.Task.ID] > 1 || c.Kind != functions.Finish {
			t.Fatalf("%s has result %d by %s", c.Task.ID, results[c.Task.ID], c.Kind)
		}
	}
}

func compare(t *rapid.T, db *DB, m *model) {
	ctx := context.Background()
	if db.Applied() != m.applied || db.Epoch() != m.epoch {
		t.Fatalf("applied %d epoch %d, want %d %d", db.Applied(), db.Epoch(), m.applied, m.epoch)
	}
	for i := range modelTasks {
		want, known := m.tasks[testID(i)]
		got, err := db.Task(ctx, testID(i))
		if known != (err == nil) {
			t.Fatalf("task %d: known %v, error %v", i, known, err)
		}
		if known && text(t, want) != text(t, got) {
			t.Fatalf("task differs (-want +got):\n%s", cmp.Diff(text(t, want), text(t, got)))
		}
	}
	for _, fn := range []functions.Name{"speech", "ocr"} {
		for _, key := range []string{"k1", "k2", ""} {
			got, ok, err := db.ByKey(ctx, fn, key)
			if want := m.keys[string(fn)+"\x00"+key]; got != want || ok != (want != "") || err != nil {
				t.Fatalf("key %s %s: got %s %v %v, want %s", fn, key, got, ok, err, want)
			}
		}
	}
	counts, _ := db.Counts(ctx)
	if d := cmp.Diff(m.counts(), counts); d != "" {
		t.Fatalf("counts differ (-want +got):\n%s", d)
	}
	waiting, _ := db.Waiting(ctx)
	if d := cmp.Diff(m.waiting(), waiting); d != "" {
		t.Fatalf("waiting differs (-want +got):\n%s", d)
	}
	var live []functions.TaskID
	for task, err := range db.Live(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		live = append(live, task.ID)
	}
	if d := cmp.Diff(m.live(), live); d != "" {
		t.Fatalf("live differs (-want +got):\n%s", d)
	}
	q := anyQuery().Draw(t, "query")
	want := m.list(q)
	for pages := 0; ; pages++ {
		page, err := db.List(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		n := min(q.Limit, len(want))
		if d := cmp.Diff(want[:n], ids(page.Tasks)); d != "" {
			t.Fatalf("page %d of %+v differs (-want +got):\n%s", pages, q, d)
		}
		want = want[n:]
		if (page.Next == "") != (len(want) == 0) {
			t.Fatalf("page %d of %+v: next %q with %d left", pages, q, page.Next, len(want))
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return
		}
	}
}

func anyQuery() *rapid.Generator[functions.TaskQuery] {
	return rapid.Custom(func(t *rapid.T) functions.TaskQuery {
		q := functions.TaskQuery{
			Function: rapid.SampledFrom([]functions.Name{"", "", "speech", "ocr", "none"}).Draw(t, "function"),
			States:   rapid.SliceOfNDistinct(rapid.SampledFrom(functions.States), 0, 3, rapid.ID).Draw(t, "states"),
			Node:     rapid.SampledFrom([]functions.NodeID{"", "", "n1"}).Draw(t, "node"),
			Device:   rapid.SampledFrom([]functions.Device{"", "", functions.GPU}).Draw(t, "device"),
			Source:   rapid.SampledFrom([]string{"", "", "s3"}).Draw(t, "source"),
			Fallback: rapid.SampledFrom([]functions.Class{"", "", "any", functions.GPUHost, functions.GPULost}).Draw(t, "fallback"),
			IDPrefix: rapid.SampledFrom([]string{"", "", "0192", string(testID(3))}).Draw(t, "prefix"),
			Limit:    rapid.IntRange(1, 5).Draw(t, "limit"),
		}
		if rapid.Bool().Draw(t, "timed") {
			q.Since, q.Until = at(rapid.IntRange(0, 30).Draw(t, "since")), at(rapid.IntRange(20, 60).Draw(t, "until"))
		}
		return q
	})
}

func (m *model) list(q functions.TaskQuery) []functions.TaskID {
	var hits []functions.Task
	for _, id := range slices.Backward(m.order) {
		t := m.tasks[id]
		last := functions.Attempt{}
		if a := t.Last(); a != nil {
			last = *a
		}
		if (q.Function == "" || q.Function == t.Function) && (len(q.States) == 0 || slices.Contains(q.States, t.State)) &&
			(q.Node == "" || q.Node == last.Node) && (q.Device == "" || q.Device == last.Device) && (q.Source == "" || q.Source == t.Source) &&
			(q.Fallback == "" || q.Fallback == t.Fallback || q.Fallback == "any" && t.Fallback != "") &&
			strings.HasPrefix(string(id), q.IDPrefix) && !t.CreatedAt.Before(q.Since) && (q.Until.IsZero() || t.CreatedAt.Before(q.Until)) {
			hits = append(hits, t)
		}
	}
	slices.SortStableFunc(hits, func(a, b functions.Task) int {
		if q.IDPrefix != "" {
			return strings.Compare(string(b.ID), string(a.ID))
		}
		return b.CreatedAt.Compare(a.CreatedAt)
	})
	return ids(hits)
}

func ids(ts []functions.Task) []functions.TaskID {
	out := []functions.TaskID{}
	for _, t := range ts {
		out = append(out, t.ID)
	}
	return out
}

func text(t interface{ Fatal(...any) }, v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
