package containerd

import (
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/containerd/containerdtest"
)

// BenchmarkLaunch measures the parts of a launch of a program that ends at once:
// create is the sandbox, start the request alone, start-to-exit also the program
// and until its output is complete.
func BenchmarkLaunch(b *testing.B) {
	for _, engine := range []struct {
		name    string
		program func(testing.TB) string
	}{{"machine", containerdtest.Machine}, {"two", containerdtest.Built}} {
		b.Run(engine.name, func(b *testing.B) {
			p := on(b, containerdtest.Start(b, engine.program(b)).Address)
			d := p.open(b)
			var create, start, exit []time.Duration
			for b.Loop() {
				ctx := b.Context()
				began := time.Now()
				id, err := d.Create(ctx, runtime.Spec{Image: p.image, Command: []string{"exit", "0"}})
				if err != nil {
					b.Fatal(err)
				}
				created := time.Now()
				if err := d.Start(ctx, id, runtime.Streams{}); err != nil {
					b.Fatal(err)
				}
				started := time.Now()
				if _, err := d.Wait(ctx, id); err != nil {
					b.Fatal(err)
				}
				create, start, exit = append(create, created.Sub(began)), append(start, started.Sub(created)), append(exit, time.Since(created))
				b.StopTimer()
				if err := d.Remove(ctx, id); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			for name, took := range map[string][]time.Duration{"create": create, "start": start, "start-to-exit": exit} {
				slices.Sort(took)
				b.ReportMetric(took[len(took)/2].Seconds()*1000, name+"-p50-ms")
				b.ReportMetric(took[0].Seconds()*1000, name+"-min-ms")
			}
		})
	}
}
