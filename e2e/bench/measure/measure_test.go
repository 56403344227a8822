package measure

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSummarize(t *testing.T) {
	if s := Summarize(nil); s != nil {
		t.Errorf("of nothing: %+v, want nil", s)
	}
	v := make([]float64, 100)
	for i := range v {
		v[i] = float64(i + 1)
	}
	rand.Shuffle(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
	before := slices.Clone(v)
	s := Summarize(v)
	if !slices.Equal(v, before) {
		t.Error("the samples lost their order")
	}
	if s.N != 100 || s.Min != 1 || s.P50 != 50 || s.P90 != 90 || s.P99 != 99 || s.Max != 100 || s.Mean != 50.5 {
		t.Errorf("of 1 to 100: %+v", *s)
	}
	if one := Summarize([]float64{7}); one.Min != 7 || one.P50 != 7 || one.P99 != 7 || one.Max != 7 {
		t.Errorf("of one: %+v", *one)
	}
}

func TestSummaryKeepsBothEnds(t *testing.T) {
	v := make([]float64, 12345)
	for i := range v {
		v[i] = float64(i)
	}
	s := Summarize(v)
	if len(s.Sorted) != kept || s.Sorted[0] != 0 || s.Sorted[kept-1] != 12344 || !slices.IsSorted(s.Sorted) {
		t.Errorf("%d kept, %v to %v", len(s.Sorted), s.Sorted[0], s.Sorted[len(s.Sorted)-1])
	}
}

func TestParseCPU(t *testing.T) {
	got, err := ParseCPU("cpu  100 10 50 800 20 3 7 10 5 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
	if err != nil {
		t.Fatal(err)
	}
	// Guest time (5) is part of user time already.
	if want := (CPU{Busy: 170 * tick, Total: 1000 * tick}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, bad := range []string{"", "cpu\n", "cpu 1 2 3\n", "intr 5 5 5 5 5 5 5 5"} {
		if _, err := ParseCPU(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestPerTask(t *testing.T) {
	a := CPU{Busy: 10 * time.Second, Total: 100 * time.Second}
	b := CPU{Busy: 14 * time.Second, Total: 120 * time.Second} // 4 s busy of 20 s
	if got := Share(a, b); got != 0.2 {
		t.Errorf("share %v, want 0.2", got)
	}
	if got := PerTask(a, b, 0.1, 20); got != 100*time.Millisecond { // 2 s over the baseline
		t.Errorf("per task %v, want 100ms", got)
	}
	if got := PerTask(a, b, 0.25, 20); got != 0 {
		t.Errorf("below the baseline: %v, want 0", got)
	}
	if got := PerTask(a, CPU{Busy: 30 * time.Second, Total: 120 * time.Second}, 0.4, 20); got != 0 {
		t.Errorf("on a busy machine: %v, want 0", got)
	}
	if got := PerTask(a, b, 0, 0); got != 0 {
		t.Errorf("of no task: %v, want 0", got)
	}
	if got := Share(b, b); got != 0 {
		t.Errorf("of no time: %v, want 0", got)
	}
}

func TestCPUSeesWork(t *testing.T) {
	a, err := ReadCPU()
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		b, err := ReadCPU()
		if err != nil {
			t.Fatal(err)
		}
		if b.Busy-a.Busy >= 5*tick {
			return
		}
	}
	t.Error("30 s of work are not in the machine's processor time")
}

func TestSerialInterleaves(t *testing.T) {
	var order []int
	bad := errors.New("bad")
	op := func(i int, err error) Op {
		return func(context.Context) (time.Duration, error) {
			order = append(order, i)
			return time.Duration(i+1) * time.Millisecond, err
		}
	}
	before := 0
	s := Serial{Rounds: 3, Warmup: 1, Before: func() error { before++; return nil }}
	got, err := s.Run(t.Context(), []Op{op(0, nil), op(1, bad), op(2, nil)})
	if err != nil {
		t.Fatal(err)
	}
	if want := []int{0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if before != 12 {
		t.Errorf("Before was called %d times, want 12", before)
	}
	if got[0].Latency.N != 3 || got[0].Latency.Max != 1 || got[2].Latency.Min != 3 {
		t.Errorf("latencies %+v, %+v", got[0].Latency, got[2].Latency)
	}
	if got[1].Failures != 3 || got[1].Latency != nil || !errors.Is(got[1].Err, bad) {
		t.Errorf("failures %+v", got[1])
	}
}

func TestLoadHoldsSoManyInFlight(t *testing.T) {
	var now, most atomic.Int64
	got, err := Load(t.Context(), 4, 200*time.Millisecond, 0, func(context.Context) (time.Duration, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(2 * time.Millisecond)
		return time.Millisecond, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if most.Load() > 4 || got.Failures != 0 || got.Latency.N == 0 || got.Rate <= 0 {
		t.Errorf("most %d, result %+v", most.Load(), got)
	}
}

func TestLoadGivesUpOnWhatNeverWorks(t *testing.T) {
	bad := errors.New("bad")
	got, err := Load(t.Context(), 2, time.Hour, 0, func(context.Context) (time.Duration, error) { return 0, bad })
	if err != nil {
		t.Fatal(err)
	}
	if got.Failures < giveUp || got.Failures > giveUp+2 || got.Latency != nil || !errors.Is(got.Err, bad) {
		t.Errorf("%+v", got)
	}
}

func TestQuietGivesUp(t *testing.T) {
	found, err := Quiet(t.Context(), -1, time.Millisecond, 20*time.Millisecond)
	if err != nil || found {
		t.Errorf("found %v, err %v; no machine is less than idle", found, err)
	}
	if found, err = Quiet(t.Context(), 2, time.Millisecond, time.Hour); err != nil || !found {
		t.Errorf("found %v, err %v; every machine is less than twice busy", found, err)
	}
}
