package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/spillway/spillway/functions"
)

// in makes a task work on files of shares.
func in(shares ...string) func(*functions.Task) {
	return func(t *functions.Task) {
		for _, s := range shares {
			t.Inputs = append(t.Inputs, functions.Input{Name: s, File: s + "/x"})
		}
	}
}

func (n *fakeNode) mount(shares ...string) {
	n.mu.Lock()
	n.info.Shares = shares
	n.mu.Unlock()
	n.beat()
}

func TestATaskWaitsForItsShare(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f"})
		w.deploy(functions.Spec{Name: "gpu", Device: functions.Preferred})
		bare, gpus := w.node("bare", 8, 0), w.node("gpus", 8, 1)
		after(1100 * time.Millisecond)
		one, both, spills := w.submit("f", in("media")), w.submit("f", in("nfs", "media")), w.submit("gpu", in("media"))
		after(time.Minute) // longer than any spill_after
		wantWaiting(t, s, one, functions.WaitShare, `no node with the shared folder "media" is ready`)
		wantWaiting(t, s, both, functions.WaitShare, `no node with the shared folders ["media" "nfs"] is ready`)
		wantWaiting(t, s, spills, functions.WaitShare, `"media"`)

		free := w.submit("f", nil)
		after(time.Second)
		want(t, w, free, functions.Succeeded, functions.CPU) // others are not held up

		bare.mount("media")
		after(time.Second)
		if got := want(t, w, one, functions.Succeeded, functions.CPU); got.Last().Node != "bare" {
			t.Errorf("ran on %s", got.Last().Node)
		}
		spilled := want(t, w, spills, functions.Succeeded, functions.CPU)
		last := spilled.Last()
		if last.Node != "bare" || last.Reason != `on the CPU at once: no ready node with the shared folder "media" has a GPU` {
			t.Errorf("ran on %s: %s", last.Node, last.Reason)
		}
		wantWaiting(t, s, both, functions.WaitShare, `"nfs"`)
		gpus.mount("nfs", "media")
		after(time.Second)
		if got := want(t, w, both, functions.Succeeded, functions.CPU); got.Last().Node != "gpus" {
			t.Errorf("ran on %s", got.Last().Node)
		}
		next := w.submit("gpu", in("media"))
		after(time.Second)
		want(t, w, next, functions.Succeeded, functions.GPU)
	})
}

func TestAFullShareSaysSo(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f"})
		w.deploy(functions.Spec{Name: "gpu", Device: functions.Required})
		n := w.node("n", 1, 0)
		n.behave = forever
		w.node("free", 8, 1)
		n.mount("media")
		after(1100 * time.Millisecond)
		w.submit("f", in("media"))
		synctest.Wait()
		wantWaiting(t, s, w.submit("f", in("media")), functions.WaitRoom, `1 node(s) with the shared folder "media" ready and full`)
		wantWaiting(t, s, w.submit("gpu", in("media")), functions.WaitNoGPUNode, `no ready node with the shared folder "media" has a GPU`)
	})
}

// Many tasks of shares that nobody has, more than get lanes of their own, hold
// up neither tasks without a share nor those of one that is there.
func TestMissingSharesDelayNobodyElse(t *testing.T) {
	stage(t, func(t *testing.T, w *world, s *Scheduler) {
		w.deploy(functions.Spec{Name: "f"})
		n := w.node("n", 8, 0)
		n.mount("media")
		after(1100 * time.Millisecond)
		for i := range maxShareLanes + 100 {
			w.submit("f", in(fmt.Sprint("missing", i)))
		}
		for range 40 {
			w.submit("f", in("missing0"))
		}
		there, free := w.submit("f", in("media")), w.submit("f", nil)
		after(time.Second)
		want(t, w, free, functions.Succeeded, functions.CPU)
		wantWaiting(t, s, there, functions.WaitTurn, "") // the lane of mixed wishes: behind 32 others
		for id := range uint64(maxShareLanes + 100) {
			w.control(taskID(id+1), functions.Cancel)
		}
		after(time.Second)
		want(t, w, there, functions.Succeeded, functions.CPU)
		next := w.submit("f", in("media"))
		after(time.Second)
		want(t, w, next, functions.Succeeded, functions.CPU) // its set has a lane again, in front of what still waits
		wantWaiting(t, s, taskID(maxShareLanes+101), functions.WaitShare, "missing0")
	})
}

// place never leaves the nodes that have the shares, and among them chooses as
// if there were no others.
func TestPlaceKeepsToShares(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	all := []string{"a", "b", "c"}
	some := func() (out []string) {
		for _, s := range all {
			if r.IntN(2) == 0 {
				out = append(out, s)
			}
		}
		return out
	}
	placed := 0
	for range 20000 {
		var fleet, having []*room
		n := need{Res: functions.Resources{MilliCPU: int64(r.IntN(5)) * 1000, Tasks: 1}, GPUs: r.IntN(2), Shares: some()}
		for i := range 1 + r.IntN(5) {
			m := open(functions.NodeID(fmt.Sprint("n", i)), int64(r.IntN(6)), []int{16, -16, 0}[:r.IntN(4)]...)
			m.Open, m.Shares = r.IntN(5) > 0, some()
			fleet = append(fleet, m)
			if m.has(n.Shares) {
				having = append(having, m)
			}
		}
		bare := n
		bare.Shares = nil
		got, gpus := place(fleet, n)
		want, wantGPUs := place(having, bare)
		if got != want || !slices.Equal(gpus, wantGPUs) {
			t.Fatalf("%+v: placed on %v, want %v", n, got, want)
		}
		if s, w := supplyOf(fleet, n), supplyOf(having, bare); s != w {
			t.Fatalf("%+v: supply %+v, want %+v", n, s, w)
		}
		if got != nil {
			placed++
		}
	}
	if placed < 1000 {
		t.Errorf("only %d were placed: nothing was tested", placed)
	}
}

// shareSets hold what a multiset of sets would, and forget what nobody needs.
func TestShareSets(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var sets shareSets
	type taken struct {
		i     int32
		names []string
	}
	var held []taken
	for range 20000 {
		if r.IntN(2) == 0 && len(held) > 0 {
			k := r.IntN(len(held))
			if got := sets.names(held[k].i); !slices.Equal(got, held[k].names) {
				t.Fatalf("set %d is %v, want %v", held[k].i, got, held[k].names)
			}
			sets.drop(held[k].i)
			held = slices.Delete(held, k, k+1)
			continue
		}
		names := []string{fmt.Sprint("s", r.IntN(20)), "t"}[:r.IntN(3)]
		i := sets.take(names)
		for _, h := range held {
			if (h.i == i) != slices.Equal(h.names, names) {
				t.Fatalf("%v and %v share set %d", h.names, names, i)
			}
		}
		held = append(held, taken{i, names})
	}
	for _, h := range held {
		sets.drop(h.i)
	}
	if len(sets.index) != 0 || len(sets.free) != max(0, len(sets.all)-1) {
		t.Errorf("%d sets are kept, %d of %d are free", len(sets.index), len(sets.free), len(sets.all)-1)
	}
}

// What a queued task costs the leader is kept in an entry: shares add nothing.
func TestEntryStaysSmall(t *testing.T) {
	if got := unsafe.Sizeof(entry{}); got > 80 {
		t.Errorf("an entry takes %d bytes", got)
	}
}
