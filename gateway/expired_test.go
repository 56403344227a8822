package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// TestWhatIsNotKept: what a task left in the store is answered with when and why
// it is gone, never with a link that leads nowhere; what the log itself holds
// stays.
func TestWhatIsNotKept(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	ref := func(key string, size int64) functions.ObjectRef {
		return functions.ObjectRef{Bucket: "results", Key: key, Size: size}
	}
	purge := func(id functions.TaskID, what ...functions.Stored) string {
		at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		w.apply(functions.Event{Kind: functions.Control, Task: id, At: at, Ctl: &functions.Request{Verb: functions.Purge, Stored: what}})
		return at.Format(time.RFC3339)
	}
	gone := func(method, path, code, since string) {
		t.Helper()
		rec := w.do(t, method, path, "")
		p := decode[struct {
			Code, Detail, Hint string
			Retryable          bool
		}](t, rec)
		if rec.Code != 410 || p.Code != code || !strings.Contains(p.Detail, since) || p.Hint == "" || p.Retryable || rec.Header().Get("Location") != "" {
			t.Errorf("%s %s: %d %+v, want 410 %s since %s", method, path, rec.Code, p, code, since)
		}
	}

	large := w.submit(t)
	w.start(large, functions.CPU)
	result, log := ref("r", 20<<20), ref("l", 9)
	w.finish(large, functions.Outcome{ResultRef: &result, Log: &log, Outputs: []functions.Output{{Name: "a/b.txt", ObjectRef: ref("o", 3)}}})
	at := "/v1/tasks/" + string(large)
	if rec := w.do(t, "GET", at+"/result", ""); rec.Code != 303 {
		t.Fatalf("before: %d %s", rec.Code, rec.Body)
	}
	tag := w.do(t, "GET", at, "").Header().Get("ETag")
	since := purge(large, functions.StoredOutputs, functions.StoredLogs)
	gone("GET", at+"/result", "results_expired", since)
	gone("GET", at+"/outputs/a/b.txt", "results_expired", since)
	gone("GET", at+"/logs", "logs_expired", since)
	gone("GET", at+"/logs?follow=1", "logs_expired", since)
	rec := w.do(t, "GET", at, "", "If-None-Match", tag)
	v := decode[struct {
		Status  string
		Purged  functions.Purged
		Outputs []struct {
			Name        string
			DownloadURL string `json:"download_url"`
		}
	}](t, rec)
	if v.Status != "succeeded" || v.Purged.Outputs.Format(time.RFC3339) != since || !v.Purged.Inputs.IsZero() || len(v.Outputs) != 1 || v.Outputs[0].DownloadURL != "" {
		t.Errorf("shown as %s", rec.Body)
	}

	small := w.submit(t)
	w.start(small, functions.CPU)
	w.finish(small, functions.Outcome{Result: json.RawMessage(`{"a":1}`)})
	purge(small, functions.StoredInputs, functions.StoredOutputs)
	if rec := w.do(t, "GET", "/v1/tasks/"+string(small)+"/result", ""); rec.Code != 200 || rec.Body.String() != `{"a":1}` {
		t.Errorf("a result in the log: %d %s", rec.Code, rec.Body)
	}

	failed := w.submit(t)
	w.start(failed, functions.CPU)
	w.finish(failed, functions.Outcome{Failure: &functions.Failure{Class: functions.ExitError, Message: "exit 1"}, Log: &log})
	since = purge(failed, functions.StoredInputs)
	gone("POST", "/v1/tasks/"+string(failed)+"/retry", "inputs_expired", since)

	// Run again after its log was given up: the old log has no date any more, the
	// new one is there.
	again := w.submit(t)
	w.start(again, functions.CPU)
	w.finish(again, functions.Outcome{Failure: &functions.Failure{Class: functions.ExitError, Message: "exit 1"}, Log: &log})
	purge(again, functions.StoredLogs)
	at = "/v1/tasks/" + string(again)
	if rec := w.do(t, "POST", at+"/retry", ""); rec.Code != 200 {
		t.Fatalf("retry: %d %s", rec.Code, rec.Body)
	}
	w.start(again, functions.CPU)
	fresh := ref("l2", 9)
	w.objects["results/l2"] = object{[]byte(`{"n":1,"text":"fresh"}`), ""}
	w.finish(again, functions.Outcome{Log: &fresh})
	gone("GET", at+"/logs?attempt=1", "logs_expired", "any more")
	if rec := w.do(t, "GET", at+"/logs", ""); rec.Code != 200 || rec.Body.String() != "fresh\n" {
		t.Errorf("the new log: %d %s", rec.Code, rec.Body)
	}
}

// TestRetryNeedsTheFilesOfOtherTasks, too, where it works on them.
func TestRetryNeedsTheFilesOfOtherTasks(t *testing.T) {
	w := newWorld(t, nil)
	w.run = nil
	first := w.submit(t)
	w.start(first, functions.CPU)
	w.finish(first, functions.Outcome{})
	second := w.submit(t)
	w.start(second, functions.CPU)
	w.finish(second, functions.Outcome{Failure: &functions.Failure{Class: functions.ExitError, Message: "exit 1"}})
	task := w.get(second)
	task.Inputs = []functions.Input{{Name: "a", ObjectRef: functions.ObjectRef{Bucket: "results", Key: string(first) + "/1/a"}}}
	w.tasks[second] = task
	w.apply(functions.Event{Kind: functions.Control, Task: first, At: time.Now(), Ctl: &functions.Request{Verb: functions.Purge, Stored: []functions.Stored{functions.StoredOutputs}}})
	rec := w.do(t, "POST", "/v1/tasks/"+string(second)+"/retry", "")
	if p := decode[struct{ Code string }](t, rec); rec.Code != 410 || p.Code != "inputs_expired" || w.get(second).State != functions.Failed {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}
