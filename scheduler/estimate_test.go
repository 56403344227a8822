package scheduler

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"pgregory.net/rapid"
)

func input(n int64) functions.Input {
	return functions.Input{Name: "x", ObjectRef: functions.ObjectRef{Size: n}}
}

func TestSizeClasses(t *testing.T) {
	const kib = 1 << 10
	for _, tt := range []struct {
		inputs []functions.Input
		want   size
	}{
		{nil, noInput},
		{[]functions.Input{input(functions.UnknownSize)}, unknownSize},
		{[]functions.Input{input(5), input(functions.UnknownSize)}, unknownSize},
		{[]functions.Input{input(0)}, smallest},
		{[]functions.Input{input(64 * kib)}, smallest},
		{[]functions.Input{input(64*kib + 1)}, smallest + 1},
		{[]functions.Input{input(40 * kib), input(40 * kib)}, smallest + 1},
		{[]functions.Input{input(256 * kib)}, smallest + 1},
		{[]functions.Input{input(256*kib + 1)}, smallest + 2},
		{[]functions.Input{input(1 << 30)}, smallest + 7},
		{[]functions.Input{input(1 << 60)}, largest},
	} {
		if got := sizeOf(tt.inputs); got != tt.want {
			t.Errorf("%v: class %d, want %d", tt.inputs, got, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64Range(0, 1<<50).Draw(t, "a"), rapid.Int64Range(0, 1<<50).Draw(t, "b")
		if one, both := sizeOf([]functions.Input{input(a)}), sizeOf([]functions.Input{input(a), input(b)}); both < one || both > largest {
			t.Fatalf("%d is of class %d, and %d more of class %d", a, one, b, both)
		}
	})
}

var someVersion = versionKey{"f", 1}

// taught returns estimates that have seen attempts of some seconds each.
func taught(d functions.Device, sz size, ended time.Time, seconds ...int) *estimates {
	es := &estimates{}
	for _, s := range seconds {
		es.learn(someVersion, d, sz, sample{time.Duration(s) * time.Second, ended.Unix()}, false)
	}
	return es
}

func TestEstimatesFallBackToOtherSizesAndSaySo(t *testing.T) {
	now := time.Unix(1e9, 0)
	es := taught(functions.GPU, smallest+2, now, 4, 2, 100)
	for _, s := range []int{7, 8} {
		es.learn(someVersion, functions.GPU, smallest+5, sample{time.Duration(s) * time.Second, now.Unix()}, false)
	}
	for _, tt := range []struct {
		name string
		size size
		want estimate
	}{
		{"its own", smallest + 2, estimate{4 * time.Second, 3, itsSize}},
		{"next to it, below", smallest + 1, estimate{4 * time.Second, 3, aboutSize}},
		{"next to it, above", smallest + 3, estimate{4 * time.Second, 3, aboutSize}},
		{"too few of its own", smallest + 5, estimate{7 * time.Second, 5, allSizes}},
		{"far away", largest, estimate{7 * time.Second, 5, allSizes}},
		{"no input", noInput, estimate{7 * time.Second, 5, allSizes}},
		{"any", anySize, estimate{7 * time.Second, 5, itsSize}},
	} {
		if got := es.of(someVersion, functions.GPU, tt.size, now); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	for name, got := range map[string]estimate{
		"the other device": es.of(someVersion, functions.CPU, smallest+2, now),
		"another version":  es.of(versionKey{"f", 2}, functions.GPU, smallest+2, now),
		"a day later":      es.of(someVersion, functions.GPU, smallest+2, now.Add(sampleLife)),
		"two attempts":     taught(functions.GPU, noInput, now, 1, 2).of(someVersion, functions.GPU, noInput, now),
	} {
		if got.known() || got != (estimate{}) {
			t.Errorf("%s is known: %+v", name, got)
		}
	}
}

func TestEstimatesAreTheMedianOfTheNewest(t *testing.T) {
	now := time.Unix(1e9, 0)
	rapid.Check(t, func(t *rapid.T) {
		es := &estimates{}
		var all []time.Duration
		for i := range rapid.IntRange(0, 3*maxSamples).Draw(t, "n") {
			took := time.Duration(rapid.IntRange(0, 1000).Draw(t, "ms")) * time.Millisecond
			es.learn(someVersion, functions.CPU, noInput, sample{took, now.Unix() - int64(i%3)}, false)
			all = append(all, took)
			if rapid.Bool().Draw(t, "asked between") {
				es.of(someVersion, functions.CPU, noInput, now)
			}
		}
		newest := slices.Clone(all[max(0, len(all)-maxSamples):])
		want := estimate{}
		if len(newest) >= minSamples {
			slices.Sort(newest)
			want = estimate{Took: (newest[(len(newest)-1)/2] + newest[len(newest)/2]) / 2, Tasks: len(newest)}
		}
		if got := es.of(someVersion, functions.CPU, noInput, now); got != want {
			t.Fatalf("got %+v, want %+v of %v", got, want, newest)
		}
	})
}

func TestHistoryFillsOnlyWhatIsFreeAndOnce(t *testing.T) {
	now := time.Unix(1e9, 0)
	es := taught(functions.CPU, noInput, now, 5, 6)
	for range 3 {
		for _, s := range []int{5, 7} { // 5 has been seen
			es.learn(someVersion, functions.CPU, noInput, sample{time.Duration(s) * time.Second, now.Unix()}, true)
		}
	}
	if got, want := es.of(someVersion, functions.CPU, noInput, now), (estimate{6 * time.Second, 3, itsSize}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for i := range 2 * maxSamples {
		es.learn(someVersion, functions.CPU, noInput, sample{time.Hour, int64(i)}, true)
	}
	if got := len(es.records[someVersion].rings[0][noInput].all); got != maxSamples {
		t.Errorf("%d samples are kept", got)
	}
}

func TestEstimatesForgetTheFunctionNotNeededForLongest(t *testing.T) {
	now := time.Unix(1e9, 0)
	es := taught(functions.CPU, noInput, now, 1, 2, 3)
	for i := range 3 * maxRecorded {
		v := versionKey{functions.Name(fmt.Sprint("other", i)), 1}
		es.learn(v, functions.CPU, noInput, sample{time.Second, now.Unix()}, false)
		if !es.of(someVersion, functions.CPU, noInput, now).known() {
			t.Fatalf("forgotten after %d others, although it is asked for", i)
		}
	}
	if len(es.records) != maxRecorded {
		t.Errorf("%d functions are remembered, want %d", len(es.records), maxRecorded)
	}
}
