package webhooks

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

var errGap = errors.New("gap")

// world is a log with its projection, an outbox and every server in the world.
type world struct {
	mu       sync.Mutex
	first    uint64 // sequence of the oldest record that is left
	records  []functions.Record
	tasks    map[functions.TaskID]functions.Task
	searched *uint64
	kept     map[string]functions.Delivery
	outage   bool // of the outbox
	calls    []call
	answer   func(url string, n int) (int, time.Duration, error) // of the nth call of a URL
	asked    func()                                              // follows each question for the end of the log
	hooks    *Webhooks
}

type call struct {
	at     time.Time
	url    string
	header http.Header
	body   []byte
}

const secretText = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func newWorld() *world {
	w := &world{first: 1, tasks: map[functions.TaskID]functions.Task{}, kept: map[string]functions.Delivery{}, asked: func() {}}
	w.restart()
	return w
}

// restart is another server's turn: it knows nothing.
func (w *world) restart() {
	secret, err := ParseSecret(secretText)
	if err != nil {
		panic(err)
	}
	w.hooks = New(Config{
		Log: w, Gap: errGap, Tasks: w, Outbox: w, Poster: w, Secret: secret, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Render: func(_ context.Context, t *functions.Task) (json.RawMessage, error) {
			return json.Marshal(map[string]any{"id": t.ID, "state": t.State})
		},
	})
}

// set writes a record that puts a task into a state, and tells the server of it
// when it hears.
func (w *world) set(id functions.TaskID, url string, state functions.State, heard bool) {
	w.mu.Lock()
	before := w.tasks[id]
	seq := w.first + uint64(len(w.records))
	t := functions.Task{ID: id, State: state, Webhook: url, Seq: seq}
	if state.Final() {
		t.FinishedAt = time.Now()
	}
	w.tasks[id] = t
	kind := functions.Assign
	if state.Final() {
		kind = functions.Finish
	}
	w.records = append(w.records, functions.Record{Seq: seq, Event: functions.Event{Kind: kind, Task: id}})
	w.mu.Unlock()
	if heard {
		w.hooks.Changed([]functions.Change{{Seq: seq, Kind: kind, Before: before.State, Task: t}})
	}
}

func (w *world) LastSeq(context.Context) (uint64, error) {
	w.mu.Lock()
	last := w.first + uint64(len(w.records)) - 1
	w.mu.Unlock()
	w.asked()
	return last, nil
}

func (w *world) Tail(ctx context.Context, after uint64, handle func(context.Context, []functions.Record) error) error {
	w.mu.Lock()
	if after+1 < w.first {
		w.mu.Unlock()
		return errGap
	}
	records := slices.Clone(w.records[after+1-w.first:])
	w.mu.Unlock()
	for chunk := range slices.Chunk(records, 3) {
		if err := handle(ctx, chunk); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (w *world) Task(_ context.Context, id functions.TaskID) (functions.Task, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.tasks[id]
	if !ok {
		return t, functions.NotFound("task_not_found", "no")
	}
	return t, nil
}

func (w *world) WaitApplied(context.Context, uint64) error { return nil }

func (w *world) down() error {
	if w.outage {
		return functions.Unavailable("log_unavailable", "down")
	}
	return nil
}

func (w *world) Searched(context.Context) (uint64, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.searched == nil {
		return 0, false, w.down()
	}
	return *w.searched, true, w.down()
}

func (w *world) SetSearched(_ context.Context, seq uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.down(); err != nil {
		return err
	}
	w.searched = &seq
	return nil
}

func (w *world) Add(_ context.Context, d functions.Delivery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.down(); err != nil {
		return err
	}
	if _, there := w.kept[d.ID]; !there {
		w.kept[d.ID] = d
	}
	return nil
}

func (w *world) Put(_ context.Context, d functions.Delivery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.down(); err != nil {
		return err
	}
	w.kept[d.ID] = d
	return nil
}

func (w *world) Pending(context.Context) (pending []functions.Delivery, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.kept {
		if !d.Next.IsZero() {
			pending = append(pending, d)
		}
	}
	return pending, w.down()
}

func (w *world) Post(_ context.Context, url string, header http.Header, body []byte) (int, time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 1
	for _, c := range w.calls {
		if c.url == url {
			n++
		}
	}
	w.calls = append(w.calls, call{time.Now(), url, header, body})
	if w.answer == nil {
		return http.StatusOK, 0, nil
	}
	return w.answer(url, n)
}

// verify checks a call as a receiver does.
func verify(c call) error {
	key, err := base64.StdEncoding.DecodeString(secretText[len("whsec_"):])
	if err != nil {
		return err
	}
	return check(key, c.header, c.body)
}
