package intake_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

// world is a log, its projection and a store in memory. A submit whose key is
// taken is void, as in the real projection.
type world struct {
	fn      functions.Function
	tasks   map[functions.TaskID]functions.Task
	keys    map[string]functions.TaskID
	objects map[string][]byte
	queued  int
	seq     uint64
	before  func() // runs in the middle of a submit
	err     error
}

func newWorld(spec functions.Spec) (*world, *intake.Door) {
	spec.Name, spec.Image = "f", "i"
	w := &world{fn: functions.Function{Spec: spec.WithDefaults(), Version: 3}, tasks: map[functions.TaskID]functions.Task{},
		keys: map[string]functions.TaskID{}, objects: map[string][]byte{}}
	return w, intake.New(intake.Config{Log: w, Functions: w, Tasks: w, Queue: w, Objects: w})
}

func (w *world) Submit(_ context.Context, e functions.Event) (uint64, error) {
	if before := w.before; before != nil {
		w.before = nil
		before()
	}
	if w.err != nil {
		return 0, w.err
	}
	w.seq++
	t, err := functions.Accept(e, w.seq)
	if err != nil {
		return 0, err
	}
	if _, used := w.keys[t.Key]; t.Key == "" || !used {
		w.tasks[t.ID] = t
		if t.Key != "" {
			w.keys[t.Key] = t.ID
		}
	}
	return w.seq, nil
}

func (w *world) Latest(n functions.Name) (functions.Function, error) {
	if n != w.fn.Name {
		return functions.Function{}, functions.NotFound("function_not_found", "no %s", n)
	}
	return w.fn, nil
}

func (w *world) Version(n functions.Name, v int) (functions.Function, error) {
	if v != w.fn.Version {
		return functions.Function{}, functions.NotFound("function_not_found", "no version %d", v)
	}
	return w.Latest(n)
}

func (w *world) Task(_ context.Context, id functions.TaskID) (functions.Task, error) {
	t, ok := w.tasks[id]
	if !ok {
		return t, functions.NotFound("task_not_found", "no %s", id)
	}
	return t, nil
}

func (w *world) ByKey(_ context.Context, _ functions.Name, key string) (functions.TaskID, bool, error) {
	id, ok := w.keys[key]
	return id, ok, nil
}

func (w *world) WaitApplied(_ context.Context, seq uint64) error {
	if seq > w.seq {
		return functions.ErrTimeout
	}
	return nil
}

func (w *world) QueueLength(functions.Name) int { return w.queued }

func (w *world) Put(_ context.Context, bucket, key string, r io.Reader, size int64, kind string) (functions.ObjectRef, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return functions.ObjectRef{}, err
	}
	w.objects[bucket+"/"+key] = b
	return functions.ObjectRef{Bucket: bucket, Key: key, Size: int64(len(b)), ContentType: kind}, nil
}

func (w *world) Stat(_ context.Context, bucket, key, _ string) (functions.ObjectRef, error) {
	b, ok := w.objects[bucket+"/"+key]
	if !ok {
		return functions.ObjectRef{}, functions.NotFound("no_such_object", "no %s", key)
	}
	return functions.ObjectRef{Bucket: bucket, Key: key, Size: int64(len(b))}, nil
}

func (w *world) GetRange(_ context.Context, ref functions.ObjectRef, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(w.objects[ref.Bucket+"/"+ref.Key][off : off+n])), nil
}

