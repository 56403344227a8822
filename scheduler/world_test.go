package scheduler

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// world is a log in memory that keeps the rules of the real one, with functions
// and nodes. It checks at every event what must never happen.
type world struct {
	mu        sync.Mutex // guards the fields below
	tasks     map[functions.TaskID]functions.Task
	written   map[string]uint64
	seq       uint64
	epoch     uint64
	stale     int
	finals    map[functions.TaskID]int
	wrongs    []string
	followers []*Scheduler
	fns       map[functions.Name]functions.Function
	nodes     map[functions.NodeID]*fakeNode
	appendErr func() (before, after bool) // lose the request, lose the answer
	appends   int
	lastID    uint64
}

func newWorld() *world {
	return &world{
		tasks: map[functions.TaskID]functions.Task{}, written: map[string]uint64{}, finals: map[functions.TaskID]int{},
		fns: map[functions.Name]functions.Function{}, nodes: map[functions.NodeID]*fakeNode{},
	}
}

func (w *world) deploy(s functions.Spec) {
	s.Image = "scratch"
	s = s.WithDefaults()
	if err := s.Validate(); err != nil {
		panic(err)
	}
	w.fns[s.Name] = functions.Function{Spec: s, Version: 1}
}

func (w *world) Version(name functions.Name, v int) (functions.Function, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, ok := w.fns[name]
	if !ok {
		return f, functions.NotFound("no_function", "no function %s", name)
	}
	return f, nil
}

func (w *world) Live(context.Context) iter.Seq2[functions.Task, error] {
	w.mu.Lock()
	live := slices.SortedFunc(maps.Values(w.tasks), func(a, b functions.Task) int {
		return cmp.Or(a.QueuedAt.Compare(b.QueuedAt), cmp.Compare(a.ID, b.ID))
	})
	w.mu.Unlock()
	return func(yield func(functions.Task, error) bool) {
		for _, t := range live {
			if !t.State.Final() && !yield(t, nil) {
				return
			}
		}
	}
}

func (w *world) Append(ctx context.Context, msgID string, events ...functions.Event) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := errors.New("connection lost")
	var before, after bool
	if w.appendErr != nil {
		before, after = w.appendErr()
	}
	if before {
		return 0, functions.Unavailable("lost", "no answer").WithCause(lost)
	}
	if seq, ok := w.written[msgID]; ok {
		return seq, nil
	}
	w.appends++
	w.written[msgID] = w.write(events)
	if after {
		return 0, functions.Unavailable("lost", "no answer").WithCause(lost)
	}
	return w.written[msgID], nil
}

// write folds events into the tasks; w.mu is held.
func (w *world) write(events []functions.Event) uint64 {
	w.seq++
	var changes []functions.Change
	for _, e := range events {
		if e.Kind == functions.Lead {
			w.epoch = w.seq
			continue
		}
		before, known := w.tasks[e.Task]
		var after functions.Task
		var err error
		if e.Kind == functions.Submit {
			after, err = functions.Accept(e, w.seq)
		} else if known {
			after, err = before.Apply(e, w.epoch, w.seq)
		} else {
			err = functions.ErrNotFound
		}
		if err != nil {
			w.stale++
			continue
		}
		w.tasks[e.Task] = after
		if after.State.Final() {
			w.finals[e.Task]++
		}
		w.check(e, after)
		changes = append(changes, functions.Change{Seq: w.seq, Kind: e.Kind, Before: before.State, Task: after})
	}
	for _, s := range w.followers {
		s.Notify(changes)
	}
	return w.seq
}

