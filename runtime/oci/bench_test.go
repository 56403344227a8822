package oci

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/runtime"
)

// BenchmarkRun takes a container that does nothing from its creation to its
// exit; it is removed behind that. The parallel one gives the rate. TMPDIR says
// where the driver's folder is: in memory, as it should be, it costs the least.
func BenchmarkRun(b *testing.B) {
	for _, program := range []string{"crun", "runc"} {
		b.Run(program, func(b *testing.B) {
			c, image := setUp(b, program)
			d := open(b, c)
			if _, err := d.Probe(b.Context()); err != nil {
				b.Fatal(err)
			}
			spec := runtime.Spec{Image: image, Command: []string{"exit", "0"}}
			b.Run("serial", func(b *testing.B) {
				before := processorTime(b)
				var took []time.Duration
				for b.Loop() {
					begun := time.Now()
					once(b, d, spec)
					took = append(took, time.Since(begun))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(took[0].Microseconds())/1000, "min-ms")
				b.ReportMetric(float64((processorTime(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/task")
				b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/task")
			})
			b.Run("parallel", func(b *testing.B) {
				b.SetParallelism(2)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						once(b, d, spec)
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			})
		})
	}
}

// processorTime is what this process and the children that it has reaped took.
func processorTime(b *testing.B) time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		if err := syscall.Getrusage(who, &used); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	return sum
}

func once(b *testing.B, d *Driver, spec runtime.Spec) {
	ctx := b.Context()
	id, err := d.Create(ctx, spec)
	if err == nil {
		err = d.Start(ctx, id, runtime.Streams{})
	}
	var exit runtime.Exit
	if err == nil {
		exit, err = d.Wait(ctx, id)
	}
	if err == nil {
		err = d.Remove(ctx, id)
	}
	if err != nil || exit.Code != 0 {
		b.Errorf("%+v, %v", exit, err)
	}
}
