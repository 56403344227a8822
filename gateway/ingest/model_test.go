package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// history is a registry with all versions, and what was in force when.
type history struct {
	versions map[functions.Name][]functions.Function
	live     map[functions.Name]bool
	eras     map[functions.Name][]era // oldest first
}

// era is a time from which on a function had these triggers; none = it was
// deleted.
type era struct {
	from     time.Time
	triggers []functions.Trigger
}

func newHistory() *history {
	return &history{map[functions.Name][]functions.Function{}, map[functions.Name]bool{}, map[functions.Name][]era{}}
}

func (h *history) List() (all []functions.Function) {
	for _, name := range []functions.Name{"f", "g"} {
		if f, err := h.Latest(name); err == nil {
			all = append(all, f)
		}
	}
	return all
}

func (h *history) Versions(name functions.Name) []functions.Function { return h.versions[name] }

func (h *history) Latest(name functions.Name) (functions.Function, error) {
	if v := h.versions[name]; h.live[name] {
		return v[len(v)-1], nil
	}
	return functions.Function{}, functions.NotFound("no_function", "no %s", name)
}

func (h *history) Version(name functions.Name, n int) (functions.Function, error) {
	return h.versions[name][n-1], nil
}

// mustStart is whether a function has wanted the object from when it was stored
// until the end of its last era.
func mustStart(eras []era, o stored) bool {
	for i := len(eras) - 1; i >= 0; i-- {
		if !slices.ContainsFunc(eras[i].triggers, func(t functions.Trigger) bool { return t.Matches(o.ref.Bucket, o.ref.Key, "") }) {
			return false
		}
		if !o.at.Before(eras[i].from) {
			return true
		}
	}
	return false
}

// outside is everything around an Ingest that outlives it.
type outside struct {
	*engine
	*shelf
	*history
	marks *ledger
	now   time.Time
}

func (o *outside) start() *Ingest {
	now := func() time.Time { return o.now }
	door := intake.New(intake.Config{Log: o.engine, Functions: o.history, Tasks: o.engine, Queue: o.engine, Objects: o.shelf, Now: now})
	return New(Config{Functions: o.history, Objects: o.shelf, Door: door, Tasks: lagging{o.engine}, Marks: o.marks, Now: now})
}

// deploy does what the server does.
func (o *outside) deploy(name functions.Name, triggers ...functions.Trigger) {
	again := !o.live[name] && len(o.versions[name]) > 0
	spec := functions.Spec{Name: name, Image: "i", MaxQueue: 1, Triggers: triggers}.WithDefaults()
	f := functions.Function{Spec: spec, Version: len(o.versions[name]) + 1, CreatedAt: o.now}
	o.versions[name], o.live[name] = append(o.versions[name], f), true
	o.eras[name] = append(o.eras[name], era{o.now, triggers})
	if again {
		_ = o.marks.Move(context.Background(), name, functions.Mark{From: o.now})
	}
}

func (o *outside) remove(name functions.Name) {
	o.live[name] = false
	o.eras[name] = append(o.eras[name], era{o.now, nil})
}

// Whatever happens, in whatever order: objects appear, their hints are lost or
// come late or twice, servers are away for days, the queue is full, the store or
// the log does not answer, functions change. In the end every object that a
// function has wanted since it was stored has exactly one task of it, and no
// task is of an object that was there before, unless a hint said so.
func TestNoObjectIsLostOrStartedTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := &outside{newEngine(), &shelf{}, newHistory(), &ledger{}, born}
		o.versioned, o.blind = rapid.Bool().Draw(rt, "versioned"), rapid.Bool().Draw(rt, "lagging")
		triggers := [][]functions.Trigger{
			{{Bucket: "inbox"}}, {{Bucket: "inbox", Prefix: "a"}}, {{Bucket: "inbox", Prefix: "b"}, {Bucket: "other"}}, {{Bucket: "other", Suffix: "1"}}, nil,
		}
		o.deploy("f", triggers[0]...)
		in := o.start()
		var hints, heard []Hint
		shown := make(map[string]time.Time) // when a content first showed
		show := func(ref functions.ObjectRef) {
			if _, ok := shown[identity(ref)]; !ok {
				shown[identity(ref)] = o.now
			}
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			o.now = o.now.Add(time.Second)
			switch rapid.SampledFrom([]string{"put", "put", "put", "parts", "hear", "hear", "lose", "wait", "list", "list", "restart", "full", "down", "away", "deploy", "remove"}).Draw(rt, "step") {
			case "put":
				at := o.now.Add(rapid.SampledFrom([]time.Duration{0, 0, -4 * time.Minute, 4 * time.Minute}).Draw(rt, "skew"))
				ref := o.put(rapid.SampledFrom([]string{"inbox", "other"}).Draw(rt, "bucket"), rapid.SampledFrom([]string{"a1", "a2", "b1", "c"}).Draw(rt, "key"),
					fmt.Sprint(rapid.IntRange(0, 99).Draw(rt, "data")), "", at)
				show(ref)
				for range rapid.IntRange(0, 2).Draw(rt, "hints") {
					hints = append(hints, Hint{Bucket: ref.Bucket, Key: ref.Key, VersionID: ref.VersionID})
				}
			case "parts": // dated from its beginning
				o.put("inbox", "a1", fmt.Sprint(o.now.Unix()), "", o.now.Add(-20*time.Hour))
				last := &o.objects[len(o.objects)-1].ref
				last.ETag += "-2"
				show(*last)
			case "hear":
				if len(hints) > 0 {
					i := rapid.IntRange(0, len(hints)-1).Draw(rt, "which")
					heard = append(heard, hints[i])
					_ = in.Offer(t.Context(), hints[i])
					hints = slices.Delete(hints, i, i+1)
				}
			case "lose":
				hints = nil
			case "wait":
				o.now = o.now.Add(time.Duration(rapid.IntRange(1, 5*24*60).Draw(rt, "minutes")) * time.Minute)
			case "list":
				_, _ = in.Reconcile(t.Context())
			case "restart":
				in = o.start()
			case "full":
				o.full = !o.full
			case "down":
				o.down = !o.down
			case "away":
				if o.err == nil {
					o.err = functions.Unavailable("store_unavailable", "away")
				} else {
					o.err = nil
				}
			case "deploy":
				o.deploy(rapid.SampledFrom([]functions.Name{"f", "g"}).Draw(rt, "function"), rapid.SampledFrom(triggers).Draw(rt, "triggers")...)
			case "remove":
				if name := rapid.SampledFrom([]functions.Name{"f", "g"}).Draw(rt, "function"); o.live[name] {
					o.remove(name)
				}
			}
		}
		o.full, o.down, o.err = false, false, nil
		if _, err := in.Reconcile(t.Context()); err != nil {
			rt.Fatal(err)
		}
		tasks := make(map[string]int)
		for _, task := range o.all() {
			tasks[string(task.Function)+" "+task.Key]++
		}
		for _, ob := range o.objects {
			id := identity(ob.ref)
			wasHeard := slices.ContainsFunc(heard, func(h Hint) bool { return h.Bucket == ob.ref.Bucket && h.Key == ob.ref.Key })
			for _, name := range []functions.Name{"f", "g"} {
				n, must := tasks[string(name)+" "+id], mustStart(o.eras[name], ob)
				if n > 1 || must && n == 0 {
					rt.Fatalf("%s, stored %s, has %d tasks of %s, whose eras are %v", id, ob.at, n, name, o.eras[name])
				}
				may := false // at some time it was to be started
				for i, eras := 0, o.eras[name]; i < len(eras); i++ {
					over := i+1 < len(eras) && !shown[id].Before(eras[i+1].from)
					may = may || !over && mustStart(eras[:i+1], ob)
				}
				if n > 0 && !may && !wasHeard {
					rt.Fatalf("%s, stored %s, was there before %s, whose eras are %v", id, ob.at, name, o.eras[name])
				}
			}
		}
	})
}

