// Package trace reads the Azure Functions trace of 2019 ("Serverless in the
// Wild", ATC'20) or a sample of it, and turns it into invocations to replay.
package trace

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Function is one function of a trace.
type Function struct {
	ID        string // its hash
	Trigger   string
	PerMinute []int // invocations in each minute
	// Percentiles of its duration in milliseconds; nil when the trace has none.
	Percentiles []Percentile
}

// Percentile is one point of a distribution.
type Percentile struct{ Share, MS float64 }

// Total is how often it was invoked.
func (f Function) Total() int {
	n := 0
	for _, k := range f.PerMinute {
		n += k
	}
	return n
}

// Duration is the duration at share u (0 to 1) of its distribution, in a straight
// line between the points that the trace has.
func (f Function) Duration(u float64) time.Duration {
	p := f.Percentiles
	if len(p) == 0 {
		return 0
	}
	at := p[len(p)-1].MS
	for i := 1; i < len(p); i++ {
		if u <= p[i].Share {
			a, b := p[i-1], p[i]
			at = a.MS + (b.MS-a.MS)*max(u-a.Share, 0)/(b.Share-a.Share)
			break
		}
	}
	return time.Duration(at * float64(time.Millisecond))
}

// most bounds what is read of a minute: no minute of the trace comes near it.
const most = 1_000_000

// ReadInvocations reads a table of invocations: columns HashFunction and
// Trigger, and one column, named by a number, for each minute.
func ReadInvocations(r io.Reader) ([]Function, error) {
	head, rows, err := table(r)
	if err != nil {
		return nil, err
	}
	var minutes []int
	for i, name := range head {
		if _, err := strconv.Atoi(name); err == nil {
			minutes = append(minutes, i)
		}
	}
	id, trigger := slices.Index(head, "HashFunction"), slices.Index(head, "Trigger")
	if id < 0 || trigger < 0 || len(minutes) == 0 {
		return nil, errors.New("the table of invocations lacks HashFunction, Trigger or its minutes")
	}
	var all []Function
	for n, row := range rows {
		f := Function{ID: row[id], Trigger: row[trigger], PerMinute: make([]int, len(minutes))}
		for k, i := range minutes {
			v, err := strconv.Atoi(row[i])
			if err != nil || v < 0 || v > most {
				return nil, fmt.Errorf("line %d of the invocations: %q is not a number of invocations", n+2, row[i])
			}
			f.PerMinute[k] = v
		}
		all = append(all, f)
	}
	return all, nil
}

// ReadDurations reads a table of durations: HashFunction, and percentiles of the
// duration in milliseconds in columns such as percentile_Average_50.
func ReadDurations(r io.Reader) (map[string][]Percentile, error) {
	head, rows, err := table(r)
	if err != nil {
		return nil, err
	}
	type column struct {
		index int
		share float64
	}
	var columns []column
	for i, name := range head {
		if text, ok := strings.CutPrefix(name, "percentile_Average_"); ok {
			if v, err := strconv.Atoi(text); err == nil && v >= 0 && v <= 100 {
				columns = append(columns, column{i, float64(v) / 100})
			}
		}
	}
	slices.SortFunc(columns, func(a, b column) int { return int(math.Round(100 * (a.share - b.share))) })
	columns = slices.CompactFunc(columns, func(a, b column) bool { return a.share == b.share })
	id := slices.Index(head, "HashFunction")
	if id < 0 || len(columns) == 0 {
		return nil, errors.New("the table of durations lacks HashFunction or its percentiles")
	}
	all := map[string][]Percentile{}
	for n, row := range rows {
		points := make([]Percentile, len(columns))
		for k, c := range columns {
			v, err := strconv.ParseFloat(row[c.index], 64)
			if err != nil || !(v >= 0 && v <= 1e9) {
				return nil, fmt.Errorf("line %d of the durations: %q is not a number of milliseconds", n+2, row[c.index])
			}
			points[k] = Percentile{c.share, v}
			if k > 0 { // a few rows of the trace do not ascend
				points[k].MS = max(points[k].MS, points[k-1].MS)
			}
		}
		all[row[id]] = points
	}
	return all, nil
}

func table(r io.Reader) (head []string, rows [][]string, err error) {
	all, err := csv.NewReader(r).ReadAll() // every row as long as the first
	if err != nil {
		return nil, nil, fmt.Errorf("read the table: %w", err)
	}
	if len(all) < 2 {
		return nil, nil, errors.New("the table is empty")
	}
	return all[0], all[1:], nil
}

// Read reads a folder with invocations.csv and durations.csv.
func Read(dir string) ([]Function, error) {
	invocations, err := os.Open(filepath.Join(dir, "invocations.csv"))
	if err != nil {
		return nil, err
	}
	defer invocations.Close()
	all, err := ReadInvocations(invocations)
	if err != nil {
		return nil, err
	}
	durations, err := os.Open(filepath.Join(dir, "durations.csv"))
	if err != nil {
		return nil, err
	}
	defer durations.Close()
	byID, err := ReadDurations(durations)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Percentiles = byID[all[i].ID]
	}
	return all, nil
}

// Arrival is one invocation to make.
type Arrival struct {
	At       time.Duration // from the beginning
	Function int           // its index
	Duration time.Duration // of the body
}

// Plan says how to replay.
type Plan struct {
	Minutes int           // of the trace, from its first
	Speed   float64       // so many times faster than it was; bodies keep their length
	Clip    time.Duration // longest body
	Seed    uint64
}

// Arrivals are the invocations in the order of time. The trace says only in which
// minute they were: within it they are spread at random, the same way for the
// same seed.
func (p Plan) Arrivals(functions []Function) []Arrival {
	rng := rand.New(rand.NewPCG(p.Seed, 0))
	var all []Arrival
	for i, f := range functions {
		for minute, n := range f.PerMinute[:min(p.Minutes, len(f.PerMinute))] {
			for range n {
				at := (float64(minute) + rng.Float64()) * float64(time.Minute) / p.Speed
				all = append(all, Arrival{time.Duration(at), i, min(f.Duration(rng.Float64()), p.Clip)})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Arrival) int { return int(a.At - b.At) })
	return all
}

// WithoutTop leaves out the function that was invoked most often.
func WithoutTop(functions []Function) []Function {
	if len(functions) == 0 {
		return nil
	}
	top := 0
	for i, f := range functions {
		if f.Total() > functions[top].Total() {
			top = i
		}
	}
	return slices.Delete(slices.Clone(functions), top, top+1)
}
