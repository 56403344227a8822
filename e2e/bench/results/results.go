// Package results is what a run of the benchmarks found: its JSON form, its
// tables and its pictures.
package results

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spillway/spillway/e2e/bench/measure"
)

// Report is one run.
type Report struct {
	Began    time.Time         `json:"began"`
	Machine  Machine           `json:"machine"`
	Versions map[string]string `json:"versions,omitempty"` // of what was measured, by name
	Steps    []Step            `json:"steps"`
}

// Machine is where it ran.
type Machine struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	MemoryMiB int64  `json:"memory_mib"`
	Kernel    string `json:"kernel"`
	Cgroup    string `json:"cgroup"` // v1, v2 or hybrid
}

// Step is one question and its rows.
type Step struct {
	Name  string   `json:"name"`
	Title string   `json:"title"`
	Load  float64  `json:"load"`            // average of the minute before it
	Notes []string `json:"notes,omitempty"` // what the figures need to be understood
	Rows  []Row    `json:"rows"`
}

// Row is one thing measured. Which figures it has depends on its set.
type Row struct {
	Set      string           `json:"set,omitempty"` // the comparison that it belongs to
	Name     string           `json:"name"`
	Ours     bool             `json:"ours,omitempty"`
	Base     bool             `json:"base,omitempty"`      // what the others of its set are compared with
	InFlight int              `json:"in_flight,omitempty"` // calls, connections or clients at once
	Latency  *measure.Summary `json:"latency_ms,omitempty"`
	Rate     float64          `json:"per_second,omitempty"`
	CPU      float64          `json:"cpu_ms,omitempty"` // of the whole machine per task, baseline off
	Value    float64          `json:"value,omitempty"`  // any other figure
	Unit     string           `json:"unit,omitempty"`   // of Value
	Failures int              `json:"failures,omitempty"`
	Error    string           `json:"error,omitempty"`   // of the first failure
	Skipped  string           `json:"skipped,omitempty"` // why it was not measured
	Note     string           `json:"note,omitempty"`
}

// Fill sets the row's figures from a measurement.
func (r Row) Fill(m measure.Result) Row {
	r.Latency, r.Rate, r.CPU, r.Failures = m.Latency, m.Rate, measure.Milliseconds(m.CPU), m.Failures
	if m.Err != nil {
		r.Error = m.Err.Error()
	}
	return r
}

// Ratio is how many times better the row is than the base of its set at the
// same number in flight: its rate where both have one, else its median latency
// or its value. It is 0 where there is nothing to compare.
func (s Step) Ratio(r Row) float64 {
	for _, b := range s.Rows {
		if !b.Base || b.Set != r.Set || b.InFlight != r.InFlight && b.InFlight != 0 {
			continue
		}
		switch {
		case r.Rate > 0 && b.Rate > 0:
			return r.Rate / b.Rate
		case r.Latency != nil && b.Latency != nil && r.Latency.P50 > 0:
			return b.Latency.P50 / r.Latency.P50
		case r.Value > 0 && b.Value > 0 && r.Unit == b.Unit:
			return b.Value / r.Value
		}
		return 0
	}
	return 0
}

// Read reads a report's file.
func Read(file string) (Report, error) {
	var r Report
	b, err := os.ReadFile(file)
	if err != nil {
		return r, fmt.Errorf("read the results: %w", err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read the results in %s: %w", file, err)
	}
	return r, nil
}

// Write writes a report's file.
func (r Report) Write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// Merge puts the steps of a newer run into r: those of the same name are
// replaced, others come at the end. So a report can grow step by step.
func (r Report) Merge(newer Report) Report {
	merged := newer
	merged.Steps = append([]Step(nil), r.Steps...)
	merged.Versions = map[string]string{}
	for _, from := range []map[string]string{r.Versions, newer.Versions} {
		for k, v := range from {
			merged.Versions[k] = v
		}
	}
next:
	for _, s := range newer.Steps {
		for i := range merged.Steps {
			if merged.Steps[i].Name == s.Name {
				merged.Steps[i] = s
				continue next
			}
		}
		merged.Steps = append(merged.Steps, s)
	}
	return merged
}
