package tasklog

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway/spillway/functions"
)

func TestEncodeRoundTrip(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)
	text := "two\nlines and \u2028"
	events := []functions.Event{
		submission(newID()),
		{Kind: functions.Assign, Task: newID(), At: at, Asg: &functions.Placement{Epoch: 7, Attempt: 1, Node: "n", Boot: "b", Device: functions.GPU, GPUs: []string{"GPU-1"}, Reason: "why"}},
		{Kind: functions.Finish, Task: newID(), At: at, Fin: &functions.Closing{Attempt: 1, Node: "n", Outcome: functions.Outcome{ResultText: &text, Result: []byte("{\n \"a\": 1\n}")}}},
		{Kind: functions.Release, Task: newID(), At: at, Rel: &functions.Verdict{Epoch: 7, Attempt: 1, To: functions.Queued, NotBefore: at, Fallback: functions.GPUHost}},
		{Kind: functions.Control, Task: newID(), At: at, Ctl: &functions.Request{Verb: functions.Cancel, By: "me"}},
		{Kind: functions.Lead, At: at, Ldr: &functions.Leader{ID: "s1"}},
	}
	var lines [][]byte
	for _, e := range events {
		line, err := encode(e)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	events[2].Fin.Outcome.Result = []byte(`{"a":1}`) // JSON is made compact
	records, err := decode(nil, 42, bytes.Join(lines, newline))
	if err != nil || len(records) != len(events) {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, r := range records {
		if r.Seq != 42 || r.Index != i {
			t.Errorf("record %d is %d.%d", i, r.Seq, r.Index)
		}
		if d := cmp.Diff(events[i], r.Event); d != "" {
			t.Errorf("event %d: %s", i, d)
		}
	}
}

// FuzzDecode: whatever is in the log, each reader gets the same records, at
// least one, and numbers them without a hole.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"k":"ldr","at":"2026-01-01T00:00:00Z","ldr":{"id":"a"}}` + "\n" + `{"k":"sub"}`))
	f.Add([]byte("\n\n{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		records, _ := decode(nil, 3, data)
		if len(records) == 0 {
			t.Fatal("no record")
		}
		for i, r := range records {
			if r.Seq != 3 || r.Index != i {
				t.Fatalf("record %d is %d.%d", i, r.Seq, r.Index)
			}
		}
	})
}

// FuzzReply: no answer of a node brings a server down.
func FuzzReply(f *testing.F) {
	f.Add([]byte(`{"error":{"class":"conflict","code":"c","message":"m"}}`))
	f.Add([]byte(`{"value":{"lines":[{"n":1}]}}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var part logPart
		_ = decodeReply(data, &part)
	})
}
