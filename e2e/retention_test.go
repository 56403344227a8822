package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
)

// TestRetention keeps files for seconds: those of ended tasks vanish and the API
// says so, those of a task that waits stay, and it then succeeds.
func TestRetention(t *testing.T) {
	config := filepath.Join(t.TempDir(), "spillway.yaml")
	const keep = "retention: {uploads: 2s, results: 2s, logs: 2s, grace: 1s, every: 500ms}\n"
	if err := os.WriteFile(config, []byte(keep), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := server(t, "--config", config, "--runtime", "simulated", "--max-tasks", "1")
	deploySpec(t, srv, "name: f\nimage: any\n")
	st, err := objects.New(objects.Config{Endpoint: srv.Store, AccessKey: srv.S3Key, SecretKey: srv.S3Pass, Embedded: true})
	if err != nil {
		t.Fatal(err)
	}
	// has reports whether the store holds objects of a task.
	has := func(bucket string, id functions.TaskID) bool {
		for ref, err := range st.List(t.Context(), bucket, "", "") {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(ref.Key, string(id)) {
				return true
			}
		}
		return false
	}
	upload := func(event map[string]any) functions.TaskID {
		t.Helper()
		var session struct {
			ID     functions.TaskID
			Upload functions.PresignedRequest
		}
		ask := map[string]any{"function": "f", "name": "a.txt", "size": 5, "content_type": "text/plain", "event": event}
		if err := srv.JSON(t.Context(), "POST", "/v1/uploads", ask, &session); err != nil {
			t.Fatal(err)
		}
		if err := harness.PutPresigned(t.Context(), session.Upload, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := srv.JSON(t.Context(), "POST", "/v1/uploads/"+string(session.ID)+"/complete", nil, nil); err != nil {
			t.Fatal(err)
		}
		return session.ID
	}
	ended := func(id functions.TaskID, want functions.State) {
		t.Helper()
		if task, err := srv.WaitTask(t.Context(), id); err != nil || task.Status != string(want) {
			t.Fatalf("%s ended as %s with %+v, want %s (err %v)", id, task.Status, task.Failure, want, err)
		}
	}
	done := upload(map[string]any{"say": []string{"a line"}, "output": "o.txt"})
	ended(done, functions.Succeeded)
	failed := upload(map[string]any{"exit": 64})
	ended(failed, functions.Failed)
	blocker, err := srv.Submit(t.Context(), "f", `{"sleep_ms": 600000}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	waiting := upload(map[string]any{"say": []string{"at last"}})

	eventually(t, time.Minute, "the files of ended tasks vanish", func() bool {
		return !has(objects.Uploads, done) && !has(objects.Results, done) && !has(objects.Uploads, failed)
	})
	if !has(objects.Uploads, waiting) {
		t.Error("the upload of a task that waits is gone")
	}
	for _, c := range []struct{ method, path, code string }{
		{"GET", "/v1/tasks/" + string(done) + "/outputs/o.txt", "results_expired"},
		{"GET", "/v1/tasks/" + string(done) + "/logs", "logs_expired"},
		{"POST", "/v1/tasks/" + string(failed) + "/retry", "inputs_expired"},
	} {
		var p *harness.Problem
		if err := srv.JSON(t.Context(), c.method, c.path, nil, nil); !errors.As(err, &p) || p.Status != 410 || p.Code != c.code {
			t.Errorf("%s %s: %v, want 410 %s", c.method, c.path, err, c.code)
		}
	}
	var shown struct {
		Status string
		Purged functions.Purged
	}
	if err := srv.JSON(t.Context(), "GET", "/v1/tasks/"+string(done), nil, &shown); err != nil || shown.Status != "succeeded" ||
		shown.Purged.Inputs.IsZero() || shown.Purged.Outputs.IsZero() || shown.Purged.Logs.IsZero() {
		t.Errorf("shown as %+v, %v", shown, err)
	}
	for _, path := range []string{"/v1/tasks/" + string(done) + "/result", "/api/v1/status/" + string(done), "/api/v1/status/" + string(failed)} {
		if err := srv.JSON(t.Context(), "GET", path, nil, nil); err != nil {
			t.Errorf("%s, which needs no file: %v", path, err)
		}
	}
	if _, _, figures, err := srv.Call(t.Context(), "GET", "/metrics", nil, nil); err != nil || !strings.Contains(string(figures), `spillway_retention_objects_deleted_total{kind="inputs"} 2`) {
		t.Errorf("the figures do not count two inputs (%v)", err)
	}
	if err := srv.JSON(t.Context(), "POST", "/v1/tasks/"+string(blocker)+"/cancel", nil, nil); err != nil {
		t.Fatal(err)
	}
	ended(waiting, functions.Succeeded)
	eventually(t, time.Minute, "the files of the task that waited vanish too", func() bool {
		return !has(objects.Uploads, waiting) && !has(objects.Results, waiting)
	})
}
