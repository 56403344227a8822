package taskdb

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/functions"
)

func TestLiveInParts(t *testing.T) {
	const n = 5*partDocs + 7 // and 7919 has no factor in common with it
	db := openTest(t, filepath.Join(t.TempDir(), "t.db"))
	var events []functions.Event
	for i := range n {
		e := submit(i, "speech")
		e.At = at(i * 7919 % n)
		events = append(events, e)
	}
	feed(t, db, 1024, events...)

	i := 0
	for task, err := range db.Live(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !task.QueuedAt.Equal(at(i)) || len(task.Event) == 0 {
			t.Fatalf("task %d of the queue is %+v", i, task)
		}
		i++
	}
	if i != n {
		t.Errorf("%d tasks, want %d", i, n)
	}

	i = 0
	for range db.Live(t.Context()) { // who stops reading leaves no goroutine behind
		if i++; i == partDocs+1 {
			break
		}
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	enough := errors.New("enough")
	var last error
	i = 0
	for _, err := range db.Live(ctx) {
		if i++; i == 3 {
			cancel(enough)
		}
		last = err
	}
	if !errors.Is(last, enough) && !errors.Is(last, context.Canceled) {
		t.Errorf("a read that was broken off ends with %v", last)
	}
}

func TestLiveTellsOfDamage(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "t.db"))
	feed(t, db, 8, submit(0, "speech"), submit(1, "speech"), submit(2, "speech"))
	if _, err := db.w.conn.ExecContext(t.Context(), `UPDATE tasks SET doc = '{' WHERE id = (SELECT id FROM tasks LIMIT 1 OFFSET 1)`); err != nil {
		t.Fatal(err)
	}
	good, bad := 0, 0
	for _, err := range db.Live(t.Context()) {
		if err != nil {
			bad++
		} else {
			good++
		}
	}
	if good != 1 || bad != 1 {
		t.Errorf("%d tasks and %d errors, want the first task and the end", good, bad)
	}
}
