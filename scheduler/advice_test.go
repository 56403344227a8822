package scheduler

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"pgregory.net/rapid"
)

// sure is an estimate from enough tasks of the right size.
func sure(took time.Duration) estimate { return estimate{Took: took, Tasks: 12} }

func TestStartOnTheNextPlace(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name   string
		places []time.Duration
		each   time.Duration
		ahead  int
		want   time.Duration
		ok     bool
	}{
		{"nobody can tell", nil, s, 0, 0, false},
		{"the first one", []time.Duration{4 * s, 9 * s}, 0, 0, 4 * s, true},
		{"behind others of unknown length", []time.Duration{4 * s}, 0, 1, 0, false},
		{"the second place", []time.Duration{4 * s, 9 * s}, 10 * s, 1, 9 * s, true},
		{"the first one again", []time.Duration{4 * s, 9 * s}, 10 * s, 2, 14 * s, true},
		{"the first one twice", []time.Duration{1 * s, 90 * s}, 10 * s, 3, 31 * s, true},
		{"behind ten on one GPU", []time.Duration{s}, 10 * s, 10, 101 * s, true},
		{"beyond all time", []time.Duration{s}, math.MaxInt64 / 4, 10, math.MaxInt64 / 2, true},
	} {
		got, ok := outlook{GPU: sure(soon), Places: tt.places, Each: tt.each}.onGPU(tt.ahead)
		if ok {
			got -= soon
		}
		if got != tt.want || ok != tt.ok {
			t.Errorf("%s: %s, %v, want %s, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

func TestRemaining(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct{ expected, elapsed, want time.Duration }{
		{60 * s, 20 * s, 40 * s},
		{60 * s, 59 * s, 6 * s},
		{60 * s, 60 * s, 6 * s},
		{60 * s, 600 * s, 540 * s},
		{10 * time.Millisecond, 0, soon},
	} {
		if got := remaining(tt.expected, tt.elapsed); got != tt.want {
			t.Errorf("expected %s, runs for %s: %s left, want %s", tt.expected, tt.elapsed, got, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		expected, elapsed := duration(t, "expected"), duration(t, "elapsed")
		got := remaining(expected, elapsed)
		if got < soon {
			t.Fatalf("%s is sooner than soon", got)
		}
		if later := elapsed + duration(t, "more"); later <= expected && remaining(expected, later) > got {
			t.Fatal("who has run for longer is done later")
		}
		if hung := remaining(expected, expected+time.Hour); hung < time.Hour {
			t.Fatalf("one that hangs is expected in %s", hung)
		}
	})
}

func duration(t *rapid.T, name string) time.Duration {
	return time.Duration(rapid.Int64Range(0, 10_000).Draw(t, name)) * 10 * time.Millisecond
}

func drawEstimate(t *rapid.T, name string) estimate {
	return estimate{Took: duration(t, name), Tasks: rapid.SampledFrom([]int{0, minSamples, maxSamples}).Draw(t, name+" tasks")}
}

func drawOutlook(t *rapid.T) outlook {
	o := outlook{
		GPU: drawEstimate(t, "gpu"), CPU: drawEstimate(t, "cpu"), Each: duration(t, "each"),
		First: rapid.IntRange(0, 20).Draw(t, "first"), Rivals: rapid.IntRange(0, 20).Draw(t, "rivals"), Share: rapid.Float64Range(0, 5).Draw(t, "share"),
		CPUFree: rapid.Bool().Draw(t, "cpu free"), CPUWait: duration(t, "cpu wait"),
	}
	for range rapid.IntRange(0, 5).Draw(t, "places") {
		o.Places = append(o.Places, soon+duration(t, "place"))
	}
	slices.Sort(o.Places)
	return o
}

func TestExpectationsMoveTheRightWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, ahead := drawOutlook(t), rapid.IntRange(0, 100).Draw(t, "ahead")
		base, ok := o.onGPU(ahead)
		if !ok {
			if o.GPU.known() && len(o.Places) > 0 && o.Each > 0 {
				t.Fatal("all is known, and nothing is promised")
			}
			return
		}
		if base < o.Places[0]+o.GPU.Took {
			t.Fatal("done before the first GPU can have done it")
		}
		worse := func(name string, change func(*outlook)) {
			x := o
			x.Places = slices.Clone(o.Places)
			change(&x)
			if got, ok := x.onGPU(ahead); ok && got < base {
				t.Fatalf("%s makes it sooner: %s instead of %s", name, got, base)
			}
			if x.CPU == o.CPU && x.worthIt() > o.worthIt() {
				t.Fatalf("%s makes waiting worth it for %d instead of %d", name, x.worthIt(), o.worthIt())
			}
		}
		if o.Each > 0 {
			worse("more of higher priority", func(x *outlook) { x.First++ })
			worse("more of other functions", func(x *outlook) { x.Rivals++ })
			worse("slower tasks in front", func(x *outlook) { x.Each += duration(t, "slower") })
		}
		worse("being slower", func(x *outlook) { x.GPU.Took += duration(t, "own") })
		worse("GPUs that are busy for longer", func(x *outlook) {
			for i := range x.Places {
				x.Places[i] += duration(t, "busy")
			}
			slices.Sort(x.Places)
		})
		if more, ok := o.onGPU(ahead + 1); ok && more < base {
			t.Fatal("one more in front makes it sooner")
		}
		x := o
		x.Places = append(slices.Clone(o.Places), duration(t, "another GPU"))
		slices.Sort(x.Places)
		if got, ok := x.onGPU(ahead); !ok || got > base {
			t.Fatalf("one more GPU makes it later: %s instead of %s", got, base)
		}
	})
}

// TestWorthItIsWhereDecisionsChange holds the count against the decisions of
// every place in the queue.
func TestWorthItIsWhereDecisionsChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOutlook(t)
		o.Each += soon
		n := o.worthIt()
		for ahead := range 50 {
			_, sooner := soonerOnCPU(ask{Route: functions.Route{Policy: functions.Fastest}, Outlook: o, Queue: standing{Ahead: ahead}})
			if sooner != (ahead >= n) {
				t.Fatalf("waiting is worth it for %d, and with %d in front the CPU is sooner: %v", n, ahead, sooner)
			}
		}
	})
}