func TestAcceptFillsTheTask(t *testing.T) {
	w, door := newWorld(functions.Spec{Priority: 7, Device: functions.Never})
	ticket, err := door.Accept(t.Context(), intake.Call{Function: "f", Event: json.RawMessage(`{}`), Content: content.JSON(), Source: "http", CallID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	got := ticket.Task
	if got.ID.Validate() != nil || got.State != functions.Queued || got.Version != 3 || got.Priority != 7 || got.Route.Policy != functions.Never ||
		got.Seq != 1 || got.QueuedAt.IsZero() || ticket.Replayed {
		t.Errorf("task %+v", got)
	}
	if _, ok := w.tasks[got.ID]; !ok {
		t.Error("not in the log")
	}
	ticket, err = door.Accept(t.Context(), intake.Call{Function: "f", Version: 3, Policy: functions.Required, AwaitUpload: true, Priority: -4})
	if err != nil || ticket.Task.State != functions.AwaitingUpload || ticket.Task.Route.Policy != functions.Required || ticket.Task.Priority != -4 {
		t.Errorf("task %+v, err %v; want the call's own policy and priority", ticket.Task, err)
	}
}

func TestAcceptRefuses(t *testing.T) {
	two := []functions.Input{{Name: "a"}, {Name: "a"}}
	for _, c := range []struct {
		name  string
		call  intake.Call
		class error
		code  string
	}{
		{"an unknown function", intake.Call{Function: "g"}, functions.ErrNotFound, "function_not_found"},
		{"an unknown version", intake.Call{Function: "f", Version: 1}, functions.ErrNotFound, "function_not_found"},
		{"a bad name", intake.Call{Function: "../f"}, functions.ErrInvalid, "bad_name"},
		{"a bad policy", intake.Call{Function: "f", Policy: "tpu"}, functions.ErrInvalid, "bad_policy"},
		{"a broken event", intake.Call{Function: "f", Event: json.RawMessage(`{`)}, functions.ErrInvalid, "bad_json"},
		{"broken params", intake.Call{Function: "f", Params: json.RawMessage(`nope`)}, functions.ErrInvalid, "bad_json"},
		{"large metadata", intake.Call{Function: "f", Metadata: json.RawMessage(`"` + strings.Repeat("x", 70000) + `"`)}, functions.ErrTooLarge, "body_too_large"},
		{"a path as input", intake.Call{Function: "f", Inputs: []functions.Input{{Name: "../a"}}}, functions.ErrInvalid, "bad_file_name"},
		{"two inputs of one name", intake.Call{Function: "f", Inputs: two}, functions.ErrInvalid, "duplicate_input"},
		{"a foreign id", intake.Call{Function: "f", ID: "x"}, functions.ErrInvalid, "bad_task_id"},
		{"a bad key", intake.Call{Function: "f", Key: "a\nb"}, functions.ErrInvalid, "bad_header"},
		{"a full queue", intake.Call{Function: "f"}, functions.ErrThrottled, "queue_full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, door := newWorld(functions.Spec{MaxQueue: 2})
			if errors.Is(c.class, functions.ErrThrottled) {
				w.queued = 2
			}
			_, err := door.Accept(t.Context(), c.call)
			var e *functions.Error
			if !errors.Is(err, c.class) || !errors.As(err, &e) || e.Code != c.code {
				t.Errorf("got %v (%+v), want %v %s", err, e, c.class, c.code)
			}
			if len(w.tasks)+len(w.objects) != 0 {
				t.Errorf("left %d tasks and %d objects", len(w.tasks), len(w.objects))
			}
		})
	}
}

func TestLargeEventIsAnObject(t *testing.T) {
	w, door := newWorld(functions.Spec{})
	event := json.RawMessage(`"` + strings.Repeat("x", int(functions.InlineLimit)) + `"`)
	ticket, err := door.Accept(t.Context(), intake.Call{Function: "f", Event: event})
	if err != nil || ticket.Task.Event != nil || ticket.Task.EventRef == nil {
		t.Fatalf("%+v %v", ticket.Task, err)
	}
	if !bytes.Equal(w.objects["uploads/ev/"+string(ticket.Task.ID)], event) {
		t.Error("the event is not in the store")
	}
}

func TestOneTaskPerKey(t *testing.T) {
	w, door := newWorld(functions.Spec{})
	call := intake.Call{Function: "f", Key: "k", BodyHash: "h1"}
	first, err := door.Accept(t.Context(), call)
	if err != nil || first.Replayed {
		t.Fatal(first, err)
	}
	w.fn.MaxQueue, w.queued = 1, 1 // a replay takes no room
	if again, err := door.Accept(t.Context(), call); err != nil || !again.Replayed || again.Task.ID != first.Task.ID {
		t.Errorf("same call: %+v %v", again, err)
	}
	call.BodyHash = "h2"
	var e *functions.Error
	if _, err := door.Accept(t.Context(), call); !errors.As(err, &e) || e.Code != "idempotency_mismatch" {
		t.Errorf("other body: %v", err)
	}
}

func TestLoserOfARaceGetsTheWinner(t *testing.T) {
	for _, c := range []struct{ name, hash string }{{"same body", "h"}, {"other body", "other"}} {
		t.Run(c.name, func(t *testing.T) {
			w, door := newWorld(functions.Spec{})
			var winner intake.Ticket
			w.before = func() { // another call with the key, between our look-up and our submit
				var err error
				if winner, err = door.Accept(t.Context(), intake.Call{Function: "f", Key: "k", BodyHash: c.hash}); err != nil {
					t.Error(err)
				}
			}
			got, err := door.Accept(t.Context(), intake.Call{Function: "f", Key: "k", BodyHash: "h"})
			if c.hash == "h" && (err != nil || !got.Replayed || got.Task.ID != winner.Task.ID) {
				t.Errorf("got %+v %v, want %s", got, err, winner.Task.ID)
			}
			if c.hash != "h" && !errors.Is(err, functions.ErrConflict) {
				t.Errorf("err %v, want a conflict", err)
			}
			if len(w.tasks) != 1 {
				t.Errorf("%d tasks", len(w.tasks))
			}
		})
	}
}

func TestStoreInput(t *testing.T) {
	for _, c := range []struct {
		name, head string
		size       int
	}{{"empty", "", 0}, {"short", "\x89PNG\r\n\x1a\n", 40}, {"as long as the head", "\x89PNG\r\n\x1a\n", content.HeadSize}, {"long", "\x89PNG\r\n\x1a\n", 1 << 20}} {
		t.Run(c.name, func(t *testing.T) {
			w, door := newWorld(functions.Spec{})
			data := []byte(c.head + strings.Repeat("\x00", max(0, c.size-len(c.head))))
			id := door.NewID()
			in, what, err := door.StoreInput(t.Context(), id, "a.bin", iotest.HalfReader(bytes.NewReader(data)), -1, "application/pdf")
			if err != nil || !bytes.Equal(w.objects["uploads/in/"+string(id)+"/a.bin"], data) || in.Size != int64(len(data)) {
				t.Fatalf("%+v %v", in, err)
			}
			want := content.Empty
			if c.size > 0 {
				want = "image/png"
			}
			if what.ContentType != want || in.ContentType != want {
				t.Errorf("%s, want %s", what.ContentType, want)
			}
		})
	}
	t.Run("a body that breaks off is not stored", func(t *testing.T) {
		for _, n := range []int{10, 10000} {
			w, door := newWorld(functions.Spec{})
			r := io.MultiReader(strings.NewReader(strings.Repeat("x", n)), iotest.ErrReader(io.ErrUnexpectedEOF))
			if _, _, err := door.StoreInput(t.Context(), door.NewID(), "a", r, 20000, ""); !errors.Is(err, io.ErrUnexpectedEOF) || len(w.objects) != 0 {
				t.Errorf("after %d bytes: err %v, %d objects", n, err, len(w.objects))
			}
		}
	})
}
