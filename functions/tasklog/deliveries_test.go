package tasklog

import (
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

func TestDeliveries(t *testing.T) {
	s := startServer(t, t.TempDir())
	ctx := t.Context()
	open := func() *Deliveries {
		d, err := openLog(t, s).Deliveries(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d, other := open(), open() // two servers
	if _, known, err := d.Searched(ctx); err != nil || known {
		t.Fatalf("a new bucket knows how far it is: %v, %v", known, err)
	}
	if pending, err := d.Pending(ctx); err != nil || len(pending) > 0 {
		t.Fatalf("a new bucket holds %v, %v", pending, err)
	}
	if err := d.SetSearched(ctx, 77); err != nil {
		t.Fatal(err)
	}
	if seq, known, err := other.Searched(ctx); err != nil || !known || seq != 77 {
		t.Errorf("searched up to %d, %v, %v", seq, known, err)
	}

	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first := functions.Delivery{ID: "a", Task: newID(), EndedAt: at, URL: "https://hook", Next: at}
	again := first
	again.ID, again.EndedAt = "b", at.Add(time.Minute)
	foreign := first
	foreign.ID, foreign.Task = "c", newID()
	for _, v := range []functions.Delivery{first, again, foreign} {
		if err := d.Add(ctx, v); err != nil {
			t.Fatal(err)
		}
	}
	done := first
	done.Next, done.Delivered, done.Count = time.Time{}, at, 1
	if err := d.Put(ctx, done); err != nil {
		t.Fatal(err)
	}
	if err := other.Add(ctx, first); err != nil { // found again by another leader
		t.Fatal(err)
	}
	pending, err := other.Pending(ctx)
	if err != nil || len(pending) != 2 {
		t.Errorf("pending: %+v, %v; want the two that are not done", pending, err)
	}
	of, err := other.Of(ctx, first.Task)
	if err != nil || len(of) != 2 || of[0].ID != "b" && of[1].ID != "b" {
		t.Errorf("of the task: %+v, %v", of, err)
	}
	for _, v := range of {
		if v.ID == "a" && !v.Delivered.Equal(at) {
			t.Errorf("adding it again has undone it: %+v", v)
		}
	}
	if _, err := d.Of(ctx, "*"); err == nil {
		t.Error("a wildcard is taken for a task")
	}
}