func drawAsk(t *rapid.T) (ask, supply) {
	policy := rapid.SampledFrom([]functions.Policy{functions.Required, functions.Preferred, functions.Auto, functions.Fastest, functions.Never}).Draw(t, "policy")
	kind := rapid.SampledFrom([]string{"", "audio/wav", "application/pdf"}).Draw(t, "kind")
	a := ask{
		Route:      functions.Route{Policy: policy, ContentType: kind}.Decide(),
		Only:       rapid.SampledFrom([]functions.Device{"", "", functions.CPU, functions.GPU}).Draw(t, "only"),
		Waited:     duration(t, "waited"),
		SpillAfter: duration(t, "spill after"), GPUs: 1,
		Queue:   standing{Ahead: rapid.IntRange(0, 20).Draw(t, "ahead"), Limit: rapid.IntRange(0, 20).Draw(t, "limit")},
		Outlook: drawOutlook(t),
	}
	a.Queue.All = a.Queue.Ahead + 1
	s := supply{Nodes: rapid.IntRange(0, 2).Draw(t, "nodes")}
	if s.Nodes > 0 {
		s.Total = rapid.IntRange(0, 3).Draw(t, "total")
		s.Leased = rapid.IntRange(0, s.Total).Draw(t, "leased")
		s.Suited = s.Total > 0 && rapid.Bool().Draw(t, "suited")
		s.Fits = s.Suited && rapid.Bool().Draw(t, "fits")
		s.Shunned = s.Fits && rapid.Bool().Draw(t, "shunned")
	}
	return a, s
}

func TestDecisionsKeepToThePolicyAndEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, s := drawAsk(t)
		d := decide(a, s)
		demand := demandOf(a.Route, a.Only)
		switch {
		case d.Reason == "":
			t.Fatal("no reason")
		case demand == wantsCPU && (d.Device != functions.CPU || d.Wait):
			t.Fatalf("the CPU was asked for: %+v", d)
		case demand == requiresGPU && d.Device != functions.GPU:
			t.Fatalf("a GPU was asked for: %+v", d)
		case demand == requiresGPU && d.Wait == s.Fits:
			t.Fatalf("waits for what is there, or not for what is not: %+v", d)
		case demand != prefersGPU:
			return
		case d.Wait && (d.For <= 0 || d.For > max(a.SpillAfter, a.Outlook.CPU.Took+time.Second)):
			t.Fatalf("waits for %s", d.For)
		case d.Device == functions.GPU && !d.Wait && !s.Fits:
			t.Fatalf("no GPU is free: %+v", d)
		case a.Route.Policy != functions.Fastest && strings.Contains(d.Reason, "expected"):
			t.Fatalf("numbers that nobody asked for: %q", d.Reason)
		}
		if d.Wait {
			a.Waited += d.For
			if after := decide(a, s); after.Wait {
				t.Fatalf("waits on after %s: %+v", d.For, after)
			}
		}
		if a.Queue.over() && s.Nodes > 0 && !s.Fits && d.Wait {
			t.Fatalf("beyond the limit of its queue, and waits: %+v", d)
		}
	})
}

