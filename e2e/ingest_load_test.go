package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// identity is one content of one key, as S3 tells them apart: by version where
// the bucket keeps them, else by ETag.
type identity struct{ bucket, key, mark string }

func identityOf(bucket, key, version, etag string) identity {
	if bucket == vault {
		return identity{bucket, key, version}
	}
	return identity{bucket, key, strings.Trim(etag, `"`)}
}

// puts is what the writers know: what the store said that it took.
type puts struct {
	mu      sync.Mutex // guards the fields below
	acked   map[identity]bool
	gone    map[identity]bool // acknowledged once, then overwritten or deleted
	uploads map[functions.TaskID]bool
	failed  int // operations that ended in an error: the store may hold them or not
	silent  int // uploads whose client never said complete
}

func newPuts() *puts {
	return &puts{acked: map[identity]bool{}, gone: map[identity]bool{}, uploads: map[functions.TaskID]bool{}}
}

func (l *puts) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// writer puts objects as programs outside do, one after the other.
type writer struct {
	rig  *rig
	log  *puts
	rng  *rand.Rand
	name string
	n    int        // objects so far
	mine []identity // in the inbox, still there as far as it knows
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		// An operation under way when the load ends is finished: what it did is known.
		op, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		if err := w.step(op); err != nil {
			w.log.note(func() { w.log.failed++ })
			wait(ctx, 50*time.Millisecond)
		}
		cancel()
		wait(ctx, time.Duration(w.rng.IntN(30))*time.Millisecond)
	}
}

func (w *writer) step(ctx context.Context) error {
	w.n++
	body := fmt.Appendf(nil, `{"from":%q,"n":%d,"pad":%q}`, w.name, w.n, strings.Repeat("x", w.rng.IntN(4000)))
	fresh := fmt.Sprintf("%s/%05d %%+ü", w.name, w.n)
	switch dice := w.rng.IntN(100); {
	case dice < 35:
		return w.put(ctx, inbox, fresh, body)
	case dice < 55: // new versions of a few keys
		return w.put(ctx, vault, fmt.Sprintf("%s/%d", w.name, w.rng.IntN(5)), body)
	case dice < 57: // in parts
		return w.put(ctx, inbox, fresh, append(bytes.Repeat([]byte{'p'}, 5<<20), body...))
	case dice < 61:
		return w.copy(ctx, fresh)
	case dice < 65:
		return w.overwrite(ctx, body)
	case dice < 68:
		return w.remove(ctx)
	default:
		return w.upload(ctx, fmt.Sprintf("%s-%d.json", w.name, w.n), body)
	}
}

func (w *writer) put(ctx context.Context, bucket, key string, body []byte) error {
	info, err := w.rig.s3.PutObject(ctx, bucket, key, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{PartSize: 5 << 20})
	if err != nil {
		return err
	}
	w.keep(identityOf(bucket, key, info.VersionID, info.ETag))
	return nil
}

func (w *writer) keep(id identity) {
	w.log.note(func() { w.log.acked[id] = true })
	if id.bucket == inbox {
		w.mine = append(w.mine, id)
	}
}

// take gives up one of the writer's objects: whatever becomes of the operation
// that follows, its key is not used again.
func (w *writer) take() (identity, bool) {
	if len(w.mine) == 0 {
		return identity{}, false
	}
	i := w.rng.IntN(len(w.mine))
	id := w.mine[i]
	w.mine = slices.Delete(w.mine, i, i+1)
	w.log.note(func() { delete(w.log.acked, id); w.log.gone[id] = true })
	return id, true
}

func (w *writer) overwrite(ctx context.Context, body []byte) error {
	if id, ok := w.take(); ok {
		return w.put(ctx, inbox, id.key, body)
	}
	return nil
}

func (w *writer) remove(ctx context.Context) error {
	if id, ok := w.take(); ok {
		return w.rig.s3.RemoveObject(ctx, inbox, id.key, minio.RemoveObjectOptions{})
	}
	return nil
}

