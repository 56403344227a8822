package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// chained is a task as far as this story looks at it, and the record that it was
// given.
type chained struct {
	ID       functions.TaskID `json:"id"`
	Function functions.Name   `json:"function"`
	Status   string           `json:"status"`
	Source   string           `json:"source"`
	Parent   functions.TaskID `json:"parent"`
	Depth    int              `json:"depth"`
}

// endRecord is what AWS's clients know a destination to get.
type endRecord struct {
	RequestContext struct {
		RequestID string `json:"requestId"`
		Condition string `json:"condition"`
	} `json:"requestContext"`
	RequestPayload struct {
		N int `json:"n"`
	} `json:"requestPayload"`
}

// TestChains hands the records of ends on, each exactly once, although the server is
// killed in the middle: successes to b, failures to c and to a bucket.
func TestChains(t *testing.T) {
	srv := server(t, "--runtime", "simulated")
	for _, name := range []string{"b", "c"} {
		deploySpec(t, srv, "name: "+name+"\nimage: any\nlimits: {cpus: 0.1}\n")
	}
	deploySpec(t, srv, `
name: a
image: any
limits: {cpus: 0.1}
on_success: [{function: b}]
on_failure: [{function: c}, {bucket: ends, prefix: failed/}]
`)
	const each = 15
	begun := map[functions.TaskID]int{} // to the exit code
	for i := range 2 * each {
		exit := i % 2 * 3
		id, err := srv.Submit(t.Context(), "a", fmt.Sprintf(`{"n":%d,"sleep_ms":%d,"exit":%d}`, i, 50*i, exit), nil)
		if err != nil {
			t.Fatal(err)
		}
		begun[id] = exit
	}
	eventually(t, 30*time.Second, "some have come to b and c", func() bool {
		return len(tasksOf(t, srv, "b")) > 2 && len(tasksOf(t, srv, "c")) > 2
	})
	srv.Kill()
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	store, err := harness.S3(strings.TrimPrefix(srv.Store, "http://"), srv.S3Key, srv.S3Pass, nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "all have come", func() bool {
		return allEnded(tasksOf(t, srv, "b"), each) && allEnded(tasksOf(t, srv, "c"), each) && len(keysOf(t, store, "ends")) >= each
	})
	time.Sleep(2 * time.Second) // for what might come twice
	for fn, want := range map[string]struct {
		exit      int
		condition string
	}{"b": {0, "Success"}, "c": {3, "RetriesExhausted"}} {
		from := map[functions.TaskID]bool{}
		for _, got := range tasksOf(t, srv, fn) {
			exit, known := begun[got.Parent]
			if !known || exit != want.exit || from[got.Parent] || got.Source != "chain" || got.Depth != 1 {
				t.Errorf("%+v is not the one task for the end of its parent", got)
			}
			from[got.Parent] = true
			var r endRecord // a simulated function gives back its event
			if err := srv.JSON(t.Context(), http.MethodGet, "/v1/tasks/"+string(got.ID)+"/result", nil, &r); err != nil {
				t.Error(err)
			}
			if r.RequestContext.RequestID != string(got.Parent) || r.RequestContext.Condition != want.condition || r.RequestPayload.N%2*3 != exit {
				t.Errorf("%s got the record %+v", got.ID, r)
			}
		}
		if len(from) != each {
			t.Errorf("%d tasks of %s, want %d", len(from), fn, each)
		}
	}
	keys := keysOf(t, store, "ends")
	if len(keys) != each {
		t.Errorf("%d objects, want %d", len(keys), each)
	}
	for id, exit := range begun {
		if exit == 0 {
			continue
		}
		if r, err := readRecord(t.Context(), store, "failed/"+string(id)+".json"); err != nil || r.RequestContext.RequestID != string(id) {
			t.Errorf("the object of %s: %+v, %v", id, r, err)
		}
	}
}

func tasksOf(t *testing.T, srv *harness.Server, fn string) []chained {
	t.Helper()
	var list struct {
		Tasks []chained `json:"tasks"`
	}
	if err := srv.JSON(t.Context(), http.MethodGet, "/v1/tasks?limit=200&function="+fn, nil, &list); err != nil {
		t.Fatal(err)
	}
	return list.Tasks
}

func allEnded(tasks []chained, n int) bool {
	for _, task := range tasks {
		if !functions.State(task.Status).Final() {
			return false
		}
	}
	return len(tasks) >= n
}

func keysOf(t *testing.T, store *minio.Client, bucket string) (keys []string) {
	t.Helper()
	for o := range store.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func readRecord(ctx context.Context, store *minio.Client, key string) (r endRecord, err error) {
	o, err := store.GetObject(ctx, "ends", key, minio.GetObjectOptions{})
	if err != nil {
		return r, err
	}
	defer o.Close()
	b, err := io.ReadAll(o)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}