// check holds the log against what nodes have.
func (w *world) check(e functions.Event, t functions.Task) {
	if e.Kind != functions.Assign {
		return
	}
	last := t.Last()
	n := w.nodes[last.Node]
	if n == nil {
		return
	}
	var used functions.Resources
	held := map[string][]functions.Bytes{} // promises by device
	for _, o := range w.tasks {
		l := o.Last()
		if (o.State != functions.Assigned && o.State != functions.Canceling) || l.Node != last.Node || l.Boot != last.Boot {
			continue
		}
		used = used.Add(w.fns[o.Function].Needs(l.Device))
		for _, g := range l.GPUs {
			claim := l.Claim
			if claim.Count == 0 {
				claim = w.fns[o.Function].Claim()
			}
			held[g] = append(held[g], claim.Promise())
		}
	}
	for i := range n.info.GPUs {
		g := &n.info.GPUs[i]
		sum, tasks := functions.Bytes(0), held[g.UUID]
		for _, p := range tasks {
			sum += p
		}
		if len(tasks) > 1 && (len(tasks) > g.MaxLeases || slices.Contains(tasks, 0) || sum+functions.GPUOverhead > g.Memory) {
			w.wrongs = append(w.wrongs, fmt.Sprintf("%s of %s is promised to %v (0 is all of it)", g.UUID, g.Memory, tasks))
		}
	}
	for _, share := range functions.Shares(t.Inputs) {
		if !slices.Contains(n.info.Shares, share) {
			w.wrongs = append(w.wrongs, fmt.Sprintf("%s has no share %s", last.Node, share))
		}
	}
	if !used.Fits(n.info.Capacity) {
		w.wrongs = append(w.wrongs, fmt.Sprintf("%s holds %+v of %+v", last.Node, used, n.info.Capacity))
	}
	if e.Asg.Reason == "" {
		w.wrongs = append(w.wrongs, "an assignment has no reason")
	}
}

func (w *world) Run(ctx context.Context, id functions.NodeID, a functions.Assignment) error {
	return w.nodes[id].admit(ctx, a)
}

func (w *world) Kill(ctx context.Context, id functions.NodeID, k functions.Kill) error {
	return w.nodes[id].kill(k)
}

func (w *world) newScheduler(t testing.TB) *Scheduler {
	t.Helper()
	s, err := New(Config{Log: w, Nodes: w, Tasks: w, Functions: w})
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.followers = append(w.followers, s)
	w.mu.Unlock()
	return s
}

// lead starts a term; stop ends it and returns its error.
func (w *world) lead(s *Scheduler) (stop func() error) {
	w.mu.Lock()
	epoch := w.write([]functions.Event{{Kind: functions.Lead, Ldr: &functions.Leader{ID: "s"}}})
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Lead(ctx, epoch) }()
	return sync.OnceValue(func() error { cancel(); return <-done })
}

func taskID(n uint64) functions.TaskID {
	var k key
	binary.BigEndian.PutUint64(k[8:], n)
	return k.id()
}

// submit accepts a task and returns its id.
func (w *world) submit(fn functions.Name, edit func(*functions.Task)) functions.TaskID {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastID++
	t := functions.Task{ID: taskID(w.lastID), Function: fn, Version: 1, CreatedAt: time.Now()}
	t.Route = functions.Route{Policy: w.fns[fn].Device}.Decide()
	if edit != nil {
		edit(&t)
	}
	w.write([]functions.Event{{Kind: functions.Submit, Task: t.ID, At: time.Now(), Sub: &t}})
	return t.ID
}

func (w *world) control(id functions.TaskID, verb functions.Verb) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write([]functions.Event{{Kind: functions.Control, Task: id, At: time.Now(), Ctl: &functions.Request{Verb: verb}}})
}

func (w *world) task(id functions.TaskID) functions.Task {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tasks[id]
}

func (w *world) count(state functions.State) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.tasks {
		if t.State == state {
			n++
		}
	}
	return n
}

// fakeNode runs attempts as timers. It keeps the node's side of the protocol.
type fakeNode struct {
	w    *world
	info functions.NodeInfo
	stop chan struct{}

	mu      sync.Mutex // guards the fields below
	silent  bool       // hears nothing, says nothing
	epoch   uint64
	held    map[key]*held
	past    map[stray]bool
	granted time.Time
	starts  int
	behave  func(functions.Assignment) (time.Duration, functions.Outcome)
	answer  func() (refuse, lose bool)
}

type held struct {
	a    functions.Assignment
	quit chan struct{}
}

func succeed(functions.Assignment) (time.Duration, functions.Outcome) {
	return 100 * time.Millisecond, functions.Outcome{}
}

