package gpusim

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var quiet = slog.New(slog.DiscardHandler)

// faults are in force on a host of two devices.
func faults(t testing.TB, texts ...string) *Faults {
	t.Helper()
	parsed, err := ParseFaults(texts, 2)
	if err != nil {
		t.Fatal(err)
	}
	return NewFaults(parsed, "", 2, 1, quiet)
}

// met are the kinds that n launches on a device meet; "" = none.
func met(f *Faults, index, n int) (kinds []Kind) {
	for range n {
		var k Kind
		if end, _ := f.strike([]int{index}); end != nil {
			k = end.Kind
		}
		kinds = append(kinds, k)
	}
	return kinds
}

func TestFirstCountsLaunchesOnItsDevice(t *testing.T) {
	f := faults(t, "device:first=2@1")
	if got := met(f, 0, 3); !slices.Equal(got, []Kind{"", "", ""}) {
		t.Errorf("launches on the other device met %q", got)
	}
	if got := met(f, 1, 4); !slices.Equal(got, []Kind{NoDevice, NoDevice, "", ""}) {
		t.Errorf("launches on device 1 met %q, want the first two to fail", got)
	}
}

func TestTheFirstFaultWinsAndSlownessAdds(t *testing.T) {
	f := faults(t, "slow=1s", "oom", "slow=2s", "lost", "foreign=1GiB", "stale")
	end, slow := f.strike([]int{0})
	if end == nil || end.Kind != OutOfMemory || len(slow) != 2 {
		t.Errorf("met %v, slowed by %v; want oom, and both pauses", end, slow)
	}
}

func TestRates(t *testing.T) {
	const launches = 2000
	count := func(rate string) (n int) {
		for _, k := range met(faults(t, "oom:"+rate), 0, launches) {
			if k != "" {
				n++
			}
		}
		return n
	}
	if n := count("0"); n != 0 {
		t.Errorf("a rate of 0 struck %d times", n)
	}
	if n := count("1"); n != launches {
		t.Errorf("a rate of 1 struck %d times of %d", n, launches)
	}
	if n := count("0.25"); n < launches/5 || n > launches*3/10 { // the seed is fixed: this cannot vary
		t.Errorf("a rate of 0.25 struck %d times of %d", n, launches)
	}
}

// What one fault does to a launch does not depend on what else is in force.
func TestTheSameLaunchesMeetTheSameFaults(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		watched, err := ParseFault("hook:0.5")
		if err != nil {
			rt.Fatal(err)
		}
		others := []Fault{}
		for range rapid.IntRange(0, 4).Draw(rt, "others") {
			if f := anyFault(rt); f != watched && f.Kind != Hook {
				others = append(others, f)
			}
		}
		alone := NewFaults([]Fault{watched}, "", maxDevices, seed, quiet)
		crowd := NewFaults(append([]Fault{watched}, others...), "", maxDevices, seed, quiet)
		for i := range 40 {
			index := []int{rapid.IntRange(0, maxDevices-1).Draw(rt, "device")}
			a, _ := alone.strike(index)
			b, _ := crowd.strike(index)
			if (a != nil) != (b != nil && b.Kind == Hook) {
				rt.Fatalf("launch %d: alone %v, among %v: %v", i, a, others, b)
			}
		}
	})
}

func TestTheFileIsReadAsItChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "faults")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fixed, err := ParseFaults([]string{"hook@1"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFaults(fixed, file, 2, 1, quiet)
	want := func(when string, kinds ...Kind) {
		t.Helper()
		if got := met(f, 0, len(kinds)); !slices.Equal(got, kinds) {
			t.Errorf("%s: met %q, want %q", when, got, kinds)
		}
	}
	want("no file yet", "")
	write("oom:first=3\n")
	want("a fault comes", OutOfMemory)
	write("oom:first=3\nmissing\n")
	want("a second one comes, and the first keeps its count", OutOfMemory, OutOfMemory, Missing)
	write("oom:first=3\nmising\n")
	want("a file with a mistake changes nothing", Missing)
	write("# mended\n")
	want("mended", "")
	write("lost\n")
	want("it is back", Lost)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want("the file is gone", "")
	if got := met(f, 1, 1); got[0] != Hook {
		t.Errorf("what is fixed went with the file: %q", got)
	}
}
