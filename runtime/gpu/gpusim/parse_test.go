package gpusim

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
)

func TestParseDevices(t *testing.T) {
	for _, c := range []struct {
		text string
		want string // index, UUID, memory and model of each
	}{
		{"1x80GiB", "0 SIM-n-0 80GiB Simulated GPU"},
		{"2x80GiB:H100", "0 SIM-n-0 80GiB H100, 1 SIM-n-1 80GiB H100"},
		{"1x24GiB:L4, 2x80GiB:NVIDIA H100 80GB HBM3", "0 SIM-n-0 24GiB L4, 1 SIM-n-1 80GiB NVIDIA H100 80GB HBM3, 2 SIM-n-2 80GiB NVIDIA H100 80GB HBM3"},
		{"1x1GiB", "0 SIM-n-0 1GiB Simulated GPU"},
	} {
		devices, err := ParseDevices(c.text, "n")
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		var got []string
		for _, d := range devices {
			if d.Free != d.Total || d.Used != 0 || d.Minor != d.Index || d.BusID == "" {
				t.Errorf("%q: device %+v is not idle, or lies nowhere", c.text, d)
			}
			got = append(got, fmt.Sprint(d.Index, d.UUID, d.Total, d.Model))
		}
		if strings.ReplaceAll(c.want, " ", "") != strings.ReplaceAll(strings.Join(got, ","), " ", "") {
			t.Errorf("%q: %v, want %s", c.text, got, c.want)
		}
	}
	for _, text := range []string{"", "2", "2x", "x80GiB", "0x80GiB", "-1x80GiB", "65x80GiB", "64x80GiB,1x80GiB", "2x80GiB,", "2x1MiB", "2x2000GiB", "2x80GiB:", "2x80GiB:a\nb", "2y80GiB"} {
		_, err := ParseDevices(text, "n")
		if e, ok := errors.AsType[*functions.Error](err); !ok || !errors.Is(err, functions.ErrInvalid) || !strings.Contains(e.Hint, "2x80GiB") {
			t.Errorf("%q: error %v, want one that says what to write", text, err)
		}
	}
}