func (w *writer) copy(ctx context.Context, to string) error {
	if len(w.mine) == 0 {
		return nil
	}
	from := w.mine[w.rng.IntN(len(w.mine))]
	info, err := w.rig.s3.CopyObject(ctx, minio.CopyDestOptions{Bucket: inbox, Object: to}, minio.CopySrcOptions{Bucket: inbox, Object: from.key})
	if err == nil {
		w.keep(identityOf(inbox, to, info.VersionID, info.ETag))
	}
	return err
}

// upload sends a file by a presigned request; half the clients never say that
// it is there.
func (w *writer) upload(ctx context.Context, name string, body []byte) error {
	var session struct {
		ID     functions.TaskID           `json:"id"`
		Upload functions.PresignedRequest `json:"upload"`
	}
	ask := map[string]any{"function": onUploaded, "name": name, "size": len(body), "content_type": "application/json"}
	if err := w.rig.srv.JSON(ctx, http.MethodPost, "/v1/uploads", ask, &session); err != nil {
		return err
	}
	if err := w.rig.srv.Put(ctx, session.Upload, body); err != nil {
		return err
	}
	w.log.note(func() { w.log.uploads[session.ID] = true })
	if w.rng.IntN(2) == 0 {
		w.log.note(func() { w.log.silent++ })
		return nil
	}
	return w.rig.srv.JSON(ctx, http.MethodPost, "/v1/uploads/"+string(session.ID)+"/complete", nil, nil)
}

// contents lists what the store holds now: every version where it keeps them,
// and the uploaded files by their tasks.
func (r *rig) contents(ctx context.Context, t *testing.T) (objects map[identity]bool, uploads map[functions.TaskID]bool) {
	t.Helper()
	objects, uploads = map[identity]bool{}, map[functions.TaskID]bool{}
	for _, bucket := range []string{inbox, vault, "uploads"} {
		for o := range r.s3.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: bucket == vault}) {
			if o.Err != nil {
				t.Fatalf("list %s: %v", bucket, o.Err)
			}
			if bucket != "uploads" {
				objects[identityOf(bucket, o.Key, o.VersionID, o.ETag)] = true
			} else if rest, ok := strings.CutPrefix(o.Key, "in/"); ok {
				id, _, _ := strings.Cut(rest, "/")
				uploads[functions.TaskID(id)] = true
			}
		}
	}
	return objects, uploads
}

// state of the tasks beside that of the store.
type comparison struct {
	stored, uploaded int // objects, files of uploads
	missing          []string
	doubled          []string
	lost             []string // acknowledged, and not there
	waiting          int      // tasks that have not ended
	ended            map[string]int
	attempts         map[int]int
}

