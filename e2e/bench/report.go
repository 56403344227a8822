package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spillway/spillway/e2e/bench/measure"
	"github.com/spillway/spillway/e2e/bench/results"
)

// heading begins a step: its title, the machine and its load, which is half of
// what the figures under it mean.
func (b *bench) heading(name, title string) {
	load := loadAverage()
	b.step = results.Step{Name: name, Title: title, Load: load}
	fmt.Printf("\n%s  [%d cores, load %.2f]\n", title, runtime.NumCPU(), load)
}

// figure prints and keeps one value.
func (b *bench) figure(what string, v float64, unit string) {
	digits := 0
	if v < 100 {
		digits = 2
	}
	fmt.Printf("  %-56s %10.*f %s\n", what, digits, v, unit)
	b.add(results.Row{Name: strings.TrimSpace(what), Ours: true, Value: v, Unit: unit})
}

// spread prints and keeps the distribution of values in milliseconds.
func (b *bench) spread(what string, v []float64) {
	s := measure.Summarize(v)
	if s == nil {
		return
	}
	fmt.Printf("  %-56s %10.2f ms p50 %10.2f p90 %10.2f p99 %10.2f max  (n=%d)\n", what, s.P50, s.P90, s.P99, s.Max, s.N)
	b.add(results.Row{Name: strings.TrimSpace(what), Ours: true, Latency: s})
}

// add keeps a row of the step.
func (b *bench) add(r results.Row) { b.step.Rows = append(b.step.Rows, r) }

// median is the middle of values, which it sorts.
func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// note prints and keeps a sentence that the figures under it need.
func (b *bench) note(text string) {
	fmt.Println("  (" + text + ")")
	b.step.Notes = append(b.step.Notes, text)
}

func ms(d time.Duration) float64 { return measure.Milliseconds(d) }

// progress says on standard error what is under way: a comparison takes minutes.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

func loadAverage() float64 {
	var load float64
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &load) // unreadable is 0
	}
	return load
}

// machine describes where this runs.
func machine() results.Machine {
	m := results.Machine{Processor: runtime.GOARCH, Cores: runtime.NumCPU(), Cgroup: "v1"}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				m.Processor = strings.TrimSpace(value)
				break
			}
		}
	}
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		m.MemoryMiB = int64(info.Totalram) * int64(info.Unit) >> 20
	}
	var uts syscall.Utsname
	if syscall.Uname(&uts) == nil {
		var release bytes.Buffer
		for _, c := range uts.Release {
			if c == 0 {
				break
			}
			release.WriteByte(byte(c))
		}
		m.Kernel = release.String()
	}
	if fileExists("/sys/fs/cgroup/cgroup.controllers") {
		m.Cgroup = "v2"
	} else if fileExists("/sys/fs/cgroup/unified/cgroup.controllers") {
		m.Cgroup = "hybrid"
	}
	return m
}