func TestParseFault(t *testing.T) {
	everywhere := func(f Fault) Fault { f.Index = Everywhere; return f }
	for text, want := range map[string]Fault{
		"oom":             everywhere(Fault{Kind: OutOfMemory, Rate: 1}),
		" lost@1 ":        {Kind: Lost, Rate: 1, Index: 1},
		"hook:0.25":       everywhere(Fault{Kind: Hook, Rate: 0.25}),
		"device:first=2":  everywhere(Fault{Kind: NoDevice, Rate: 1, First: 2}),
		"missing:0@0":     {Kind: Missing, Index: 0},
		"slow=2s:0.5@3":   {Kind: Slow, Pause: 2 * time.Second, Rate: 0.5, Index: 3},
		"foreign=40GiB@0": {Kind: Foreign, Size: 40 * functions.GiB, Rate: 1},
		"stale":           everywhere(Fault{Kind: Stale, Rate: 1}),
	} {
		if got, err := ParseFault(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, says := range map[string]string{
		"":                 "no kind of fault",
		"broken":           "no kind of fault",
		"oom=1":            "takes no value",
		"oom:2":            "share from 0 to 1",
		"oom:-0.1":         "share from 0 to 1",
		"oom:NaN":          "share from 0 to 1",
		"oom:":             "share from 0 to 1",
		"oom:first=0":      "number of launches",
		"oom:first=x":      "number of launches",
		"oom@":             "index of a device",
		"oom@-1":           "index of a device",
		"oom@64":           "index of a device",
		"oom@1@1":          "index of a device",
		"slow":             "for how long",
		"slow=-1s":         "for how long",
		"slow=2h":          "for how long",
		"foreign":          "how much memory",
		"foreign=0":        "how much memory",
		"foreign=1GiB:0.5": "until it is taken away",
		"stale@0":          "of all devices",
		"stale:first=1":    "until it is taken away",
	} {
		_, err := ParseFault(text)
		if e, ok := errors.AsType[*functions.Error](err); !ok || !errors.Is(err, functions.ErrInvalid) || !strings.Contains(err.Error(), says) || e.Hint == "" {
			t.Errorf("%q: error %v, want one that says %q and what to write", text, err, says)
		}
	}
}

func TestEveryKindIsListedOnce(t *testing.T) {
	seen := map[Kind]bool{}
	for _, k := range order {
		if _, known := kinds[k]; !known || seen[k] {
			t.Errorf("%s is listed, and unknown or listed twice", k)
		}
		seen[k] = true
	}
	if len(order) != len(kinds) {
		t.Errorf("%d kinds are listed of %d", len(order), len(kinds))
	}
}

func TestParseFaultsTogether(t *testing.T) {
	if _, err := ParseFaults([]string{"oom", "oom:1.0"}, 1); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("the same fault twice: %v", err)
	}
	if _, err := ParseFaults([]string{"oom@2"}, 2); err == nil || !strings.Contains(err.Error(), "there are 2 devices") {
		t.Errorf("a device that is not there: %v", err)
	}
	got, err := ParseFile("# a host on a bad day\n\noom:0.5 # often\n  lost@1\n", 2)
	if err != nil || len(got) != 2 || got[0].Kind != OutOfMemory || got[1].Index != 1 {
		t.Errorf("file: %+v, %v", got, err)
	}
}

// anyFault draws a fault as ParseFault may return it.
func anyFault(t *rapid.T) Fault {
	f := Fault{Kind: rapid.SampledFrom(order).Draw(t, "kind"), Rate: 1, Index: rapid.IntRange(Everywhere, maxDevices-1).Draw(t, "index")}
	switch f.Kind {
	case Slow:
		f.Pause = time.Duration(rapid.Int64Range(1, int64(maxPause)).Draw(t, "pause"))
	case Foreign:
		f.Size = functions.Bytes(rapid.Int64Range(1, int64(functions.TiB)).Draw(t, "size"))
	case Stale:
		f.Index = Everywhere
	}
	if kinds[f.Kind].stage == onReading {
		return f
	}
	if rapid.Bool().Draw(t, "counted") {
		f.First = rapid.IntRange(1, maxFirst).Draw(t, "first")
	} else {
		f.Rate = rapid.Float64Range(0, 1).Draw(t, "rate")
	}
	return f
}

func TestAFaultIsReadAsItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyFault(t)
		if got, err := ParseFault(want.String()); err != nil || got != want {
			t.Fatalf("%+v is written %q and read as %+v, %v", want, want, got, err)
		}
	})
}

func FuzzParseFault(f *testing.F) {
	for _, s := range []string{"oom", "lost@1", "hook:0.25", "device:first=2@0", "slow=2s:0.5@3", "foreign=40GiB@0", "stale", "oom:1e-3", "foreign=1.5GiB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseFault(text)
		if err != nil {
			if !errors.Is(err, functions.ErrInvalid) {
				t.Fatalf("%q: %v is not of class invalid", text, err)
			}
			return
		}
		if again, err := ParseFault(got.String()); err != nil || again != got {
			t.Fatalf("%q is %+v, written %q, read again as %+v, %v", text, got, got, again, err)
		}
	})
}

func FuzzParseDevices(f *testing.F) {
	for _, s := range []string{"1x80GiB", "2x80GiB:H100", "1x24GiB:L4,2x80GiB", "64x1GiB", "1x1.5GiB:x:y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		devices, err := ParseDevices(text, "n")
		if err != nil {
			if !errors.Is(err, functions.ErrInvalid) {
				t.Fatalf("%q: %v is not of class invalid", text, err)
			}
			return
		}
		if len(devices) < 1 || len(devices) > maxDevices {
			t.Fatalf("%q makes %d devices", text, len(devices))
		}
		seen := map[string]bool{}
		for i, d := range devices {
			if d.Index != i || seen[d.UUID] || d.Total < 2*functions.GPUOverhead || !printable(d.Model) {
				t.Fatalf("%q: device %d is %+v", text, i, d)
			}
			seen[d.UUID] = true
		}
	})
}