func TestWhatHoldsAMark(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*outside)
		held  bool
	}{
		{"nothing", func(*outside) {}, false},
		{"a full queue", func(o *outside) { o.full = true }, true},
		{"a dead log", func(o *outside) { o.down = true }, true},
		{"a dead store", func(o *outside) { o.err = functions.Unavailable("x", "away") }, true},
		{"a store that refuses all", func(o *outside) { o.err = functions.NewError(functions.ErrForbidden, "x", "no") }, true},
		{"a bucket that is not there", func(o *outside) { o.err = functions.NotFound("x", "none") }, false},
	} {
		o := &outside{newEngine(), &shelf{}, newHistory(), &ledger{}, born}
		o.deploy("f", functions.Trigger{Bucket: "inbox"})
		o.put("inbox", "x", "data", "", born.Add(time.Minute))
		o.now = born.Add(time.Hour)
		c.spoil(o)
		in := o.start()
		_, err := in.Reconcile(t.Context())
		m, _ := o.marks.Mark(t.Context(), "f")
		want := functions.Mark{Until: o.now.Add(-in.Overlap)}
		if c.held {
			want = functions.Mark{}
		}
		if m != want || (err != nil) != c.held {
			t.Errorf("%s: mark %v, want %v; %v", c.name, m, want, err)
		}
		st, serr := in.Status(t.Context())
		if serr != nil || (st.Functions[0].Held != "") != c.held {
			t.Errorf("%s: status %+v, %v", c.name, st.Functions, serr)
		}
	}
}

// What can never start is tried and logged once, and holds nothing up.
func TestAnObjectThatIsRefusedForGoodIsLeftAlone(t *testing.T) {
	o := &outside{newEngine(), &shelf{}, newHistory(), &ledger{}, born}
	o.deploy("f", functions.Trigger{Bucket: "inbox"})
	o.put("inbox", "x", "data", "", born.Add(time.Minute))
	o.now = born.Add(time.Hour)
	in := o.start()
	tries := 0
	in.Door = doorFunc(func(context.Context, intake.Call) (intake.Ticket, error) {
		tries++
		return intake.Ticket{}, functions.Invalid("bad", "never")
	})
	for range 3 {
		if n, err := in.Reconcile(t.Context()); n != 0 || err != nil {
			t.Errorf("started %d, %v", n, err)
		}
	}
	m, _ := o.marks.Mark(t.Context(), "f")
	st, _ := in.Status(t.Context())
	if tries != 1 || m.Until.IsZero() || len(st.Sources) != 1 || st.Sources[0].Rejected != 1 || !strings.Contains(st.Sources[0].Error, "never") {
		t.Errorf("tried %d times, mark %v, sources %+v", tries, m, st.Sources)
	}
}

type doorFunc func(context.Context, intake.Call) (intake.Ticket, error)

func (d doorFunc) Accept(ctx context.Context, c intake.Call) (intake.Ticket, error) { return d(ctx, c) }

func (d doorFunc) Arrived(_ context.Context, t functions.Task, _ string) (functions.Task, error) {
	return t, errors.New("no upload is awaited here")
}
