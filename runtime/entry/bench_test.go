package entry_test

import (
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// BenchmarkHeld is what a task costs in a container that waits for it: from the
// orders to the report of a program that does nothing, in ms-p50 and ms-min. The
// ns/op are of the container's whole life, of which it is a part. A program in
// the image comes by way of the engine's file system, one that is mounted not;
// one that is expected has been read ahead.
func BenchmarkHeld(b *testing.B) {
	w := open(b)
	b.Run("program in the image", func(b *testing.B) { held(b, w, entry.Options{}, "/box", "exit", "0") })
	b.Run("program in the image, expected", func(b *testing.B) { held(b, w, entry.Options{Expect: "/box"}, "/box", "exit", "0") })
	b.Run("program mounted", func(b *testing.B) { held(b, w, entry.Options{}, wire.Program) })
}

func held(b *testing.B, w *world, o entry.Options, words ...string) {
	var took []time.Duration
	for b.Loop() {
		c := w.hold(b, o)
		time.Sleep(50 * time.Millisecond) // the engine comes to rest
		began := time.Now()
		if err := c.session.Start(argv(words...), runtime.Streams{}); err != nil {
			b.Fatal(err)
		}
		if report, err := c.session.Wait(within(b)); err != nil || report.Error != "" {
			b.Fatalf("%+v, %v", report, err)
		}
		took = append(took, time.Since(began))
		c.exit(b)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(took[0].Microseconds())/1000, "ms-min")
}
