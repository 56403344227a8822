package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// onBothStores runs a test on the embedded store and on MinIO.
func onBothStores(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("embedded store", func(t *testing.T) { test(t, newRig(t, rigOptions{})) })
	t.Run("MinIO", func(t *testing.T) { test(t, newRig(t, rigOptions{minio: true})) })
}

// put stores one object as a program outside does.
func (r *rig) put(t *testing.T, bucket, key, body string) identity {
	t.Helper()
	info, err := r.s3.PutObject(t.Context(), bucket, key, strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
	if err != nil {
		t.Fatalf("put %s/%s: %v", bucket, key, err)
	}
	return identityOf(bucket, key, info.VersionID, info.ETag)
}

// tasksOf are the tasks that objects started.
func (r *rig) tasksOf(t *testing.T) map[identity][]harness.Task {
	t.Helper()
	m := map[identity][]harness.Task{}
	for _, task := range listTasks(t.Context(), t, r.srv) {
		if task.Source == "s3" {
			in := task.Inputs[0]
			id := identityOf(in.Bucket, in.Key, in.VersionID, in.ETag)
			m[id] = append(m[id], task)
		}
	}
	return m
}

// ends waits for the one task of an object and checks how it ends; class is
// empty for success.
func (r *rig) ends(t *testing.T, id identity, class functions.Class) harness.Task {
	t.Helper()
	var task harness.Task
	eventually(t, time.Minute, fmt.Sprintf("the task of %+v ends", id), func() bool {
		tasks := r.tasksOf(t)[id]
		if len(tasks) == 1 {
			task = tasks[0]
		}
		return len(tasks) == 1 && task.Ended()
	})
	switch {
	case class == "" && task.Status != string(functions.Succeeded):
		t.Errorf("the task of %+v ended as %s: %+v", id, task.Status, task.Failure)
	case class != "" && (task.Failure == nil || task.Failure.Class != class):
		t.Errorf("the task of %+v ended as %s with %+v, want %s", id, task.Status, task.Failure, class)
	}
	return task
}

// TestReportsAgainAndAgain delivers each of MinIO's own reports twenty times
// more, shuffled, after some of the objects were overwritten or deleted.
func TestReportsAgainAndAgain(t *testing.T) {
	r := newRig(t, rigOptions{minio: true, seed: 1})
	l := newPuts()
	for n := range 30 {
		l.acked[r.put(t, inbox, fmt.Sprintf("%d", n), fmt.Sprint("first ", n))] = true
		l.acked[r.put(t, vault, fmt.Sprintf("%d", n%10), fmt.Sprint("version ", n))] = true
	}
	eventually(t, time.Minute, "each has run", func() bool {
		c := r.compare(t.Context(), t, l)
		return len(c.missing) == 0 && c.waiting == 0
	})
	for n := range 10 {
		r.put(t, inbox, fmt.Sprintf("%d", n), fmt.Sprint("second ", n))
		if err := r.s3.RemoveObject(t.Context(), inbox, fmt.Sprintf("%d", 10+n), minio.RemoveObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	clear(l.acked)
	eventually(t, time.Minute, "the new contents have run", func() bool {
		c := r.compare(t.Context(), t, l)
		return len(c.missing) == 0 && c.waiting == 0
	})
	const want = 30 + 30 + 10 // objects, versions, second contents
	if n := len(r.tasksOf(t)); n != want {
		t.Errorf("%d contents have run, want %d", n, want)
	}
	r.hooks.replay(t, 20)
	pause(t, 2*rigReconcile)
	for id, tasks := range r.tasksOf(t) {
		if len(tasks) != 1 {
			t.Errorf("%+v has %d tasks", id, len(tasks))
		}
	}
	if n := len(r.tasksOf(t)); n != want {
		t.Errorf("after the replays %d contents have run, want %d", n, want)
	}
}

// TestHookAndStrangers sends the hook what the store did not. Nothing of it
// starts a task or reads what nobody watches.
func TestHookAndStrangers(t *testing.T) {
	srv := serverWith(t, harness.Config{Args: []string{"--runtime", "simulated", "--reconcile", "1h"}, Env: []string{"SPILLWAY_STORE_WEBHOOK_TOKEN=" + hookToken}})
	deploySpec(t, srv, watcher(fromInbox, inbox))
	s3, err := harness.S3(strings.TrimPrefix(srv.Store, "http://"), srv.S3Key, srv.S3Pass, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s3.MakeBucket(t.Context(), "private", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, bucket := range []string{"private", "results", "uploads"} {
		if _, err := s3.PutObject(t.Context(), bucket, "in/there", strings.NewReader("x"), 1, minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	event := func(bucket, key string) string {
		return fmt.Sprintf(`{"EventName":"s3:ObjectCreated:Put","Key":"%s/%s","Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":%q},"object":{"key":%q,"size":1,"eTag":"x"}}}]}`, bucket, key, bucket, key)
	}
	for _, to := range targets {
		for _, c := range []struct {
			name, auth, body string
			status           int
		}{
			{"no token", "", event(inbox, "x"), 403},
			{"wrong token", "Bearer wrong", event(inbox, "x"), 403},
			{"token without Bearer", hookToken, event(inbox, "x"), 403},
			{"empty probe", "Bearer " + hookToken, "", 200},
			{"empty object", "Bearer " + hookToken, "{}", 200},
			{"no JSON", "Bearer " + hookToken, "ObjectCreated", 200},
			{"watched bucket, no such object", "Bearer " + hookToken, event(inbox, "forged"), 200},
			{"bucket that nobody watches", "Bearer " + hookToken, event("private", "in%2Fthere"), 200},
			{"bucket that is not there", "Bearer " + hookToken, event("nosuch", "x"), 200},
			{"bucket name of no bucket", "Bearer " + hookToken, event("../../etc", "passwd"), 200},
			{"our own results", "Bearer " + hookToken, event("results", "in%2Fthere"), 200},
			{"upload of no task", "Bearer " + hookToken, event("uploads", "in%2Fthere"), 200},
			{"key that is no key", "Bearer " + hookToken, event(inbox, "%zz"), 200},
		} {
			t.Run(to.name+" "+c.name, func(t *testing.T) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.Gateway+to.path, strings.NewReader(c.body))
				if err != nil {
					t.Fatal(err)
				}
				if c.auth != "" {
					req.Header.Set("Authorization", c.auth)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != c.status {
					t.Errorf("answered %d, want %d", resp.StatusCode, c.status)
				}
			})
		}
	}
	if tasks := listTasks(t.Context(), t, srv); len(tasks) != 0 {
		t.Errorf("started %+v", tasks)
	}
}

// TestOddKeys stores objects under names that are easy to get wrong. What the
// store takes, under whatever name, runs once, with a file name that is one.
func TestOddKeys(t *testing.T) {
	onBothStores(t, func(t *testing.T, r *rig) {
		var long []string
		for range 9 {
			long = append(long, strings.Repeat("l", 99))
		}
		for name, key := range map[string]string{
			"spaces":         "a b/ c .txt",
			"percent":        "100%/50%25.txt",
			"plus":           "a+b/c+d e",
			"unicode":        "ünïcode/日本語 ☃.txt",
			"emoji":          "🎬/🎵.mp3",
			"900 bytes":      strings.Join(long, "/"),
			"query":          "a?b=c&d#e",
			"quotes":         `"a" 'b'`,
			"dots in names":  "..dots/in../...",
			"parent":         "inside/../outside",
			"ends in parent": "inside/..",
			"double slash":   "double//slash",
			"leading slash":  "/leading",
			"tab":            "a\tb",
			"backslash":      `a\b`,
			"null version":   "null",
			"pipe":           "s3|inbox|x",
			"zero bytes":     "empty",
		} {
			body := name
			if key == "empty" {
				body = ""
			}
			if _, err := r.s3.PutObject(t.Context(), inbox, key, strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{}); err != nil {
				t.Logf("%s: the store refuses the key: %v", name, err)
			}
		}
		objects, _ := r.contents(t.Context(), t)
		if len(objects) < 14 {
			t.Errorf("the store took %d of them only", len(objects))
		}
		for id := range objects {
			task := r.ends(t, id, "")
			if in := task.Inputs[0]; functions.FileName(in.Name) != nil {
				t.Errorf("%+v: the input is %+v", id, in)
			}
		}
		for id := range r.tasksOf(t) {
			if !objects[id] {
				t.Errorf("%+v has run and is not an object", id)
			}
		}
	})
}

// TestObjectChangesBeforeItIsStaged deletes and overwrites objects whose tasks
// wait. A task runs the content that it was accepted for, or says that this is
// gone.
func TestObjectChangesBeforeItIsStaged(t *testing.T) {
	onBothStores(t, func(t *testing.T, r *rig) {
		deploySpec(t, r.srv, watcher(fromInbox, inbox, "concurrency: 1"))
		deploySpec(t, r.srv, watcher(fromVault, vault, "concurrency: 1"))
		var before []functions.TaskID // the others wait for them
		for _, fn := range []string{fromInbox, fromVault} {
			id, err := r.srv.Submit(t.Context(), fn, `{"sleep_ms":600000}`, nil)
			if err != nil {
				t.Fatal(err)
			}
			before = append(before, id)
		}
		kept := r.put(t, inbox, "kept", "kept")
		deleted := r.put(t, inbox, "deleted", "to be deleted")
		replaced := r.put(t, inbox, "replaced", "first")
		older := r.put(t, vault, "replaced", "first")
		hidden := r.put(t, vault, "deleted", "to be hidden")
		eventually(t, time.Minute, "all wait", func() bool { return len(r.tasksOf(t)) == 5 })
		for id, tasks := range r.tasksOf(t) {
			if tasks[0].Status != string(functions.Queued) {
				t.Fatalf("the task of %+v is %s: it must wait for this test", id, tasks[0].Status)
			}
		}
		second := r.put(t, inbox, "replaced", "second")
		newer := r.put(t, vault, "replaced", "second")
		for _, id := range []identity{deleted, hidden} {
			if err := r.s3.RemoveObject(t.Context(), id.bucket, id.key, minio.RemoveObjectOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range before {
			if err := r.srv.JSON(t.Context(), http.MethodPost, "/v1/tasks/"+string(id)+"/cancel", nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		for id, class := range map[identity]functions.Class{
			kept: "", deleted: functions.InputGone, replaced: functions.InputGone, second: "", older: "", newer: "", hidden: "",
		} {
			r.ends(t, id, class)
		}
	})
}

// TestWrongChecksumIsRefused announces one file's checksum and sends another.
func TestWrongChecksumIsRefused(t *testing.T) {
	onBothStores(t, func(t *testing.T, r *rig) {
		right, wrong := []byte("the right file"), []byte("another file..")
		sum := sha256.Sum256(right)
		var session struct {
			ID     functions.TaskID           `json:"id"`
			Upload functions.PresignedRequest `json:"upload"`
		}
		ask := map[string]any{"function": onUploaded, "name": "a.txt", "size": len(right), "content_type": "text/plain", "sha256": hex.EncodeToString(sum[:])}
		if err := r.srv.JSON(t.Context(), http.MethodPost, "/v1/uploads", ask, &session); err != nil {
			t.Fatal(err)
		}
		if err := r.srv.Put(t.Context(), session.Upload, wrong); err == nil || !strings.Contains(err.Error(), "400") {
			t.Errorf("the wrong file was answered with %v, want 400", err)
		}
		_, _, body, err := r.srv.Call(t.Context(), http.MethodPost, "/v1/uploads/"+string(session.ID)+"/complete", nil, nil)
		if err == nil {
			t.Errorf("completed without the right file: %s", body)
		}
		if err := r.srv.Put(t.Context(), session.Upload, right); err != nil {
			t.Fatal(err)
		}
		if err := r.srv.JSON(t.Context(), http.MethodPost, "/v1/uploads/"+string(session.ID)+"/complete", nil, nil); err != nil {
			t.Fatal(err)
		}
		task, err := r.srv.WaitTask(t.Context(), session.ID)
		if err != nil || task.Status != string(functions.Succeeded) {
			t.Errorf("ended as %s: %+v (err %v)", task.Status, task.Failure, err)
		}
		if err := r.srv.Put(t.Context(), session.Upload, bytes.ToUpper(right)); err == nil {
			t.Error("the file of an upload was overwritten")
		}
	})
}
