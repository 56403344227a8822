package chain

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/ends/endstest"
	"github.com/spillway/spillway/gateway/intake"
)

// world has an object store and a door too, and every server in it.
type world struct {
	*endstest.World
	mu       sync.Mutex
	fail     func() error             // of the door and of the store; nil means that they work
	late     bool                     // the door and the store fail after they have done it
	accepted map[string][]intake.Call // by function and key
	objects  map[string][]string      // every content that was written
	large    map[string]string        // what events and results refer to
	chain    *Chain
}

func newWorld() *world {
	w := &world{World: endstest.New(), accepted: map[string][]intake.Call{}, objects: map[string][]string{}, large: map[string]string{}}
	w.restart()
	return w
}

// restart is another server's turn: it knows nothing.
func (w *world) restart() {
	w.chain = New(Config{
		Log: w, Gap: endstest.ErrGap, Tasks: w, Outbox: endstest.Outbox{World: w.World}, Door: w, Objects: w, MaxDepth: 3, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

// set makes a task what it is now, and tells the server of it.
func (w *world) set(t functions.Task) { w.chain.Changed([]functions.Change{w.Set(t)}) }

// outcome is of a request to the door or the store, which did is: whether it is
// done, and what the caller hears.
func (w *world) outcome(did func()) error {
	var err error
	if w.fail != nil {
		err = w.fail()
	}
	if err == nil || w.late {
		did()
	}
	return err
}

// Accept has the door's rule: a key makes one task.
func (w *world) Accept(_ context.Context, c intake.Call) (intake.Ticket, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := fmt.Sprintf("%s %s", c.Function, c.Key)
	err := w.outcome(func() {
		if len(w.accepted[id]) == 0 {
			w.accepted[id] = append(w.accepted[id], c)
		}
	})
	return intake.Ticket{}, err
}

func (w *world) Get(_ context.Context, ref functions.ObjectRef) (io.ReadCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text, ok := w.large[ref.Key]
	if !ok {
		return nil, functions.NotFound("no_object", "no")
	}
	return io.NopCloser(bytes.NewReader([]byte(text))), nil
}

func (w *world) Head(_ context.Context, bucket, key, _ string, _, most int64) (functions.ObjectRef, []byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	versions := w.objects[bucket+"/"+key]
	if len(versions) == 0 {
		return functions.ObjectRef{}, nil, functions.NotFound("no_object", "no")
	}
	newest := versions[len(versions)-1]
	return functions.ObjectRef{Size: int64(len(newest))}, []byte(newest[:min(len(newest), int(most))]), nil
}

func (w *world) Put(_ context.Context, bucket, key string, r io.Reader, _ int64, _ string) (functions.ObjectRef, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return functions.ObjectRef{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return functions.ObjectRef{}, w.outcome(func() { w.objects[bucket+"/"+key] = append(w.objects[bucket+"/"+key], string(b)) })
}
