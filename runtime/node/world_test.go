package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects/objectstest"
	"github.com/spillway/spillway/runtime/gpu"
	"github.com/spillway/spillway/runtime/runtimetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o077) // what the container reads must not depend on the agent's umask
	goleak.VerifyTestMain(storeOr{m})
}

// storeOr runs the tests, or the embedded store in the child that a test starts.
type storeOr struct{ *testing.M }

func (s storeOr) Run() int { return objectstest.Main(s.M) }

// memStore is an object store in memory.
type memStore struct {
	mu      sync.Mutex // guards the fields below
	objects map[string][]byte
	types   map[string]string
	down    bool
	puts    int
}

func (s *memStore) Stage(_ context.Context, ref functions.ObjectRef, f *os.File) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return "", functions.Unavailable("store_down", "connection refused")
	}
	data, ok := s.objects[ref.Bucket+"/"+ref.Key]
	if !ok {
		return "", functions.NotFound("no_such_object", "no such object")
	}
	if ref.ETag != "" && ref.ETag != etag(data) {
		return "", functions.Conflict("replaced", "the object was replaced")
	}
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

func (s *memStore) Put(ctx context.Context, bucket, key string, r io.Reader, size int64, contentType string) (functions.ObjectRef, error) {
	if _, ok := r.(stored); !ok {
		return functions.ObjectRef{}, functions.Invalid("no_parts", "%T cannot be read in parts", r)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return functions.ObjectRef{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if s.down {
		return functions.ObjectRef{}, functions.Unavailable("store_down", "connection refused")
	}
	if int64(len(data)) != size {
		return functions.ObjectRef{}, fmt.Errorf("put %s: %d bytes, promised %d", key, len(data), size)
	}
	s.objects[bucket+"/"+key], s.types[bucket+"/"+key] = data, contentType
	return functions.ObjectRef{Bucket: bucket, Key: key, Size: size, ETag: etag(data), ContentType: contentType}, ctx.Err()
}

func (s *memStore) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *memStore) get(key string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[key]
	return string(data), ok
}

func (s *memStore) add(key, text string) functions.ObjectRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects["uploads/"+key] = []byte(text)
	return functions.ObjectRef{Bucket: "uploads", Key: key, Size: int64(len(text))}
}

func etag(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// memLog is the servers, as a node sees them. It outlives agents.
type memLog struct {
	mu       sync.Mutex // guards the fields below
	down     bool
	deaf     bool // grants no lease
	ids      map[string]functions.Event
	appends  int
	beats    []functions.Heartbeat
	before   int // of them, those of earlier agents
	progress []functions.Progress
	lines    []functions.LogLine
}

func (l *memLog) Heartbeat(_ context.Context, hb functions.Heartbeat) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deaf {
		return functions.Unavailable("no_leader", "no answer")
	}
	l.beats = append(l.beats, hb)
	return nil
}

func (l *memLog) Append(_ context.Context, id string, events ...functions.Event) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.appends++
	if l.down {
		return 0, functions.Unavailable("log_down", "no answer")
	}
	if _, ok := l.ids[id]; !ok {
		// What is in the log has been through JSON.
		data, err := json.Marshal(events[0])
		if err != nil {
			return 0, err
		}
		if len(data) > 512<<10 {
			return 0, functions.NewError(functions.ErrTooLarge, "too_large", "%d bytes", len(data))
		}
		var e functions.Event
		if err := json.Unmarshal(data, &e); err != nil {
			return 0, err
		}
		l.ids[id] = e
	}
	return uint64(len(l.ids)), nil
}

func (l *memLog) Progress(p functions.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress = append(l.progress, p)
}

func (l *memLog) LogLines(lines []functions.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, lines...)
}

func (l *memLog) set(change func(*memLog)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

// lastBeat is the last one of the agent that was started last.
func (l *memLog) lastBeat() functions.Heartbeat {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.beats) == l.before {
		return functions.Heartbeat{}
	}
	return l.beats[len(l.beats)-1]
}

// heard is how many log lines came live, fins how many attempts are in the log.
func (l *memLog) heard() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lines)
}

// heardOf is how many of them are of one task.
func (l *memLog) heardOf(id functions.TaskID) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if line.Task == id {
			n++
		}
	}
	return n
}

func (l *memLog) fins() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ids)
}

// world is everything around a node. Agents come and go in it.
type world struct {
	t     testing.TB
	fake  *runtimetest.Fake
	store *memStore
	log   *memLog
	dir   string
	tasks int

	bubble bool // time is the bubble's
}

func newWorld(t testing.TB) *world {
	return &world{
		t: t, fake: runtimetest.NewFake(), dir: t.TempDir(),
		store: &memStore{objects: map[string][]byte{}, types: map[string]string{}},
		log:   &memLog{ids: map[string]functions.Event{}},
	}
}

// inWorld runs a test in a bubble, where time passes at once.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.bubble = true
		w.fake.Add("box", runtimetest.Box)
		t.Cleanup(func() {
			w.fake.SetDown(false)
			infos, err := w.fake.List(context.Background(), nil)
			for _, c := range infos {
				err = errors.Join(err, w.fake.Remove(context.Background(), c.ID))
			}
			if err != nil {
				t.Error(err)
			}
		})
		test(t, w)
	})
}

func (w *world) config() Config {
	return Config{
		ID: "n1", DataDir: filepath.Join(w.dir, "node"), Driver: w.fake, Objects: w.store, Link: w.log,
		Capacity: functions.Resources{MilliCPU: 8000, Memory: 8 * functions.GiB, Tasks: 8}, DiskFloor: 1,
		Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	}
}

