package gpusim

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// Fault is one way in which the host fails: what, how often, and on which device.
type Fault struct {
	Kind  Kind
	Pause time.Duration   // of Slow
	Size  functions.Bytes // of Foreign
	Rate  float64         // of the launches, from 0 to 1
	First int             // only the first so many launches; 0 = as Rate says
	Index int             // of the device; Everywhere = any
}

// Everywhere is the index of a fault that is no single device's.
const Everywhere = -1

// Limits of what a Fault may say.
const (
	maxPause = time.Hour
	maxFirst = 1_000_000
)

// ParseFault reads KIND[=VALUE][:RATE][@INDEX]: "oom", "device:0.25@1",
// "slow=2s:first=3", "foreign=70GiB@0". RATE is a share of the launches from 0 to
// 1, or first=N. What is wrong is ErrInvalid.
func ParseFault(text string) (Fault, error) {
	f := Fault{Rate: 1, Index: Everywhere}
	rest, where, placed := strings.Cut(strings.TrimSpace(text), "@")
	head, rate, rated := strings.Cut(rest, ":")
	name, value, valued := strings.Cut(head, "=")
	f.Kind = Kind(name)
	k, known := kinds[f.Kind]
	if !known {
		return Fault{}, badFault("%q is no kind of fault", name).WithHint("use one of %s", list())
	}
	if placed {
		n, err := strconv.Atoi(where)
		if err != nil || n < 0 || n >= maxDevices {
			return Fault{}, badFault("%q is not the index of a device in %q", where, text)
		}
		f.Index = n
	}
	switch {
	case f.Kind == Stale && placed:
		return Fault{}, badFault("stale is of all devices together, and %q names one", text)
	case k.stage == onReading && rated:
		return Fault{}, badFault("%s lasts until it is taken away, and %q says how often", f.Kind, text)
	case rated:
		if err := f.parseRate(rate); err != nil {
			return Fault{}, err
		}
	}
	return f, f.parseValue(value, valued)
}

func (f *Fault) parseRate(text string) (err error) {
	if n, counted := strings.CutPrefix(text, "first="); counted {
		if f.First, err = strconv.Atoi(n); err != nil || f.First < 1 || f.First > maxFirst {
			return badFault("first=%s is not a number of launches from 1 to %d", n, maxFirst)
		}
		return nil
	}
	if f.Rate, err = strconv.ParseFloat(text, 64); err != nil || !(f.Rate >= 0 && f.Rate <= 1) { // NaN is neither
		return badFault("%q is not a share from 0 to 1, nor first=N", text)
	}
	return nil
}

func (f *Fault) parseValue(text string, given bool) (err error) {
	switch f.Kind {
	case Slow:
		if f.Pause, err = time.ParseDuration(text); err != nil || f.Pause <= 0 || f.Pause > maxPause {
			return badFault("slow=%s does not say for how long, up to %s", text, maxPause)
		}
	case Foreign:
		if f.Size, err = functions.ParseBytes(text); err != nil || f.Size <= 0 || f.Size > functions.TiB {
			return badFault("foreign=%s does not say how much memory, up to %s", text, functions.TiB)
		}
	default:
		if given {
			return badFault("%s takes no value, and has %q", f.Kind, text)
		}
	}
	return nil
}

// String writes the fault as ParseFault reads it.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(string(f.Kind))
	switch f.Kind {
	case Slow:
		fmt.Fprintf(&b, "=%s", f.Pause)
	case Foreign:
		fmt.Fprintf(&b, "=%dB", int64(f.Size))
	}
	switch {
	case f.First > 0:
		fmt.Fprintf(&b, ":first=%d", f.First)
	case f.Rate != 1:
		b.WriteString(":" + strconv.FormatFloat(f.Rate, 'g', -1, 64))
	}
	if f.Index != Everywhere {
		fmt.Fprintf(&b, "@%d", f.Index)
	}
	return b.String()
}

// ParseFaults reads several; the same twice is an error, for they count apart.
// n is how many devices there are.
func ParseFaults(texts []string, n int) ([]Fault, error) {
	var faults []Fault
	seen := map[Fault]bool{}
	for _, text := range texts {
		f, err := ParseFault(text)
		switch {
		case err != nil:
			return nil, err
		case f.Index >= n:
			return nil, badFault("%s: there are %d devices, and the first has index 0", f, n)
		case seen[f]:
			return nil, badFault("%s is given twice", f)
		}
		seen[f] = true
		faults = append(faults, f)
	}
	return faults, nil
}

// ParseFile reads faults one a line. Empty lines, and what follows a #, are left out.
func ParseFile(text string, n int) ([]Fault, error) {
	var lines []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return ParseFaults(lines, n)
}

func list() string {
	var names []string
	for _, k := range order {
		switch k {
		case Slow:
			k += "=DURATION"
		case Foreign:
			k += "=SIZE"
		}
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

func badFault(format string, args ...any) *functions.Error {
	return functions.Invalid("bad_fault", format, args...).
		WithHint("write KIND[:RATE][@INDEX], such as oom:0.25, lost@1, device:first=2@0, slow=2s or foreign=40GiB@0")
}
