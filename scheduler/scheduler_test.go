package scheduler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
)

func TestNewRefusesContradictions(t *testing.T) {
	w := newWorld()
	for name, cfg := range map[string]Config{
		"nothing": {}, "no log": {Nodes: w, Tasks: w, Functions: w},
		"dead before stale": {Log: w, Nodes: w, Tasks: w, Functions: w, NodeDead: time.Second},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOnlyALeaderGrantsAndEveryServerKnowsNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deploy(functions.Spec{Name: "f"})
		s, idle := w.newScheduler(t), w.newScheduler(t)
		hb := functions.Heartbeat{
			Node:    functions.NodeInfo{ID: "n", Boot: "1", Capacity: functions.Resources{MilliCPU: 4000, Memory: functions.GiB, Tasks: 4}},
			Running: []functions.Running{{Task: taskID(7), Attempt: 1}},
		}
		if s.Heartbeat(hb) {
			t.Error("granted without a term")
		}
		stop := w.lead(s)
		synctest.Wait()
		if !s.Heartbeat(hb) || idle.Heartbeat(hb) {
			t.Error("want granted by the leader and by nobody else")
		}
		for _, x := range []*Scheduler{s, idle} {
			nodes := x.Nodes()
			if len(nodes) != 1 || !nodes[0].Alive || len(nodes[0].Running) != 1 {
				t.Errorf("nodes are %+v", nodes)
			}
		}
		if err := s.Lead(t.Context(), 99); !errors.Is(err, functions.ErrConflict) {
			t.Errorf("a second term at once: %v", err)
		}
		w.submit("f", nil)
		w.submit("f", nil)
		synctest.Wait()
		if a, b := s.QueueLength("f"), idle.QueueLength("f"); a != 2 || b != 2 {
			t.Errorf("queue lengths are %d and %d, want 2 and 2", a, b)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if s.Heartbeat(hb) {
			t.Error("granted after the term")
		}
		after(10 * time.Second)
		if nodes := idle.Nodes(); nodes[0].Alive {
			t.Error("a silent node is alive")
		}
		if _, ok := idle.Explain(taskID(1)); ok {
			t.Error("explained without a term")
		}
	})
}

func TestOldLeaderStepsDownWhenItSeesANewerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deploy(functions.Spec{Name: "f"})
		old, heir := w.newScheduler(t), w.newScheduler(t)
		stopOld := w.lead(old)
		synctest.Wait()
		stopNew := w.lead(heir)
		w.node("n", 8, 0)
		after(1100 * time.Millisecond)
		id := w.submit("f", nil)
		after(time.Second)
		if err := stopOld(); !errors.Is(err, functions.ErrStale) {
			t.Errorf("old leader ended with %v, want ErrStale", err)
		}
		if task := want(t, w, id, functions.Succeeded, functions.CPU); task.Attempts[0].Epoch != 2 {
			t.Errorf("epoch is %d, want the newer leader's", task.Attempts[0].Epoch)
		}
		if err := stopNew(); err != nil {
			t.Error(err)
		}
		w.close()
	})
}

func TestLogThatIsDownDelaysButLosesNothing(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "gpu", Device: functions.Preferred})
		w.deploy(functions.Spec{Name: "cpu", Device: functions.Never})
		w.node("a", 8, 1).behave = forever
		after(1100 * time.Millisecond)
		w.submit("gpu", nil)
		synctest.Wait()
		w.mu.Lock()
		w.appendErr = func() (bool, bool) { return true, false }
		w.mu.Unlock()
		spills := w.submit("gpu", nil) // its time comes while an append is on its way
		runs := w.submit("cpu", nil)
		after(time.Minute)
		wantWaiting(t, s, runs, functions.WaitTurn, "the decision is being written")
		w.mu.Lock()
		w.appendErr = nil
		w.mu.Unlock()
		after(2 * time.Second)
		want(t, w, runs, functions.Assigned, functions.CPU)
		want(t, w, spills, functions.Assigned, functions.CPU)
	})
}

func TestHopelessAppendEndsTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deploy(functions.Spec{Name: "f"})
		s, err := New(Config{Log: refusing{}, Nodes: w, Tasks: w, Functions: w})
		if err != nil {
			t.Fatal(err)
		}
		w.followers = append(w.followers, s)
		stop := w.lead(s)
		w.node("a", 8, 0)
		w.submit("f", nil)
		after(3 * time.Second)
		if err := stop(); !errors.Is(err, functions.ErrStale) {
			t.Errorf("ended with %v, want ErrStale", err)
		}
		w.close()
	})
}

