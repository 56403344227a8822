package entry_test

import (
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry"
)

// BenchmarkHeld is what a task costs in a container that waits for it: from the
// orders to the report. Starting the container is not counted.
func BenchmarkHeld(b *testing.B) {
	w := open(b)
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		c := w.hold(b, entry.Options{})
		b.StartTimer()
		began := time.Now()
		if err := c.session.Start(argv("/box", "exit", "0"), runtime.Streams{}); err != nil {
			b.Fatal(err)
		}
		if report, err := c.session.Wait(within(b)); err != nil || report.Exit != 0 {
			b.Fatalf("%+v, %v", report, err)
		}
		took = append(took, time.Since(began))
		b.StopTimer()
		c.exit(b)
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(took[0].Microseconds())/1000, "ms-min")
}