// node adds a node with cores and GPUs, changed by edits, and starts its heartbeat.
func (w *world) node(id functions.NodeID, cpus int64, gpus int, edits ...func(*fakeNode)) *fakeNode {
	n := &fakeNode{
		w: w, stop: make(chan struct{}), held: map[key]*held{}, past: map[stray]bool{}, granted: time.Now(), behave: succeed,
		info: functions.NodeInfo{
			ID: id, Boot: string(id) + "-1", Ready: true,
			Capacity: functions.Resources{MilliCPU: cpus * 1000, Memory: 64 * functions.GiB, Tasks: 64},
		},
	}
	for i := range gpus {
		n.info.GPUs = append(n.info.GPUs, functions.GPUInfo{
			UUID: fmt.Sprintf("GPU-%s-%d", id, i), Index: i, Memory: 16 * functions.GiB, State: functions.GPUFree,
		})
	}
	for _, edit := range edits {
		edit(n)
	}
	w.mu.Lock()
	w.nodes[id] = n
	w.mu.Unlock()
	go n.beats()
	return n
}

func (n *fakeNode) beats() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		n.beat()
		select {
		case <-n.stop:
			return
		case <-tick.C:
		}
	}
}

func (n *fakeNode) beat() {
	n.mu.Lock()
	hb := functions.Heartbeat{Node: n.info, At: time.Now()}
	hb.Node.GPUs = slices.Clone(n.info.GPUs)
	for _, h := range n.held {
		hb.Running = append(hb.Running, functions.Running{Task: h.a.Task.ID, Attempt: h.a.Attempt, Epoch: h.a.Epoch})
	}
	silent := n.silent
	n.mu.Unlock()
	ok := false
	if !silent {
		n.w.mu.Lock()
		all := slices.Clone(n.w.followers)
		n.w.mu.Unlock()
		for _, s := range all {
			ok = s.Heartbeat(hb) || ok
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if ok {
		n.granted = hb.At
	} else if time.Since(n.granted) >= 20*time.Second {
		n.drop()
	}
}

// drop stops everything without a report; n.mu is held.
func (n *fakeNode) drop() {
	for k, h := range n.held {
		close(h.quit)
		delete(n.held, k)
	}
	for i := range n.info.GPUs {
		for _, l := range n.info.GPUs[i].Leases {
			giveBack(&n.info.GPUs[i], l.Task)
		}
	}
}

// lease takes the devices of an attempt, all or none; n.mu is held.
func (n *fakeNode) lease(a functions.Assignment) error {
	claim := a.Asks()
	var got []*functions.GPUInfo
	for i := range n.info.GPUs {
		if g := &n.info.GPUs[i]; slices.Contains(a.GPUs, g.UUID) && g.Takes(claim) {
			got = append(got, g)
		}
	}
	if len(got) < claim.Count || len(got) < len(a.GPUs) {
		return functions.NewError(functions.ErrThrottled, "gpu_busy", "%d of %v take %+v", len(got), a.GPUs, claim)
	}
	for _, g := range got {
		g.State, g.Leases = functions.GPULeased, append(slices.Clone(g.Leases), functions.GPULease{Task: a.Task.ID, Memory: claim.Promise()})
		if g.Free -= claim.Promise(); claim.Alone() {
			g.Free = 0
		}
	}
	return nil
}

// giveBack ends a task's lease of a device, whatever the device's state.
func giveBack(g *functions.GPUInfo, id functions.TaskID) {
	for _, l := range g.Leases {
		if l.Task == id && l.Memory == 0 {
			g.Free = max(g.Memory-functions.GPUOverhead, 0)
		} else if l.Task == id {
			g.Free += l.Memory
		}
	}
	g.Leases = slices.DeleteFunc(slices.Clone(g.Leases), func(l functions.GPULease) bool { return l.Task == id })
	if g.State == functions.GPULeased && len(g.Leases) == 0 {
		g.State = functions.GPUFree
	}
}

// sized makes the node's GPUs such as a probe has read, of some memory, that so
// many tasks may share.
func sized(memory functions.Bytes, tasks int) func(*fakeNode) {
	return func(n *fakeNode) {
		for i := range n.info.GPUs {
			g := &n.info.GPUs[i]
			g.Memory, g.Free, g.MaxLeases, g.ReadAt = memory, memory-functions.GPUOverhead, tasks, time.Now()
		}
	}
}

func (n *fakeNode) reboot() {
	n.mu.Lock()
	n.drop()
	n.info.Boot += "+"
	n.past = map[stray]bool{}
	n.mu.Unlock()
	n.beat()
}

func (n *fakeNode) setSilent(v bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = v
}

func (n *fakeNode) setGPU(i int, s functions.GPUState) {
	n.mu.Lock()
	n.info.GPUs[i].State = s
	n.mu.Unlock()
	n.beat()
}

func (n *fakeNode) admit(ctx context.Context, a functions.Assignment) error {
	n.mu.Lock()
	if n.silent {
		n.mu.Unlock()
		<-ctx.Done()
		return functions.Unavailable("silent", "no answer")
	}
	defer n.mu.Unlock()
	refuse, lose := false, false
	if n.answer != nil {
		refuse, lose = n.answer()
	}
	if refuse {
		return functions.NewError(functions.ErrThrottled, "full", "no room")
	}
	k, _ := keyOf(a.Task.ID)
	if h := n.held[k]; h != nil && h.a.Attempt == a.Attempt || n.past[stray{a.Task.ID, a.Attempt}] {
		return nil
	}
	if a.Boot != n.info.Boot || a.Epoch < n.epoch || n.held[k] != nil {
		return functions.Conflict("fenced", "not for this life of the node")
	}
	n.epoch = a.Epoch
	used := a.Function.Needs(a.Device)
	for _, h := range n.held {
		used = used.Add(h.a.Function.Needs(h.a.Device))
	}
	if !used.Fits(n.info.Capacity) {
		return functions.NewError(functions.ErrThrottled, "full", "no room")
	}
	if a.Device == functions.GPU {
		if err := n.lease(a); err != nil {
			return err
		}
	}
	h := &held{a: a, quit: make(chan struct{})}
	n.held[k] = h
	n.starts++
	n.w.alive(a.Task.ID, n)
	go n.run(k, h)
	if lose {
		return functions.Unavailable("lost", "no answer")
	}
	return nil
}

// alive checks that no other node runs the task; n.mu is held, so that others
// are only tried.
func (w *world) alive(id functions.TaskID, self *fakeNode) {
	k, _ := keyOf(id)
	for _, n := range w.nodes {
		if n == self || !n.mu.TryLock() {
			continue
		}
		if n.held[k] != nil {
			go func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.wrongs = append(w.wrongs, fmt.Sprintf("%s runs on two nodes", id))
			}()
		}
		n.mu.Unlock()
	}
}

func (n *fakeNode) run(k key, h *held) {
	n.mu.Lock()
	behave := n.behave
	n.mu.Unlock()
	d, out := behave(h.a)
	out.GPUs = h.a.GPUs
	select {
	case <-time.After(d):
	case <-h.quit:
		return
	case <-n.stop:
		return
	}
	n.finish(k, h, out)
}

func (n *fakeNode) finish(k key, h *held, out functions.Outcome) {
	n.mu.Lock()
	if n.held[k] != h {
		n.mu.Unlock()
		return
	}
	delete(n.held, k)
	n.past[stray{h.a.Task.ID, h.a.Attempt}] = true
	for i := range n.info.GPUs {
		giveBack(&n.info.GPUs[i], h.a.Task.ID)
	}
	id := n.info.ID
	n.mu.Unlock()
	n.w.mu.Lock()
	n.w.write([]functions.Event{{
		Kind: functions.Finish, Task: h.a.Task.ID, At: time.Now(),
		Fin: &functions.Closing{Attempt: h.a.Attempt, Node: id, Outcome: out},
	}})
	n.w.mu.Unlock()
	n.beat()
}

func (n *fakeNode) kill(k functions.Kill) error {
	kk, _ := keyOf(k.Task)
	n.mu.Lock()
	h := n.held[kk]
	n.mu.Unlock()
	if h == nil || h.a.Attempt != k.Attempt {
		return nil
	}
	go n.finish(kk, h, functions.Outcome{Failure: &functions.Failure{Class: functions.CanceledByUser, Message: "killed"}})
	return nil
}

// close ends the node's goroutines.
func (w *world) close() {
	for _, n := range w.nodes {
		close(n.stop)
	}
}

func failWith(c functions.Class) functions.Outcome {
	return functions.Outcome{Failure: &functions.Failure{Class: c, Message: "as told"}, ExitCode: 1}
}