type refusing struct{}

func (refusing) Append(context.Context, string, ...functions.Event) (uint64, error) {
	return 0, functions.NewError(functions.ErrStale, "stale", "not the leader")
}

func TestLeaderThatWasAwayDoesNotBlameNodes(t *testing.T) {
	w := newWorld()
	w.deploy(functions.Spec{Name: "f"})
	s := w.newScheduler(t)
	tm := newTerm(s.cfg, s.log, 1)
	n := tm.node("a")
	n.report(functions.NodeInfo{ID: "a", Boot: "1", Ready: true}, tm.now)
	tm.wakeUp(tm.now.Add(time.Hour))
	if silent := tm.now.Sub(n.seen); silent != 0 {
		t.Errorf("node counts as silent for %s", silent)
	}
	tm.wakeUp(tm.now.Add(time.Second))
	if silent := tm.now.Sub(n.seen); silent != time.Second {
		t.Errorf("node counts as silent for %s, want 1s", silent)
	}
}

func TestExplain(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "small"})
		w.deploy(functions.Spec{Name: "big", Limits: functions.Limits{CPUs: 32}})
		w.deploy(functions.Spec{Name: "gpu", Device: functions.Required})
		w.deploy(functions.Spec{Name: "gpus", Device: functions.Required, GPU: &functions.GPUNeed{Count: 4}})
		w.deploy(functions.Spec{Name: "vast", Device: functions.Required, GPU: &functions.GPUNeed{Memory: 99 * functions.GiB}})
		first := w.submit("small", nil)
		wantWaiting(t, s, first, functions.WaitNoLeader, "waits for the nodes to report")
		after(time.Second)
		wantWaiting(t, s, first, functions.WaitNoNode, "no node has joined")
		n := w.node("n", 2, 2, func(n *fakeNode) {
			n.behave, n.info.Ready, n.info.Reason = forever, false, "the disk is full"
		})
		after(time.Second)
		wantWaiting(t, s, first, functions.WaitNoNode, "1 known, 0 silent, 1 not taking tasks (the disk is full)")
		n.mu.Lock()
		n.info.Ready = true
		n.mu.Unlock()
		after(time.Second)
		if _, ok := s.Explain(first); ok {
			t.Error("a running task is explained")
		}
		w.submit("small", nil)
		synctest.Wait()
		wantWaiting(t, s, w.submit("big", nil), functions.WaitTooBig, "no node can ever run this: it needs 32 CPU(s) and the largest node has 2 CPU(s)")
		wantWaiting(t, s, w.submit("small", nil), functions.WaitRoom, "1 node(s) ready and full: it needs 1 CPU(s) and 512MiB; at most 0 CPU(s)")
		wantWaiting(t, s, w.submit("gpu", nil), functions.WaitGPUBusy, "it needs 1 of 2 GPU(s): 0 leased, 0 quarantined; the rest do not suit or their node has no room")
		wantWaiting(t, s, w.submit("gpus", nil), functions.WaitTooBig, "no node can ever run this: it needs 4 GPUs and the largest node has 2")
		wantWaiting(t, s, w.submit("vast", nil), functions.WaitTooBig, "no node can ever run this: it needs a GPU with 99GiB for it and 1GiB for the driver and its context, and the largest has 16GiB")
		n.mu.Lock()
		for i := range n.info.GPUs {
			n.info.GPUs[i].State, n.info.GPUs[i].Until = functions.GPUQuarantined, time.Now().Add(40*time.Second)
		}
		n.mu.Unlock()
		n.beat()
		wantWaiting(t, s, w.submit("gpu", nil), functions.WaitGPUBusy, "2 quarantined; the next quarantined GPU is tried again in 40s; 1 of this function go first")
		unknown := w.submit("nobody", nil)
		wantWaiting(t, s, unknown, functions.WaitFunction, "version 1 of function nobody is not known")
		if _, ok := s.Explain("no such id"); ok {
			t.Error("what is no id is explained")
		}
		n.setSilent(true)
		after(4 * time.Second)
		wantWaiting(t, s, unknown, functions.WaitFunction, "is not known")
		wantWaiting(t, s, w.submit("gpu", nil), functions.WaitNoNode, "1 known, 1 silent")
	})
}
