package serve

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// shelf is a keeper whose instances are containers of a fake driver, without
// programs.
type shelf struct {
	*Keeper
	t      *testing.T
	driver *runtimetest.Fake
	end    func()
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{t: t, driver: runtimetest.NewFake()}
	s.driver.Add("image", func(ctx context.Context, _ *runtimetest.Process) int { <-ctx.Done(); return 0 })
	s.Keeper = NewKeeper(Starter{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	s.end = func() { cancel(); <-ended }
	t.Cleanup(s.end)
	return s
}

// add makes an instance that a task has.
func (s *shelf) add(name string, k Key, spec functions.Spec) *Instance {
	s.t.Helper()
	id, err := s.driver.Create(s.t.Context(), runtime.Spec{Name: name, Image: "image"})
	if err != nil {
		s.t.Fatal(err)
	}
	door, err := entry.NewDoor(filepath.Join(s.t.TempDir(), name))
	if err != nil {
		s.t.Fatal(err)
	}
	i := &Instance{ID: id, Name: name, Born: time.Now(), driver: s.driver, plan: Plan{Spec: spec}, door: door, ended: make(chan struct{}), quit: func() {}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[i] = &kept{
		Instance: i, key: k, limits: LimitsOf(spec, false), atOnce: spec.AtOnce(), memory: spec.Limits.Memory, busy: 1, served: 1,
	}
	return i
}

// gone waits until the container of an instance has been removed.
func (s *shelf) gone(i *Instance) {
	s.t.Helper()
	for until := time.Now().Add(patience); s.there(i); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			s.t.Fatalf("%s is not ended", i.Name)
		}
	}
}

func (s *shelf) there(i *Instance) bool {
	s.t.Helper()
	all, err := s.driver.List(s.t.Context(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range all {
		if c.ID == i.ID {
			return true
		}
	}
	return false
}

var web = Key{Function: "web", Version: 1, Device: functions.CPU}

func TestKeeperHandsOutAgain(t *testing.T) {
	s := newShelf(t)
	i := s.add("one", web, functions.Spec{Reuse: 3})
	if got := s.Take(t.Context(), web); got != nil {
		t.Errorf("a container that has a task was given another: %s", got.Name)
	}
	s.Done(i, nil)
	for _, other := range []Key{{Function: "web", Version: 1, Device: functions.GPU, GPUs: "a"}, {Function: "other", Version: 1, Device: functions.CPU}} {
		if got := s.Take(t.Context(), other); got != nil {
			t.Errorf("%+v was given %s", other, got.Name)
		}
	}
	for range 2 {
		if got := s.Take(t.Context(), web); got != i || !s.Holds("one") {
			t.Fatalf("got %v", got)
		}
		s.Done(i, &functions.Failure{Class: functions.ExitError})
	}
	if got := s.Take(t.Context(), web); got != nil || s.Holds("one") {
		t.Error("reuse 3 gave a fourth task")
	}
	s.gone(i)
}

func TestKeeperEndsWhatMisbehaves(t *testing.T) {
	s := newShelf(t)
	i := s.add("one", web, functions.Spec{Contract: functions.HTTPContract, HTTP: &functions.HTTPSpec{Concurrency: 2}})
	if s.Take(t.Context(), web) != i {
		t.Fatal("a container that takes two tasks was given one")
	}
	s.Done(i, &functions.Failure{Class: functions.TimedOutRun})
	if !s.there(i) {
		t.Error("a container was ended under its second task")
	}
	s.mu.Lock()
	doomed := s.all[i].doomed
	s.mu.Unlock()
	if !doomed || s.Take(t.Context(), web) != nil {
		t.Error("after a timeout it was given another task")
	}
	s.Done(i, nil)
	s.gone(i)
}

func TestKeeperEndsTheDead(t *testing.T) {
	s := newShelf(t)
	i := s.add("one", web, functions.Spec{})
	s.Done(i, nil)
	close(i.ended)
	if s.Take(t.Context(), web) != nil {
		t.Error("a container that has ended was given a task")
	}
	s.gone(i)
}

func TestKeeperEndsOlderVersions(t *testing.T) {
	s := newShelf(t)
	old := s.add("old", web, functions.Spec{})
	s.Done(old, nil)
	next := web
	next.Version++
	if s.Take(t.Context(), next) != nil {
		t.Error("a task was given a container of another version")
	}
	s.gone(old)
	// Servers that begin anew, without their data, begin with version 1.
	old = s.add("again", web, functions.Spec{})
	s.Done(old, nil)
	again := web
	again.Made++
	if s.Take(t.Context(), again) != nil {
		t.Error("a task was given a container of a function of other servers")
	}
	s.gone(old)
}

func TestKeeperMakesRoom(t *testing.T) {
	s := newShelf(t)
	var all []*Instance
	for _, name := range []string{"a", "b", "c"} {
		spec := functions.Spec{Limits: functions.Limits{Memory: 100}}
		all = append(all, s.add(name, web, spec))
	}
	for _, i := range all {
		s.Done(i, nil)
		time.Sleep(2 * time.Millisecond) // their order is that of their last use
	}
	s.Fit(300)()
	for _, i := range all {
		if !s.there(i) {
			t.Errorf("%s was ended though there is room", i.Name)
		}
	}
	s.Fit(250)()
	if s.there(all[0]) || !s.there(all[1]) || !s.there(all[2]) {
		t.Error("not the one that waited longest was ended")
	}
	if got := s.Take(t.Context(), web); got != all[2] {
		t.Error("the one that was used last is not the next")
	}
	s.Fit(0)()
	if s.there(all[1]) || !s.there(all[2]) {
		t.Error("no room: the idle one is to go, and the one with a task is not")
	}
	s.Done(all[2], nil)
}

func TestKeeperFreesDevices(t *testing.T) {
	s := newShelf(t)
	on := func(gpus string) Key { return Key{Function: "web", Version: 1, Device: functions.GPU, GPUs: gpus} }
	a, b := s.add("a", on("gpu-1,gpu-2"), functions.Spec{}), s.add("b", on("gpu-3"), functions.Spec{})
	s.Done(a, nil)
	s.Done(b, nil)
	s.Free(on("gpu-3"), []string{"gpu-3"})() // its own
	s.Free(web, nil)()
	if !s.there(a) || !s.there(b) {
		t.Fatal("containers were ended whose devices nobody wants")
	}
	s.Free(Key{Function: "other", GPUs: "gpu-2"}, []string{"gpu-2"})()
	if s.there(a) || !s.there(b) {
		t.Error("the one that holds gpu-2 is to go, the other is not")
	}
}

func TestKeeperTellsWhereItsInstancesWait(t *testing.T) {
	s := newShelf(t)
	on := func(gpus string) Key { return Key{Function: "web", Version: 1, Device: functions.GPU, GPUs: gpus} }
	a, b := s.add("a", on("gpu-1,gpu-2"), functions.Spec{}), s.add("b", on("gpu-3"), functions.Spec{})
	other := s.add("c", Key{Function: "other", Device: functions.GPU, GPUs: "gpu-4"}, functions.Spec{})
	cpu := s.add("d", web, functions.Spec{})
	s.Done(cpu, nil)
	if got, where := s.Idle(), s.Waits(on("")); len(got) != 0 || len(where) != 0 {
		t.Errorf("while all with devices are busy: %v wait, on %v", got, where)
	}
	s.Done(a, nil)
	s.Done(other, nil)
	time.Sleep(time.Millisecond)
	s.Done(b, nil)
	if got := s.Idle(); !slices.Equal(got, []runtime.ID{b.ID, other.ID, a.ID}) && !slices.Equal(got, []runtime.ID{b.ID, a.ID, other.ID}) {
		t.Errorf("%v wait", got)
	}
	if got := s.Waits(on("")); !slices.Equal(got, []string{"gpu-3", "gpu-1", "gpu-2"}) {
		t.Errorf("those of the function wait on %v", got)
	}
	if got := s.Waits(web); len(got) != 0 {
		t.Errorf("on the CPU they wait on %v", got)
	}
}

func TestKeeperEndsAll(t *testing.T) {
	s := newShelf(t)
	i, j := s.add("a", web, functions.Spec{}), s.add("b", web, functions.Spec{Reuse: functions.ReuseForever})
	s.Done(i, nil)
	s.Done(j, nil)
	s.end()
	if s.there(i) || s.there(j) {
		t.Error("containers are left at the end")
	}
}

func TestStale(t *testing.T) {
	now := time.Now()
	for reuse, want := range map[functions.Reuse]bool{0: true, 5: true, functions.ReuseForever: false} {
		c := &kept{limits: LimitsOf(functions.Spec{Reuse: reuse}, false), idle: now.Add(-UsualIdle - time.Second)}
		if got := c.stale(now); got != want {
			t.Errorf("reuse %d, idle for %s: stale %v", reuse, UsualIdle, got)
		}
	}
}
