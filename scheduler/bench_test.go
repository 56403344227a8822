package scheduler

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// loopback is a log that answers at once and hands every change back, and a
// node of endless room that takes everything.
type loopback struct {
	s     *Scheduler
	tasks map[functions.TaskID]functions.Task // used by Append's goroutine and, while it sleeps, the benchmark's
	seq   uint64
	runs  chan functions.TaskID
	live  iter.Seq2[functions.Task, error]
	fns   map[functions.Name]functions.Function
}

func (l *loopback) Append(_ context.Context, _ string, events ...functions.Event) (uint64, error) {
	l.seq++
	changes := make([]functions.Change, 0, len(events))
	for _, e := range events {
		task, err := l.tasks[e.Task].Apply(e, 1, l.seq)
		if err != nil {
			return 0, err
		}
		delete(l.tasks, e.Task)
		changes = append(changes, functions.Change{Seq: l.seq, Kind: e.Kind, Before: functions.Queued, Task: task})
	}
	l.s.Notify(changes)
	return l.seq, nil
}

func (l *loopback) Run(_ context.Context, _ functions.NodeID, a functions.Assignment) error {
	l.runs <- a.Task.ID
	return nil
}

func (l *loopback) Kill(context.Context, functions.NodeID, functions.Kill) error { return nil }

func (l *loopback) Live(context.Context) iter.Seq2[functions.Task, error] { return l.live }

func (l *loopback) Version(name functions.Name, _ int) (functions.Function, error) {
	return l.fns[name], nil
}

func newLoopback(b *testing.B) *loopback {
	b.Helper()
	l := &loopback{
		tasks: map[functions.TaskID]functions.Task{}, runs: make(chan functions.TaskID, 1024),
		live: func(func(functions.Task, error) bool) {},
		fns:  map[functions.Name]functions.Function{},
	}
	for i := range 400 {
		name := functions.Name(fmt.Sprint("f", i))
		l.fns[name] = functions.Function{Spec: functions.Spec{Name: name}.WithDefaults(), Version: 1}
	}
	s, err := New(Config{Log: l, Nodes: l, Tasks: l, Functions: l})
	if err != nil {
		b.Fatal(err)
	}
	l.s = s
	return l
}

// lead starts the term and waits until it places.
func (l *loopback) lead(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.s.Lead(ctx, 1) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	info := functions.NodeInfo{
		ID: "n", Boot: "1", Ready: true,
		Capacity: functions.Resources{MilliCPU: 1 << 50, Memory: 1 << 60, Tasks: 1 << 40},
	}
	beat := func() { l.s.Heartbeat(functions.Heartbeat{Node: info}) }
	tick := time.NewTicker(100 * time.Millisecond)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				beat()
			}
		}
	}()
	b.Cleanup(func() { tick.Stop(); close(stop) })
	for deadline := time.Now().Add(10 * time.Second); ; {
		open := false
		if l.s.ask(func(t *term) { open = t.isOpen() && t.anyOpen() }) && open {
			return
		}
		if time.Now().After(deadline) {
			b.Fatal("the scheduler does not open")
		}
		runtime.Gosched()
	}
}

func benchTask(i int, functionsUsed int) functions.Task {
	return functions.Task{
		ID: taskID(uint64(i) + 1), Function: functions.Name(fmt.Sprint("f", i%functionsUsed)), Version: 1, State: functions.Queued,
		Route:     functions.Route{Policy: functions.Never, Device: functions.CPU, Reason: "policy never: CPU only"},
		CreatedAt: time.Now(), QueuedAt: time.Now(), Seq: uint64(i) + 1,
	}
}