func (w *world) gpus(count int) *gpu.Pool {
	p, err := gpu.New(gpu.Config{Devices: gpu.Assumed(count)})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// agent is one life of the node.
type agent struct {
	*Node
	w    *world
	quit func()
}

// agent starts the node and waits until it is ready. It stops with the test, at
// the latest.
func (w *world) agent(cfg Config) *agent {
	w.t.Helper()
	a := w.raw(cfg)
	w.until("the node is ready", func() bool {
		hb := w.log.lastBeat()
		return hb.Node.Ready && hb.Node.Boot == a.bootID()
	})
	return a
}

func (w *world) raw(cfg Config) *agent {
	w.t.Helper()
	w.log.set(func(l *memLog) { l.before = len(l.beats) })
	n, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.Run(ctx); err != nil {
			w.t.Errorf("Run = %v", err)
		}
	}()
	// No sync.Once: in a bubble time stands still while somebody waits for its mutex.
	a := &agent{Node: n, w: w, quit: func() { cancel(); <-done }}
	w.t.Cleanup(a.quit)
	return a
}

func (n *Node) bootID() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.boot.Boot
}

// until polls, in the bubble for up to hours of its time.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	polls := 1200 // a minute
	if w.bubble {
		polls = 200_000
	}
	for range polls {
		if w.bubble {
			synctest.Wait()
		}
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatalf("never: %s", what)
}

// order makes an assignment of a new task.
func (w *world) order(a *agent, args ...string) functions.Assignment {
	w.tasks++
	id := functions.TaskID(fmt.Sprintf("00000000-0000-7000-8000-%012d", w.tasks))
	spec := functions.Spec{
		Name: "f", Image: "box", Command: append([]string{"/box"}, args...),
		Limits: functions.Limits{Memory: 64 * functions.MiB, Disk: 4 * functions.MiB},
	}.WithDefaults()
	return functions.Assignment{
		Epoch: 5, Attempt: 1, Boot: a.bootID(), Device: functions.CPU,
		Task:     functions.Task{ID: id, Function: "f", Version: 1, Event: json.RawMessage(`{"x":1}`)},
		Function: functions.Function{Spec: spec, Version: 1},
	}
}

func (a *agent) admit(as functions.Assignment) {
	a.w.t.Helper()
	if err := a.Admit(context.Background(), as); err != nil {
		a.w.t.Fatalf("Admit = %v", err)
	}
}

// fin waits for the end of an attempt.
func (w *world) fin(as functions.Assignment) functions.Outcome {
	w.t.Helper()
	var e functions.Event
	w.until("fin of "+string(as.Task.ID), func() bool {
		w.log.mu.Lock()
		defer w.log.mu.Unlock()
		var ok bool
		e, ok = w.log.ids[fmt.Sprintf("fin-%s-%d", as.Task.ID, as.Attempt)]
		return ok
	})
	if e.Kind != functions.Finish || e.Task != as.Task.ID || e.Fin.Attempt != as.Attempt || e.Fin.Node != "n1" {
		w.t.Errorf("fin event is %+v", e)
	}
	return e.Fin.Outcome
}

// do runs one task to its end.
func (w *world) do(a *agent, as functions.Assignment) functions.Outcome {
	w.t.Helper()
	a.admit(as)
	return w.fin(as)
}

// nothingLeft checks that no container and no file remains.
func (w *world) nothingLeft() {
	w.t.Helper()
	w.until("containers and task folders are gone", func() bool {
		tasks, err := os.ReadDir(filepath.Join(w.dir, "node", "tasks"))
		return err == nil && len(tasks) == 0 && len(w.fake.Specs()) == 0
	})
	w.until("the node holds nothing", func() bool { return len(w.log.lastBeat().Running) == 0 })
}

func wantClass(t testing.TB, out functions.Outcome, class functions.Class, phase functions.Phase) {
	t.Helper()
	if class == "" {
		if out.Failure != nil {
			t.Fatalf("failed: %+v", *out.Failure)
		}
		return
	}
	if out.Failure == nil || out.Failure.Class != class || out.Failure.Phase != phase {
		t.Fatalf("failure %+v, want %s in %s", out.Failure, class, phase)
	}
	if out.Failure.Message == "" {
		t.Errorf("%s says nothing", class)
	}
}

func program(run func(ctx context.Context, p *runtimetest.Process) int) runtimetest.Program {
	return run
}

func mustWrite(t *testing.T, p *runtimetest.Process, target, text string) {
	path, err := p.Path(target)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Errorf("write %s: %v", target, err)
	}
}

func logText(t testing.TB, w *world, out functions.Outcome) []functions.LogLine {
	t.Helper()
	if out.Log == nil {
		t.Fatal("no log was kept")
	}
	text, ok := w.store.get("results/" + out.Log.Key)
	if !ok {
		t.Fatal("the log is not in the store")
	}
	var lines []functions.LogLine
	for dec := json.NewDecoder(bytes.NewReader([]byte(text))); ; {
		var l functions.LogLine
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return lines
		} else if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
}

func outputNames(out functions.Outcome) (names []string) {
	for _, o := range out.Outputs {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	return names
}

// inPhase reports whether the newest heartbeat names one attempt, in a phase.
func (w *world) inPhase(p functions.Phase) bool {
	running := w.log.lastBeat().Running
	return len(running) == 1 && running[0].Phase == p
}
