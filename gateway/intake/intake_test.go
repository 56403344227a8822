package intake_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

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
	sent    map[string]uint64 // sequences by message id
	looked  func()            // runs after an object was looked at
	huge    bool              // every object is over all limits
	queued  int
	seq     uint64
	before  func() // runs in the middle of a submit
	err     error
}

func newWorld(spec functions.Spec) (*world, *intake.Door) {
	spec.Name, spec.Image = "f", "i"
	w := &world{fn: functions.Function{Spec: spec.WithDefaults(), Version: 3}, tasks: map[functions.TaskID]functions.Task{},
		keys: map[string]functions.TaskID{}, objects: map[string][]byte{}, sent: map[string]uint64{}}
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

func (w *world) Append(_ context.Context, msgID string, events ...functions.Event) (uint64, error) {
	if w.err != nil {
		return 0, w.err
	}
	if seq, twice := w.sent[msgID]; twice {
		return seq, nil
	}
	w.seq++
	w.sent[msgID] = w.seq
	e := events[0]
	if t, err := w.tasks[e.Task].Apply(e, 0, w.seq); err == nil {
		w.tasks[e.Task] = t
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
		return functions.ObjectRef{}, functions.NotFound("object_not_found", "no %s", key)
	}
	if w.looked != nil {
		defer w.looked()
	}
	if w.huge {
		return functions.ObjectRef{Bucket: bucket, Key: key, Size: int64(intake.MaxPut) + 1, ETag: string(b)}, nil
	}
	return functions.ObjectRef{Bucket: bucket, Key: key, Size: int64(len(b)), ETag: string(b), ContentType: "text/plain"}, nil
}

func (w *world) Head(ctx context.Context, bucket, key, version string, _, most int64) (functions.ObjectRef, []byte, error) {
	ref, err := w.Stat(ctx, bucket, key, version)
	if err != nil || most == 0 {
		return ref, nil, err
	}
	body, err := w.GetRange(ctx, ref, 0, min(ref.Size, most))
	if err != nil {
		return ref, nil, err
	}
	head, err := io.ReadAll(body)
	return ref, head, err
}

func (w *world) GetRange(_ context.Context, ref functions.ObjectRef, off, length int64) (io.ReadCloser, error) {
	b, ok := w.objects[ref.Bucket+"/"+ref.Key]
	switch {
	case !ok:
		return nil, functions.NotFound("object_not_found", "no %s", ref.Key)
	case string(b) != ref.ETag:
		return nil, functions.Conflict("object_changed", "replaced")
	}
	return io.NopCloser(bytes.NewReader(b[off:min(off+length, int64(len(b)))])), nil
}

func (w *world) Delete(ctx context.Context, ref functions.ObjectRef) error {
	if err := cmp.Or(w.err, ctx.Err()); err != nil {
		return err
	}
	delete(w.objects, ref.Bucket+"/"+ref.Key)
	return nil
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

func TestDestinationsOfTheCallBeforeTheFunctions(t *testing.T) {
	usual := []functions.Destination{{Function: "b"}}
	own := []functions.Destination{{Bucket: "ends"}}
	w, door := newWorld(functions.Spec{OnSuccess: usual, OnFailure: usual})
	for name, c := range map[string]struct {
		call intake.Call
		want []functions.Destination
	}{
		"the function's": {intake.Call{}, usual},
		"its own":        {intake.Call{OnSuccess: own, OnFailure: own, MaxAge: time.Minute, Retries: &functions.Retries{Max: 2}}, own},
		"none":           {intake.Call{OnSuccess: []functions.Destination{}, OnFailure: []functions.Destination{}}, nil},
	} {
		c.call.Function = "f"
		ticket, err := door.Accept(t.Context(), c.call)
		if err != nil {
			t.Fatal(err)
		}
		got := w.tasks[ticket.Task.ID]
		if !slices.Equal(got.OnSuccess, c.want) || !slices.Equal(got.OnFailure, c.want) || got.MaxAge.Std() != c.call.MaxAge || got.Retries != c.call.Retries {
			t.Errorf("%s: %+v", name, got)
		}
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
		{"too many retries", intake.Call{Function: "f", Retries: &functions.Retries{Max: 11}}, functions.ErrInvalid, "bad_retries"},
		{"a fraction of a second", intake.Call{Function: "f", MaxAge: 1500 * time.Millisecond}, functions.ErrInvalid, "bad_max_age"},
		{"no destination", intake.Call{Function: "f", OnSuccess: []functions.Destination{{}}}, functions.ErrInvalid, "bad_destination"},
		{"a bad bucket", intake.Call{Function: "f", OnFailure: []functions.Destination{{Bucket: "results"}}}, functions.ErrInvalid, "bad_destination"},
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

func (w *world) awaiting(t *testing.T, door *intake.Door, size int64) functions.Task {
	t.Helper()
	id := door.NewID()
	ticket, err := door.Accept(t.Context(), intake.Call{
		ID: id, Function: "f", AwaitUpload: true, Upload: &functions.Multipart{ID: "u", PartSize: 5}, Form: true,
		Inputs: []functions.Input{{Name: "a.png", ObjectRef: functions.ObjectRef{Bucket: "uploads", Key: intake.InputKey(id, "a.png"), Size: size, SHA256: "sum"}}},
	})
	if err != nil || ticket.Task.Upload == nil || ticket.Task.Upload.ID != "u" || !ticket.Task.Form {
		t.Fatalf("%+v %v", ticket.Task, err)
	}
	return ticket.Task
}

func TestArrived(t *testing.T) {
	const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
	for _, c := range []struct {
		name      string
		announced int64
		stored    string // "" = nothing
		then      string // what becomes of it while it is looked at: gone, replaced
		code      string // of the error; empty = the task starts
	}{
		{"as announced", int64(len(png)), png, "", ""},
		{"of unknown size", functions.UnknownSize, png, "", ""},
		{"not there", 5, "", "", "not_uploaded"},
		{"of another size", 5, png, "", "size_mismatch"},
		{"announced as empty", 0, png, "", "size_mismatch"},
		{"deleted meanwhile", int64(len(png)), png, "gone", "not_uploaded"},
		{"replaced meanwhile", int64(len(png)), png, "replaced", "not_uploaded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, door := newWorld(functions.Spec{})
			task := w.awaiting(t, door, c.announced)
			key := "uploads/" + task.Inputs[0].Key
			if c.stored != "" {
				w.objects[key] = []byte(c.stored)
			}
			switch c.then {
			case "gone":
				w.looked = func() { delete(w.objects, key) }
			case "replaced":
				w.looked = func() { w.objects[key] = []byte(strings.ToUpper(c.stored) + "!") }
			}
			got, err := door.Arrived(t.Context(), task, "test")
			var e *functions.Error
			if c.code != "" {
				if !errors.Is(err, functions.ErrConflict) || !errors.As(err, &e) || e.Code != c.code || e.Hint == "" || got.State != functions.AwaitingUpload {
					t.Errorf("got %s, %v", got.State, err)
				}
				return
			}
			in := got.Inputs[0]
			if err != nil || got.State != functions.Queued || in.ContentType != "image/png" || in.Size != int64(len(png)) || in.SHA256 != "sum" || in.ETag == "" ||
				got.Route.Device != functions.GPU || got.Route.Sniffed != "image/png" {
				t.Fatalf("got %+v, %v", got, err)
			}
			seq := w.seq
			if again, err := door.Arrived(t.Context(), task, "test"); err != nil || again.Seq != got.Seq || w.seq != seq { // from one who has not heard
				t.Errorf("a second report: %+v, %v", again, err)
			}
			if again, err := door.Arrived(t.Context(), got, "test"); err != nil || again.Seq != got.Seq {
				t.Errorf("a report of what awaits nothing: %+v, %v", again, err)
			}
		})
	}
	t.Run("over what a form may send", func(t *testing.T) {
		w, door := newWorld(functions.Spec{})
		task := w.awaiting(t, door, functions.UnknownSize)
		w.huge = true
		w.objects["uploads/"+task.Inputs[0].Key] = nil
		if _, err := door.Arrived(t.Context(), task, "test"); !errors.Is(err, functions.ErrTooLarge) {
			t.Errorf("err %v", err)
		}
	})
	t.Run("with the log away", func(t *testing.T) {
		w, door := newWorld(functions.Spec{})
		task := w.awaiting(t, door, functions.UnknownSize)
		w.objects["uploads/"+task.Inputs[0].Key] = []byte("x")
		w.err = functions.Unavailable("log_unavailable", "down")
		if _, err := door.Arrived(t.Context(), task, "test"); !errors.Is(err, functions.ErrUnavailable) {
			t.Errorf("err %v", err)
		}
	})
}

func TestDiscard(t *testing.T) {
	w, door := newWorld(functions.Spec{})
	in, _, err := door.StoreInput(t.Context(), door.NewID(), "a", strings.NewReader("x"), 1, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // its caller has left
	if err := door.Discard(ctx, []functions.Input{{Name: "b", URL: "https://example.org/b"}, in}); err != nil || len(w.objects) != 0 {
		t.Errorf("err %v, %d objects stay", err, len(w.objects))
	}
	for err, want := range map[error]bool{
		nil: false, errors.New("x"): false, functions.Unavailable("a", "b"): false, functions.NewError(functions.ErrTimeout, "a", "b"): false,
		functions.Invalid("a", "b"): true, functions.NewError(functions.ErrThrottled, "a", "b"): true,
	} {
		if intake.Refused(err) != want {
			t.Errorf("Refused(%v) is not %v", err, want)
		}
	}
}
