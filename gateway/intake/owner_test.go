package intake_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

const ownID = "0199aa00-1234-7000-8000-0123456789ab"

func FuzzOwnerOf(f *testing.F) {
	for _, key := range []string{"in/" + ownID + "/a.wav", "ev/" + ownID, ownID + "/1/a/b.txt", ownID + "/12.log.jsonl", ownID + "/1.result", ownID + "/1.result.json", ownID + "/3.outputs.json",
		"in/" + ownID, "in/" + ownID + "/", "in/" + ownID + "/a/b", "in/x/a", "ev/" + ownID + "/a", "ev/" + strings.ToUpper(ownID), "ev/0199aa00-1234-4000-8000-0123456789ab", "in/in/" + ownID + "/a",
		ownID, ownID + "/", ownID + "/1", ownID + "/1/", ownID + "/0/a", ownID + "/01/a", ownID + "/-1/a", ownID + "/+1/a", ownID + "/1/../a", ownID + "/1//a", ownID + "/1.tmp", ownID + "/1.log.jsonl.bak",
		ownID + "/99999999999999999999/a", "notes.txt", "", "/"} {
		f.Add(intake.Bucket, key)
		f.Add(intake.Results, key)
		f.Add("inbox", key)
	}
	f.Fuzz(func(t *testing.T, bucket, key string) {
		o, ok := intake.OwnerOf(bucket, key)
		if !ok {
			if o != (intake.Owner{}) {
				t.Errorf("%s/%q is nobody's, but %+v", bucket, key, o)
			}
			return
		}
		if o.Task.Time().IsZero() {
			t.Errorf("%s/%q: %q is no task's id", bucket, key, o.Task)
		}
		// Only the names that Spillway gives, to the byte.
		at := string(o.Task) + "/" + strconv.Itoa(o.Attempt)
		rest := ""
		switch o.Kind {
		case functions.StoredInputs:
			rest, _ = strings.CutPrefix(key, "in/"+string(o.Task)+"/")
			if o.Attempt != 0 || bucket != intake.Bucket || key != "ev/"+string(o.Task) && (rest == key || functions.FileName(rest) != nil) {
				t.Errorf("%s/%q is no input: %+v", bucket, key, o)
			}
		case functions.StoredLogs:
			if bucket != intake.Results || key != at+".log.jsonl" {
				t.Errorf("%s/%q is no log: %+v", bucket, key, o)
			}
		case functions.StoredOutputs:
			rest, _ = strings.CutPrefix(key, at)
			name, isFile := strings.CutPrefix(rest, "/")
			known := rest == ".result" || rest == ".result.json" || rest == ".outputs.json" || isFile && functions.OutputName(name) == nil
			if bucket != intake.Results || o.Attempt < 1 || !known {
				t.Errorf("%s/%q is no output: %+v", bucket, key, o)
			}
		default:
			t.Errorf("%s/%q: kind %q", bucket, key, o.Kind)
		}
	})
}

func TestOwnersOfWhatSpillwayStores(t *testing.T) {
	in, out := functions.StoredInputs, functions.StoredOutputs
	for _, c := range []struct {
		bucket, key string
		kind        functions.Stored
		attempt     int
	}{
		{"uploads", intake.InputKey(ownID, "a b.wav"), in, 0},
		{"uploads", "ev/" + ownID, in, 0},
		{"results", ownID + "/1/a/b.txt", out, 1},
		{"results", ownID + "/1/.hidden", out, 1},
		{"results", ownID + "/31.result", out, 31},
		{"results", ownID + "/31.result.json", out, 31},
		{"results", ownID + "/31.outputs.json", out, 31},
		{"results", ownID + "/31.log.jsonl", functions.StoredLogs, 31},
		{"uploads", ownID + "/1/a", "", 0},
		{"results", "in/" + ownID + "/a", "", 0},
		{"mine", ownID + "/1/a", "", 0},
	} {
		want := intake.Owner{}
		if c.kind != "" {
			want = intake.Owner{Task: ownID, Kind: c.kind, Attempt: c.attempt}
		}
		if got, ok := intake.OwnerOf(c.bucket, c.key); got != want || ok != (c.kind != "") {
			t.Errorf("%s/%s: %+v %v, want %+v", c.bucket, c.key, got, ok, want)
		}
	}
}

// TestInputsFromOtherTasks: a call may work on what another task left, for as
// long as that is kept.
func TestInputsFromOtherTasks(t *testing.T) {
	made := functions.TaskID(ownID).Time()
	file := func(key string) []functions.Input {
		return []functions.Input{{Name: "a", ObjectRef: functions.ObjectRef{Bucket: intake.Results, Key: key}}}
	}
	ended := functions.Task{ID: ownID, State: functions.Failed, Attempt: 2, Earlier: 1}
	purged := ended
	purged.Purged.Outputs = made.Add(time.Hour)
	for _, c := range []struct {
		name   string
		inputs []functions.Input
		task   *functions.Task
		age    time.Duration
		ok     bool
	}{
		{"of the newest attempt", file(ownID + "/2/a"), &ended, 0, true},
		{"of an attempt before a retry", file(ownID + "/1/a"), &ended, 0, false},
		{"given up", file(ownID + "/2/a"), &purged, 0, false},
		{"a log whose outputs are given up", file(ownID + "/2.log.jsonl"), &purged, 0, true},
		{"of a task that is not known yet", file(ownID + "/1/a"), nil, time.Minute, true},
		{"of a task that is not known any more", file(ownID + "/1/a"), nil, intake.Forgotten, false},
		{"a file of the user's", file("mine/a"), &purged, 0, true},
		{"a file at a URL", []functions.Input{{Name: "a", URL: "http://example.com/a"}}, &purged, 0, true},
	} {
		w, door := newWorld(functions.Spec{})
		if c.task != nil {
			w.tasks[ownID] = *c.task
		}
		_, err := door.Accept(t.Context(), intake.Call{Function: "f", Inputs: c.inputs})
		if c.task == nil { // the door's clock is the real one
			err = intake.Kept(t.Context(), w, "", c.inputs, made.Add(c.age))
		}
		var e *functions.Error
		if c.ok && err != nil || !c.ok && (!errors.As(err, &e) || e.Code != "inputs_expired") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	w, _ := newWorld(functions.Spec{})
	w.tasks[ownID] = purged
	if err := intake.Kept(t.Context(), w, ownID, file(ownID+"/1/a"), made); err != nil {
		t.Errorf("a task's own file: %v", err)
	}
}
