package retention

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects/objectstest"
	"github.com/spillway/spillway/gateway/intake"
)

func TestMain(m *testing.M) {
	code := objectstest.Main(m)
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const epoch = 7

var limits = Limits{Inputs: 10 * time.Hour, Outputs: 20 * time.Hour, Logs: 5 * time.Hour, Grace: 20 * time.Minute}

// projection is the log folded up to some point.
type projection struct {
	applied int
	tasks   map[functions.TaskID]functions.Task
}

// world is a log, two projections of it that may lag (the leader's, and that of
// the server at whose door clients knock), a store, and a clock.
type world struct {
	now    time.Time
	made   int
	log    []functions.Event
	full   projection // always at the log's end
	leader projection
	door   projection
	store  map[string]int64 // sizes by bucket/key

	hook    func()                 // runs whenever the sweep asks anything of the world
	writing func()                 // runs right before the sweep's events are in the log
	refuse  func(key string) error // of a deletion
	listing error                  // ends every listing
	silent  error                  // of the log
	deleted []string
}

func newWorld() *world {
	p := func() projection { return projection{tasks: map[functions.TaskID]functions.Task{}} }
	return &world{
		now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), full: p(), leader: p(), door: p(),
		store: map[string]int64{}, hook: func() {}, writing: func() {}, refuse: func(string) error { return nil },
	}
}

func (w *world) retention(l Limits, logs io.Writer) *Retention {
	c := Config{Tasks: w, Log: w, Objects: w, Keep: l, Rate: 1_000_000, Now: func() time.Time { return w.now }}
	if logs != nil {
		c.Logger = slog.New(slog.NewTextHandler(logs, nil))
	}
	r, err := New(c)
	if err != nil {
		panic(err)
	}
	return r
}

func (w *world) newID() functions.TaskID {
	w.made++
	ms := w.now.UnixMilli()
	return functions.TaskID(fmt.Sprintf("%08x-%04x-7000-8000-%012x", ms>>16, ms&0xffff, w.made))
}

func (p *projection) catchUp(log []functions.Event, to int) {
	for ; p.applied < min(to, len(log)); p.applied++ {
		e, seq := log[p.applied], uint64(p.applied+1)
		if e.Kind == functions.Submit {
			if t, err := functions.Accept(e, seq); err == nil && p.tasks[t.ID].ID == "" {
				p.tasks[t.ID] = t
			}
		} else if t, ok := p.tasks[e.Task]; ok {
			if after, err := t.Apply(e, epoch, seq); err == nil {
				p.tasks[e.Task] = after
			}
		}
	}
}

func (w *world) catchUp() {
	w.leader.catchUp(w.log, len(w.log))
	w.door.catchUp(w.log, len(w.log))
}

// write puts events into the log and reports whether the last one is valid.
func (w *world) write(events ...functions.Event) bool {
	for _, e := range events {
		if e.At.IsZero() {
			e.At = w.now
		}
		w.log = append(w.log, e)
	}
	w.full.catchUp(w.log, len(w.log))
	return w.full.tasks[events[len(events)-1].Task].Seq == uint64(len(w.log))
}

func (w *world) ctl(id functions.TaskID, v functions.Verb) bool {
	return w.write(functions.Event{Kind: functions.Control, Task: id, Ctl: &functions.Request{Verb: v}})
}

// submit accepts a task with an upload of its own and some other inputs.
func (w *world) submit(others ...functions.Input) functions.TaskID {
	id := w.newID()
	own := functions.ObjectRef{Bucket: intake.Bucket, Key: intake.InputKey(id, "a.wav")}
	w.put(own.Bucket, own.Key)
	w.write(functions.Event{Kind: functions.Submit, Task: id, Sub: &functions.Task{
		ID: id, Function: "f", CreatedAt: w.now, Inputs: append([]functions.Input{{Name: "a.wav", ObjectRef: own}}, others...)}})
	return id
}

// run has an attempt leave its files, and end.
func (w *world) run(id functions.TaskID, failure *functions.Failure) {
	n := w.full.tasks[id].Attempt + 1
	w.write(functions.Event{Kind: functions.Assign, Task: id, Asg: &functions.Placement{Epoch: epoch, Attempt: n, Node: "n", Boot: "b", Device: functions.CPU}})
	w.leave(id, n)
	w.end(id, failure)
}

