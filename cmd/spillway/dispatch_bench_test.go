package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/taskdb"
	"github.com/spillway/spillway/functions/tasklog"
	"github.com/spillway/spillway/scheduler"
)

// stubNode admits every attempt and ends it at once: what is left is the way of
// a task through log, projection, leader and bus.
type stubNode struct {
	log      *tasklog.Log
	admitted sync.Map // functions.TaskID to chan time.Time
	finish   chan functions.Assignment
}

func (n *stubNode) Admit(_ context.Context, a functions.Assignment) error {
	if c, ok := n.admitted.Load(a.Task.ID); ok {
		c.(chan time.Time) <- time.Now()
	}
	n.finish <- a
	return nil
}

func (n *stubNode) Kill(context.Context, functions.Kill) error { return nil }

func (n *stubNode) Readmit(context.Context, string) error { return nil }

func (n *stubNode) ReadLog(context.Context, functions.TaskID, int, int64) ([]functions.LogLine, error) {
	return nil, nil
}

// run reports and finishes attempts, as an agent whose containers take no time.
func (n *stubNode) run(ctx context.Context) error {
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	hb := functions.Heartbeat{Node: functions.NodeInfo{
		ID: "stub", Boot: "b", Ready: true, Capacity: functions.Resources{MilliCPU: 1 << 30, Memory: 1 << 50, Tasks: 1 << 20},
	}}
	_ = n.log.Heartbeat(ctx, hb) // the first may come before there is a leader
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			_ = n.log.Heartbeat(ctx, hb)
		case a := <-n.finish:
			fin := functions.Event{Kind: functions.Finish, Task: a.Task.ID, At: time.Now(), Fin: &functions.Closing{Attempt: a.Attempt, Node: "stub"}}
			if _, err := n.log.Append(ctx, fmt.Sprintf("fin-%s-%d", a.Task.ID, a.Attempt), fin); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// BenchmarkSubmitToAdmit measures one task at a time, from the call that accepts
// it to the node that takes it, with a durable submit and a durable assign: the
// whole dispatch without a container.
func BenchmarkSubmitToAdmit(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	log := slog.New(slog.DiscardHandler)
	l, closeEngine, err := openEngine(ctx, Config{Data: b.TempDir(), Node: NodeConfig{ID: "stub"}}, secrets{EngineToken: "t"}, log)
	if err != nil {
		b.Fatal(err)
	}
	defer closeEngine()
	db, err := taskdb.Open(ctx, taskdb.Config{Path: filepath.Join(b.TempDir(), "tasks.db"), Log: log})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	reg, err := l.Registry(ctx)
	if err != nil {
		b.Fatal(err)
	}
	sched, err := scheduler.New(scheduler.Config{Log: l, Nodes: l, Tasks: db, Functions: reg, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	n := &stubNode{log: l, finish: make(chan functions.Assignment, 1024)}
	var wg sync.WaitGroup
	for _, loop := range []func() error{
		func() error { return reg.Run(ctx) },
		func() error { return project(ctx, l, db, sched.Notify) },
		func() error { return l.ServeHeartbeats(ctx, sched.Heartbeat) },
		func() error { return l.Lead(ctx, "bench", db, sched.Lead) },
		func() error { return l.ServeNode(ctx, "stub", n) },
		func() error { return n.run(ctx) },
	} {
		wg.Go(func() {
			if err := loop(); err != nil && ctx.Err() == nil {
				b.Errorf("loop: %v", err)
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	<-reg.Ready()
	if _, _, err := reg.Deploy(ctx, functions.Spec{Name: "fn", Image: "x"}.WithDefaults()); err != nil {
		b.Fatal(err)
	}
	one := func() time.Duration {
		id := functions.TaskID(uuid.Must(uuid.NewV7()).String())
		c := make(chan time.Time, 4)
		n.admitted.Store(id, c)
		defer n.admitted.Delete(id)
		began := time.Now()
		t := functions.Task{ID: id, Function: "fn", Version: 1, State: functions.Queued, CreatedAt: began,
			Route: functions.Route{Policy: functions.Never}.Decide(), Source: "http", Event: []byte(`{}`)}
		if _, err := l.Submit(ctx, functions.Event{Kind: functions.Submit, Task: id, At: began, Sub: &t}); err != nil {
			b.Fatal(err)
		}
		return (<-c).Sub(began)
	}
	one() // waits for the election and the node's first heartbeat
	var took []time.Duration
	for b.Loop() {
		took = append(took, one())
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
