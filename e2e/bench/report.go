package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// heading prints the title of a step, with the machine and its load: half of
// what the figures under it mean.
func heading(title string) {
	load := "unknown"
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(b), " ")
	}
	fmt.Printf("\n%s  [%d cores, load %s]\n", title, runtime.NumCPU(), load)
}

// figure prints one value.
func figure(what string, v float64, unit string) {
	digits := 0
	if v < 100 {
		digits = 2
	}
	fmt.Printf("  %-56s %10.*f %s\n", what, digits, v, unit)
}

// spread prints the distribution of values in milliseconds.
func spread(what string, v []float64) {
	if len(v) == 0 {
		return
	}
	slices.Sort(v)
	at := func(q float64) float64 { return v[min(len(v)-1, int(q*float64(len(v))))] }
	fmt.Printf("  %-56s %10.2f ms p50 %10.2f p90 %10.2f p99 %10.2f max  (n=%d)\n", what, at(0.5), at(0.9), at(0.99), v[len(v)-1], len(v))
}

// median is the middle of values, which it sorts.
func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// note prints a sentence that the figures under it need.
func note(text string) { fmt.Println("  (" + text + ")") }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
