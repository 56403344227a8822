package seed

import (
	"context"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// counting is a store that reads what it is given and keeps how much it was, and
// how large the heap grew meanwhile.
type counting struct {
	*world
	size int64
	heap uint64
}

func (c *counting) Put(_ context.Context, bucket, key string, r io.Reader, _ int64, kind string) (functions.ObjectRef, error) {
	buf := make([]byte, 1<<20)
	for {
		n, err := r.Read(buf)
		if c.size>>25 != (c.size+int64(n))>>25 { // each 32 MiB
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			c.heap = max(c.heap, m.HeapAlloc)
		}
		c.size += int64(n)
		if err == io.EOF {
			return functions.ObjectRef{Bucket: bucket, Key: key, Size: c.size, ContentType: kind}, nil
		}
		if err != nil {
			return functions.ObjectRef{}, err
		}
	}
}

func (c *counting) Head(context.Context, string, string, string, int64, int64) (functions.ObjectRef, []byte, error) {
	return functions.ObjectRef{}, nil, functions.ErrNotFound
}

func (c *counting) Delete(context.Context, functions.ObjectRef) error { return nil }

func (c *counting) Append(context.Context, string, ...functions.Event) (uint64, error) {
	return 0, functions.ErrUnavailable
}

func (c *counting) ByKey(context.Context, functions.Name, string) (functions.TaskID, bool, error) {
	return "", false, nil
}

func (c *counting) QueueLength(functions.Name) int { return 0 }

// Submit takes the task, which the world's own Submit never makes.
func (c *counting) Submit(_ context.Context, e functions.Event) (uint64, error) {
	t, err := functions.Accept(e, 1)
	c.tasks[t.ID] = t
	return 1, err
}

func (c *counting) Latest(name functions.Name) (functions.Function, error) {
	return functions.Function{Spec: functions.Spec{Name: name}, Version: 1}, nil
}

func (c *counting) Version(name functions.Name, _ int) (functions.Function, error) {
	return c.Latest(name)
}

// zeros gives n bytes without keeping any.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.n)
	clear(p[:n])
	z.n -= n
	return int(n), nil
}

// A form's file goes to the store as it comes, through the real door: 300 MiB of
// it pass a heap that the test keeps under 48 MiB above where it began.
func TestAFileOfAnySizeStreamsThrough(t *testing.T) {
	const size, room = 300 << 20, 48 << 20
	c := &counting{world: newWorld()}
	api := New(Config{
		Door:      intake.New(intake.Config{Log: c, Functions: c, Tasks: c, Queue: c, Objects: c}),
		Functions: c, Tasks: tasksOf{c.world}, Nodes: c, Control: c, Progress: c,
	})
	body, w := io.Pipe()
	form := multipart.NewWriter(w)
	go func() {
		part, err := form.CreateFormFile("file", "huge.txt")
		if err == nil {
			_, err = io.Copy(part, io.MultiReader(strings.NewReader("plain text, then nothing but zeros "), &zeros{size}))
		}
		if err == nil {
			err = form.WriteField("source_type", "document")
		}
		if err == nil {
			err = form.Close()
		}
		w.CloseWithError(err)
	}()
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/ingest/file", body) // no Content-Length
	r.Header.Set("Content-Type", form.FormDataContentType())
	rec := httptest.NewRecorder()
	if err := api.ingestFile(rec, r); err != nil {
		t.Fatal(err)
	}
	var got accepted
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || rec.Code != 200 {
		t.Fatalf("%d %s: %v", rec.Code, rec.Body, err)
	}
	task := c.tasks[got.TaskID]
	if c.size < size || len(task.Inputs) != 1 || task.Inputs[0].Size != c.size {
		t.Errorf("stored %s, the task has %+v", functions.Bytes(c.size), task.Inputs)
	}
	grown := int64(c.heap) - int64(before.HeapAlloc)
	t.Logf("%d bytes passed, the heap grew by at most %d", c.size, grown)
	if c.heap == 0 || grown > room {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}