// leave stores what an attempt leaves.
func (w *world) leave(id functions.TaskID, n int) {
	for _, name := range []string{"/a.txt", "/sub/b.txt", ".log.jsonl", ".result.json"} {
		w.put(intake.Results, fmt.Sprintf("%s/%d%s", id, n, name))
	}
}

func (w *world) end(id functions.TaskID, failure *functions.Failure) {
	n := w.full.tasks[id].Attempt
	w.write(functions.Event{Kind: functions.Finish, Task: id, Fin: &functions.Closing{Attempt: n, Node: "n", Outcome: functions.Outcome{Failure: failure}}})
	if failure != nil {
		w.write(functions.Event{Kind: functions.Release, Task: id, Rel: &functions.Verdict{Epoch: epoch, Attempt: n, To: functions.Failed, Failure: failure}})
	}
}

var exit1 = &functions.Failure{Class: functions.ExitError, Message: "exit 1"}

func (w *world) put(bucket, key string) { w.store[bucket+"/"+key] = int64(len(key)) }

// keys are those of the store that hold all parts.
func (w *world) keys(parts ...string) []string {
	var found []string
	for _, k := range slices.Sorted(maps.Keys(w.store)) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(k, p) }) {
			found = append(found, k)
		}
	}
	return found
}

func inputOf(path string) functions.Input {
	bucket, key, _ := strings.Cut(path, "/")
	return functions.Input{Name: "x", ObjectRef: functions.ObjectRef{Bucket: bucket, Key: key}}
}

// The leader's view.

func (w *world) Task(_ context.Context, id functions.TaskID) (functions.Task, error) {
	w.hook()
	return w.leader.Task(nil, id)
}

func (p *projection) Task(_ context.Context, id functions.TaskID) (functions.Task, error) {
	if t, ok := p.tasks[id]; ok {
		return t, nil
	}
	return functions.Task{}, functions.NotFound("task_not_found", "no task %s", id)
}

func (w *world) Live(context.Context) iter.Seq2[functions.Task, error] {
	w.hook()
	return func(yield func(functions.Task, error) bool) {
		for _, t := range w.leader.tasks {
			if !t.State.Final() && !yield(t, nil) {
				return
			}
		}
	}
}

func (w *world) LastSeq(context.Context) (uint64, error) { return uint64(len(w.log)), w.silent }

func (w *world) WaitApplied(_ context.Context, seq uint64) error {
	w.hook()
	w.leader.catchUp(w.log, int(seq))
	return nil
}

func (w *world) Append(_ context.Context, _ string, events ...functions.Event) (uint64, error) {
	w.hook()
	if len(events) == 0 || len(events) > 256 {
		return 0, errors.New("a message holds 1 to 256 events")
	}
	w.writing()
	w.write(events...)
	return uint64(len(w.log)), nil
}

func (w *world) List(_ context.Context, bucket, prefix, after string) iter.Seq2[functions.ObjectRef, error] {
	return func(yield func(functions.ObjectRef, error) bool) {
		w.hook()
		last := bucket + "/" + prefix + after
		for { // like a store: each page shows what is there by then
			page := 0
			for _, k := range slices.Sorted(maps.Keys(w.store)) {
				size, there := w.store[k]
				if k <= last || !strings.HasPrefix(k, bucket+"/"+prefix) || !there {
					continue
				}
				last = k
				if page++; !yield(functions.ObjectRef{Bucket: bucket, Key: k[len(bucket)+1:], Size: size}, nil) {
					return
				}
				if page == 3 {
					break
				}
			}
			if w.listing != nil {
				yield(functions.ObjectRef{}, w.listing)
				return
			}
			if page == 0 {
				return
			}
		}
	}
}

func (w *world) Delete(_ context.Context, ref functions.ObjectRef) error {
	w.hook()
	path := ref.Bucket + "/" + ref.Key
	if err := w.refuse(path); err != nil {
		return err
	}
	if _, there := w.store[path]; there {
		delete(w.store, path)
		w.deleted = append(w.deleted, path)
	}
	return nil
}