// compare reads both sides: every stored object has one task, and so has every
// uploaded file.
func (r *rig) compare(ctx context.Context, t *testing.T, l *puts) comparison {
	t.Helper()
	objects, uploads := r.contents(ctx, t)
	c := comparison{stored: len(objects), uploaded: len(uploads), ended: map[string]int{}, attempts: map[int]int{}}
	tasks := map[identity]int{}
	ofUpload := map[functions.TaskID]string{}
	for _, task := range listTasks(ctx, t, r.srv) {
		state := task.Status
		switch {
		case task.Source == "upload" && (state == string(functions.AwaitingUpload) || state == string(functions.Expired)):
			ofUpload[task.ID] = state
			continue // nobody sent its file, or it is told below
		case !task.Ended():
			c.waiting++
		case task.Failure != nil:
			state += " " + string(task.Failure.Class)
		}
		c.ended[string(task.Function)+" "+state]++
		c.attempts[len(task.Attempts)]++
		if task.Source == "upload" {
			ofUpload[task.ID] = state
			continue
		}
		in := task.Inputs[0]
		id := identityOf(in.Bucket, in.Key, in.VersionID, in.ETag)
		if tasks[id]++; tasks[id] > 1 {
			c.doubled = append(c.doubled, fmt.Sprintf("%+v %s", id, task.ID))
		}
		if task.Ended() && state != string(functions.Succeeded) && objects[id] {
			t.Errorf("task %s of the stored object %+v ended as %s: %+v", task.ID, id, state, task.Failure)
		}
		if task.Ended() && task.Failure != nil && task.Failure.Class != functions.InputGone {
			t.Errorf("task %s ended as %s: %+v", task.ID, state, task.Failure)
		}
	}
	for id := range objects {
		if tasks[id] == 0 {
			c.missing = append(c.missing, fmt.Sprintf("%+v", id))
		}
	}
	for id := range uploads {
		if s := ofUpload[id]; s != string(functions.Succeeded) {
			c.missing = append(c.missing, fmt.Sprintf("upload %s is %q", id, s))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.acked {
		if !objects[id] {
			c.lost = append(c.lost, fmt.Sprintf("%+v", id))
		}
	}
	for id := range l.uploads {
		if !uploads[id] {
			c.lost = append(c.lost, "upload "+string(id))
		}
	}
	return c
}

// verify waits until all is quiet and compares; then it waits for two more
// listings, in which nothing may come twice.
func (r *rig) verify(t *testing.T, l *puts) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var c comparison
	began := time.Now()
	for deadline := began.Add(2 * time.Minute); time.Now().Before(deadline); wait(ctx, 500*time.Millisecond) {
		if c = r.compare(ctx, t, l); len(c.missing) == 0 && c.waiting == 0 {
			break
		}
	}
	quiet := time.Since(began)
	if r.hooks != nil {
		r.hooks.replay(t, 2)
	}
	wait(ctx, 2*rigReconcile+500*time.Millisecond)
	c = r.compare(ctx, t, l)
	t.Logf("stored %d objects and %d uploads (acknowledged %d and %d, %d of them never said complete; overwritten or deleted %d; operations failed %d): missing %d, doubled %d, lost %d; quiet after %s",
		c.stored, c.uploaded, len(l.acked), len(l.uploads), l.silent, len(l.gone), l.failed, len(c.missing), len(c.doubled), len(c.lost), quiet.Round(100*time.Millisecond))
	for _, state := range slices.Sorted(maps.Keys(c.ended)) {
		t.Logf("  %s: %d", state, c.ended[state])
	}
	t.Logf("  tasks by attempts: %v", c.attempts)
	for what, which := range map[string][]string{"missing": c.missing, "doubled": c.doubled, "acknowledged and lost": c.lost} {
		if len(which) > 0 {
			t.Errorf("%d %s, such as %s", len(which), what, strings.Join(which[:min(5, len(which))], "; "))
		}
	}
	if c.waiting > 0 {
		t.Errorf("%d tasks did not end", c.waiting)
	}
	if c.stored == 0 || c.uploaded == 0 {
		t.Error("nothing was stored: the test shows nothing")
	}
}

// listTasks pages through every task and fails on one that is listed twice.
func listTasks(ctx context.Context, t *testing.T, srv *harness.Server) []harness.Task {
	t.Helper()
	var tasks []harness.Task
	listed := map[functions.TaskID]bool{}
	for cursor := ""; ; {
		var page struct {
			Tasks []harness.Task
			Next  string `json:"next_cursor"`
		}
		if err := srv.JSON(ctx, http.MethodGet, "/v1/tasks?limit=500&cursor="+cursor, nil, &page); err != nil {
			t.Fatalf("list: %v", err)
		}
		for _, task := range page.Tasks {
			if listed[task.ID] {
				t.Errorf("task %s is listed twice", task.ID)
			}
			listed[task.ID] = true
		}
		tasks = append(tasks, page.Tasks...)
		if cursor = page.Next; cursor == "" {
			return tasks
		}
	}
}