// BenchmarkDecisions measures the way from a submitted task to the order that a
// node gets, many at once: decisions per second with a log that costs nothing.
func BenchmarkDecisions(b *testing.B) {
	for _, n := range []int{1, 400} {
		b.Run(fmt.Sprint("functions=", n), func(b *testing.B) {
			l := newLoopback(b)
			changes := make([]functions.Change, b.N)
			for i := range changes {
				task := benchTask(i, n)
				l.tasks[task.ID] = task
				changes[i] = functions.Change{Seq: task.Seq, Kind: functions.Submit, Task: task}
			}
			l.seq = uint64(b.N) + 1
			l.lead(b)
			b.ResetTimer()
			go func() {
				for len(changes) > 0 {
					some := min(len(changes), 64)
					l.s.Notify(changes[:some])
					changes = changes[some:]
				}
			}()
			for range b.N {
				<-l.runs
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}

// BenchmarkLatency measures one task at a time, from Notify to the order.
func BenchmarkLatency(b *testing.B) {
	l := newLoopback(b)
	l.seq = 1 << 40
	l.lead(b)
	changes := make([][]functions.Change, b.N)
	for i := range changes {
		task := benchTask(i, 1)
		l.tasks[task.ID] = task
		changes[i] = []functions.Change{{Seq: task.Seq, Kind: functions.Submit, Task: task}}
	}
	b.ResetTimer()
	for i := range b.N {
		l.s.Notify(changes[i])
		<-l.runs
	}
}

// BenchmarkMillion fills the queue with a million tasks of 400 functions as a
// new leader does, and weighs it.
func BenchmarkMillion(b *testing.B) {
	const million = 1_000_000
	for range b.N {
		l := newLoopback(b)
		l.live = func(yield func(functions.Task, error) bool) {
			task := benchTask(0, 400)
			names := make([]functions.Name, 400)
			for i := range names {
				names[i] = functions.Name(fmt.Sprint("f", i))
			}
			for i := range million {
				task.ID, task.Function = taskID(uint64(i)+1), names[i%400]
				if !yield(task, nil) {
					return
				}
			}
		}
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		t := newTerm(l.s.cfg, l.s.log, 1)
		start := time.Now()
		if err := t.load(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/fill")
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/million, "B/task")
		start = time.Now()
		for i := range 1000 {
			if _, ok := t.explain(taskID(uint64(i)*997 + 1)); !ok {
				b.Fatal("unexplained")
			}
		}
		b.ReportMetric(time.Since(start).Seconds()/1000*1e6, "us/explain")
		runtime.KeepAlive(t)
	}
}

// BenchmarkBlockedRound measures a round in which nothing can be placed: 400
// functions wait for 128 leased GPUs on 16 full nodes.
func BenchmarkBlockedRound(b *testing.B) {
	l := newLoopback(b)
	t := newTerm(l.s.cfg, l.s.log, 1)
	t.now = time.Now()
	for i := range 16 {
		info := functions.NodeInfo{ID: functions.NodeID(fmt.Sprint("n", i)), Boot: "1", Ready: true}
		info.Capacity = functions.Resources{MilliCPU: 1000, Memory: 1 << 40, Tasks: 100}
		for g := range 8 {
			info.GPUs = append(info.GPUs, functions.GPUInfo{UUID: fmt.Sprint(i, "-", g), State: functions.GPULeased})
		}
		n := t.node(info.ID)
		n.report(info, t.now)
		t.refresh()
		n.Free = functions.Resources{}
	}
	for i := range 100_000 {
		task := benchTask(i, 400)
		task.Route = functions.Route{Policy: functions.Preferred}.Decide()
		if err := t.apply(&task, functions.Submit); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for range b.N {
		if got := t.plan(); len(got) != 0 {
			b.Fatalf("placed %d", len(got))
		}
	}
}

// BenchmarkPlaceOnGPUs measures the choice of a device among 128 on 16 nodes, for
// a task that shares one and for one that is alone.
func BenchmarkPlaceOnGPUs(b *testing.B) {
	var rooms []*room
	for i := range 16 {
		var gpus []functions.GPUInfo
		for g := range 8 {
			if g%2 == 0 {
				gpus = append(gpus, gpu(80, 79))
			} else {
				gpus = append(gpus, gpu(80, functions.Bytes(10+i), functions.Bytes(20)))
			}
		}
		rooms = append(rooms, gpuHost(functions.NodeID(fmt.Sprint("n", i)), gpus...))
	}
	for name, c := range map[string]functions.GPUClaim{"shared": shared(1, 8), "alone": {Count: 1}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if r, _ := place(rooms, need{GPUs: 1, Claim: c}); r == nil {
					b.Fatal("no place")
				}
			}
		})
	}
}
