package pool

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// at makes times of calls from the gaps between them.
func at(gaps ...time.Duration) []time.Time {
	now := time.Unix(1e9, 0)
	calls := []time.Time{now}
	for _, g := range gaps {
		now = now.Add(g)
		calls = append(calls, now)
	}
	return calls
}

func repeat(n int, gaps ...time.Duration) (all []time.Duration) {
	for len(all) < n {
		all = append(all, gaps...)
	}
	return all[:n]
}

func TestWanted(t *testing.T) {
	const start = 200 * time.Millisecond
	random := func(mean time.Duration) (gaps []time.Duration) {
		r := rand.New(rand.NewPCG(1, 2))
		for range 63 {
			gaps = append(gaps, time.Duration(r.ExpFloat64()*float64(mean)))
		}
		return gaps
	}
	for name, c := range map[string]struct {
		calls       []time.Time
		least, most int
	}{
		"no call":                 {nil, 0, 0},
		"one call":                {at(), 1, 1},
		"clockwork, rare":         {at(repeat(30, 10*time.Second)...), 1, 1},
		"clockwork, 20 a start":   {at(repeat(63, 10*time.Millisecond)...), 20, 20},
		"at random, rare":         {at(random(time.Minute)...), 1, 2},
		"at random, 1 a start":    {at(random(start)...), 3, 6},
		"at random, 10 a start":   {at(random(start / 10)...), 14, 22},
		"ten at once each minute": {at(repeat(60, append(repeat(9, 0), time.Minute)...)...), 10, 16},
		"all at once":             {at(repeat(40, 0)...), 41, 41},
		// A night without calls says nothing about the morning.
		"steady, then a night": {at(append(repeat(60, time.Second), 10*time.Hour)...), 1, 2},
		"a clock set back":     {at(time.Second, -time.Hour, time.Second), 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Wanted(c.calls, start); got < c.least || got > c.most {
				t.Errorf("Wanted = %d, want %d to %d", got, c.least, c.most)
			}
		})
	}
}

// Whatever the calls: at least one is wanted once there was one, and never more
// than there were calls; and a slower start never wants fewer of regular calls.
func TestWantedIsBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var gaps []time.Duration
		for _, ms := range rapid.SliceOfN(rapid.IntRange(0, 100_000), 0, mostCalls-1).Draw(rt, "gaps") {
			gaps = append(gaps, time.Duration(ms)*time.Millisecond)
		}
		calls := at(gaps...)
		start := time.Duration(rapid.IntRange(0, 10_000).Draw(rt, "start")) * time.Millisecond
		if n := Wanted(calls, start); n < 1 || n > len(calls) {
			rt.Errorf("Wanted = %d of %d calls", n, len(calls))
		}
		period := time.Duration(rapid.IntRange(1, 10_000).Draw(rt, "period")) * time.Millisecond
		regular := at(repeat(40, period)...)
		if a, b := Wanted(regular, max(start, 1)), Wanted(regular, 2*max(start, 1)); a > b {
			rt.Errorf("a start of %s wants %d, and one of %s wants %d", start, a, 2*start, b)
		}
	})
}