func TestFastestWithoutDataIsPreferred(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, s := drawAsk(t)
		a.Only = ""
		switch rapid.IntRange(0, 2).Draw(t, "missing") {
		case 0:
			a.Outlook.GPU = estimate{}
		case 1:
			a.Outlook.CPU = estimate{}
		case 2:
			a.Outlook = outlook{}
		}
		a.Route = functions.Route{Policy: functions.Fastest}.Decide()
		got := decide(a, s)
		a.Route = functions.Route{Policy: functions.Preferred, Reason: a.Route.Reason, Device: functions.GPU}
		if want := decide(a, s); got != want {
			t.Fatalf("fastest: %+v, preferred: %+v", got, want)
		}
	})
}

func TestFastest(t *testing.T) {
	const s = time.Second
	free := supply{Nodes: 1, Total: 1, Suited: true, Fits: true}
	busy := supply{Nodes: 1, Total: 1, Leased: 1, Suited: true}
	quick := outlook{GPU: sure(5 * s), CPU: sure(12 * s), Places: []time.Duration{6 * s}, Each: 5 * s, CPUFree: true}
	slow := outlook{GPU: sure(15 * s), CPU: sure(12 * s), Places: []time.Duration{40 * s}, Each: 15 * s, CPUFree: true}
	with := func(o outlook, edit func(*outlook)) outlook { edit(&o); return o }
	for _, tt := range []struct {
		name   string
		supply supply
		look   outlook
		ahead  int
		waited time.Duration
		device functions.Device
		wait   time.Duration
		reason string
	}{
		{"the GPU is faster", free, quick, 0, 0, functions.GPU, 0, "policy fastest: a free GPU is expected to finish in about 5 s, the CPU in about 12 s"},
		{"the CPU is faster", free, slow, 0, 0, functions.CPU, 0, "policy fastest: the CPU is expected to finish in about 12 s, a free GPU in about 15 s"},
		{"the CPU is faster and full", free, with(slow, func(o *outlook) { o.CPUFree, o.CPUWait = false, s }), 0, 0, functions.GPU, 0, "policy fastest: a free GPU is expected to finish in about 15 s, the CPU in about 12 s"},
		{"a wait is worth it", busy, quick, 0, 0, functions.GPU, 30 * s, "every GPU is busy"},
		{"not behind another", busy, quick, 1, 0, functions.CPU, 0, "policy fastest: the CPU is expected to finish in about 12 s, the next GPU in about 16 s"},
		{"unless the CPU is full for long", busy, with(quick, func(o *outlook) { o.CPUFree, o.CPUWait = false, 60*s }), 1, 0, functions.GPU, 30 * s, "every GPU is busy"},
		{"a wait is not worth it", busy, slow, 0, 0, functions.CPU, 0, "policy fastest: the CPU is expected to finish in about 12 s, the next GPU in about 55 s"},
		{"by tasks of other sizes", busy, with(slow, func(o *outlook) { o.CPU = estimate{12 * s, 7, allSizes} }), 0, 0, functions.CPU, 0, "policy fastest: the CPU is expected to finish in about 12 s, the next GPU in about 55 s (from 7 tasks of all sizes)"},
		{"a wait that was misjudged", busy, quick, 0, 30 * s, functions.CPU, 0, "spilled after 30s: every GPU is busy"},
		{"a long wait that is worth it", busy, with(quick, func(o *outlook) { o.CPU = sure(90 * s) }), 0, 40 * s, functions.GPU, 50 * s, "every GPU is busy"},
		{"nobody knows when one is free", busy, with(quick, func(o *outlook) { o.Places = nil }), 0, 0, functions.GPU, 30 * s, "every GPU is busy"},
		{"no data", free, outlook{}, 0, 0, functions.GPU, 0, "policy fastest: where it is expected to be done first; one is free"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := decide(ask{
				Route: functions.Route{Policy: functions.Fastest}.Decide(), GPUs: 1, Waited: tt.waited, SpillAfter: 30 * s,
				Queue: standing{Ahead: tt.ahead, All: tt.ahead + 1}, Outlook: tt.look,
			}, tt.supply)
			if want := (decision{tt.device, tt.wait > 0, tt.wait, tt.reason}); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestAboutIsRough(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.1 s", 340 * time.Millisecond: "0.34 s", 3 * time.Second: "3 s", 3260 * time.Millisecond: "3.3 s",
		55400 * time.Millisecond: "55 s", 10 * time.Minute: "10 min", 30 * time.Hour: "30 h",
	} {
		if got := about(d); got != want {
			t.Errorf("%s is about %s, want %s", d, got, want)
		}
	}
}
