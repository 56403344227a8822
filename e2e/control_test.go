package e2e

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// TestCancelAndRetry stops a running container on request, and runs the ended
// task again under its id.
func TestCancelAndRetry(t *testing.T) {
	needShell(t, "")
	srv := server(t)
	deploySpec(t, srv, shell("naps", "if [ \"$TASK_ATTEMPT\" = 1 ]; then sleep 600; fi; echo \"{\\\"attempt\\\":$TASK_ATTEMPT}\" > $TASK_RESULT_FILE"))
	id, err := srv.Submit(t.Context(), "naps", `{}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	status := func(want string) func() bool {
		return func() bool {
			task, err := srv.Task(t.Context(), id)
			return err == nil && task.Status == want
		}
	}
	eventually(t, time.Minute, "it runs", status("running"))
	for range 2 { // asking twice is asking once
		if _, _, body, err := srv.Call(t.Context(), http.MethodPost, "/v1/tasks/"+string(id)+"/cancel", nil, nil); err != nil {
			t.Fatalf("cancel: %v: %s", err, body)
		}
	}
	eventually(t, time.Minute, "it is canceled", status(string(functions.Canceled)))
	eventually(t, time.Minute, "its container is gone", func() bool { return len(containers(t, nodeName(t))) == 0 })

	if err := srv.JSON(t.Context(), http.MethodPost, "/v1/tasks/"+string(id)+"/retry", nil, nil); err != nil {
		t.Fatalf("retry: %v", err)
	}
	task, err := srv.WaitTask(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if task.Status != string(functions.Succeeded) || len(task.Attempts) != 2 || task.ID != id {
		t.Errorf("after the retry: %s, %d attempts; want success of the second", task.Status, len(task.Attempts))
	}
}

// TestRetriesOfTheFunction counts the user's own retries, with their delays.
func TestRetriesOfTheFunction(t *testing.T) {
	needShell(t, "")
	srv := server(t)
	deploySpec(t, srv, shell("flaky", "[ \"$TASK_ATTEMPT\" = 3 ] || exit 75", "retries: {max: 2, backoff: 100ms}"))
	task := run(t, srv, "flaky", `{}`, nil)
	if task.Status != string(functions.Succeeded) || len(task.Attempts) != 3 {
		t.Errorf("%s after %d attempts: %+v; want success of the third", task.Status, len(task.Attempts), task.Failure)
	}
}

// TestFollow reads the log and the events of a task while it runs.
func TestFollow(t *testing.T) {
	needShell(t, "")
	srv := server(t)
	deploySpec(t, srv, shell("talks", "echo one; sleep 1; echo '[50%] halfway'; sleep 1; echo two >&2"))
	id, err := srv.Submit(t.Context(), "talks", `{}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan string, 1)
	go func() { events <- stream(t, srv, "/v1/tasks/"+string(id)+"/events", "text/event-stream") }()
	log := stream(t, srv, "/v1/tasks/"+string(id)+"/logs?follow=1", "text/plain")
	for _, want := range []string{"one", "halfway", "two"} {
		if strings.Count(log, want) != 1 {
			t.Errorf("the followed log holds %q %d times, want once:\n%s", want, strings.Count(log, want), log)
		}
	}
	got := <-events
	for _, want := range []string{"event: state", `"succeeded"`, "event: progress", "0.5", "event: end"} {
		if !strings.Contains(got, want) {
			t.Errorf("the events do not hold %q:\n%s", want, got)
		}
	}
	_, _, kept, err := srv.Call(t.Context(), http.MethodGet, "/v1/tasks/"+string(id)+"/logs?tail=1", nil, nil)
	if err != nil || !bytes.Contains(kept, []byte("two")) || bytes.Contains(kept, []byte("one")) {
		t.Errorf("the last line of the kept log is %q (err %v), want two", kept, err)
	}
}

// stream reads an answer until the server ends it.
func stream(t *testing.T, srv *harness.Server, path, accept string) string {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.Gateway+path, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	var b strings.Builder
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		b.WriteString(s.Text() + "\n")
	}
	return b.String()
}
