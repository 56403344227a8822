package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"

	"github.com/spillway/spillway/e2e/bench/measure"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// report is everything that a run saw.
type report struct {
	path     string   // where it is written, anew with each thing that is seen
	lines    []string // of the machine
	reading  *probe.Reading
	nodes    []nodeRow
	checks   []checkRow
	launches []launchRow
	models   []modelRow
}

type checkRow struct {
	runtime, what string
	ok            bool
	saw           string
}

type nodeRow struct {
	runtime string
	assumed bool
	status  functions.NodeStatus
}

type launchRow struct {
	runtime, kind string
	launch, whole *measure.Summary // milliseconds
}

type modelRow struct {
	model            string
	seconds          float64 // of sound
	gpu, cpu         heard
	gpuRuns, cpuRuns int
}

func (r *report) line(text string) { r.lines = append(r.lines, text) }

func (r *report) check(runtime, what string, ok bool, format string, args ...any) {
	c := checkRow{runtime, what, ok, fmt.Sprintf(format, args...)}
	r.checks = append(r.checks, c)
	fmt.Fprintf(os.Stderr, "run: %s %s: %s: %s\n", mark(ok), cmp.Or(runtime, "-"), what, c.saw)
	r.save()
}

// save writes the report as far as it is, so that a run that is cut short leaves
// what it saw.
func (r *report) save() {
	if err := os.WriteFile(r.path, []byte(r.markdown()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "run: write the report:", err)
	}
}

func (r *report) failed() int {
	n := 0
	for _, c := range r.checks {
		if !c.ok {
			n++
		}
	}
	return n
}

func (r *report) slots(s *server, node functions.NodeStatus) {
	r.nodes = append(r.nodes, nodeRow{s.runtime, s.assumed, node})
}

// machine notes what the run is on, the GPUs as the probe reads them included.
func (r *report) machine(ctx context.Context, s settings) {
	r.line("Run at: " + time.Now().UTC().Format(time.RFC3339))
	r.line(fmt.Sprintf("CPU: %s, %d cores", processor(), goruntime.NumCPU()))
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		r.line("Linux: " + strings.TrimSpace(string(text)))
	}
	reading, err := read(ctx, s)
	if err != nil {
		r.check("", "the probe reads the GPUs", false, "%v", err)
		return
	}
	r.reading = reading
	r.check("", "the probe reads the GPUs", reading.Status == probe.OK && len(reading.Devices) > 0, "status %s, driver %s, CUDA %s, %d devices %s",
		reading.Status, cmp.Or(reading.Driver, "unknown"), cmp.Or(reading.CUDA, "unknown"), len(reading.Devices), reading.Message)
}

// read asks the program gpuprobe for one reading.
func read(ctx context.Context, s settings) (*probe.Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(s.bundle, "bin", "gpuprobe"), "-once").Output()
	if err != nil {
		return nil, fmt.Errorf("gpuprobe: %w", err)
	}
	var first probe.Report
	if err := json.Unmarshal(out, &first); err != nil {
		return nil, fmt.Errorf("gpuprobe wrote %q: %w", short(string(out)), err)
	}
	if first.Reading == nil {
		return nil, fmt.Errorf("gpuprobe wrote no reading: %q", short(string(out)))
	}
	return first.Reading, nil
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func mark(ok bool) string {
	if ok {
		return "ok"
	}
	return "FAILED"
}
