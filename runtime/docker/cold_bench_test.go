package docker

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// BenchmarkCold compares a container's whole life through the driver with the
// same through the bare API, taking turns so that both meet the same machine:
// its creation, its start, its exit known, and its removal. It reports the
// median of each in milliseconds, to the exit and to the end of the removal, and
// the median of what the driver took more than the same through the bare API in
// the same turn, in milliseconds and as a share.
//
//   - bare: what a minimal client asks for, image, command and no network
//   - same: the bare API, with the limits and the isolation of the driver's spec
//   - driver: Create, Start, Wait and Remove, with its output and its times
func BenchmarkCold(b *testing.B) {
	d, image := engine(b, Config{})
	spec := runtime.Spec{Image: image, Command: []string{"echo", "hello"}, Memory: 64 * functions.MiB}
	config, host := translate(spec, "")
	plain := &container.Config{Image: image, Cmd: spec.Command}
	lives := []*life{
		{name: "bare", run: func() (time.Duration, error) {
			return bare(b.Context(), d, plain, &container.HostConfig{NetworkMode: networkNone})
		}},
		{name: "same", run: func() (time.Duration, error) { return bare(b.Context(), d, config, host) }},
		{name: "driver", run: func() (time.Duration, error) { return driven(b.Context(), d, spec) }},
	}
	turn := 0
	for b.Loop() {
		for i := range lives { // each goes first as often as the others
			l := lives[(i+turn)%len(lives)]
			began := time.Now()
			exited, err := l.run()
			if err != nil {
				b.Fatalf("%s: %v", l.name, err)
			}
			l.exit = append(l.exit, exited)
			l.whole = append(l.whole, time.Since(began))
		}
		turn++
	}
	for _, l := range lives {
		b.ReportMetric(millis(median(l.exit)), l.name+"-exit-ms")
		b.ReportMetric(millis(median(l.whole)), l.name+"-whole-ms")
	}
	for _, l := range lives[:2] {
		more := make([]time.Duration, len(l.exit))
		for i := range more {
			more[i] = lives[2].exit[i] - l.exit[i]
		}
		b.ReportMetric(millis(median(more)), "over-"+l.name+"-ms")
		b.ReportMetric(100*float64(median(more))/float64(median(l.exit)), "over-"+l.name+"-%")
	}
}

// life is one way to run a container, and how long it took each time.
type life struct {
	name        string
	run         func() (exited time.Duration, err error)
	exit, whole []time.Duration
}

func bare(ctx context.Context, d *Driver, config *container.Config, host *container.HostConfig) (time.Duration, error) {
	began := time.Now()
	made, err := d.engine.ContainerCreate(ctx, config, host, nil, nil, "")
	if err != nil {
		return 0, err
	}
	if err := d.engine.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return 0, err
	}
	if _, err := d.wait(ctx, runtime.ID(made.ID)); err != nil {
		return 0, err
	}
	exited := time.Since(began)
	return exited, d.engine.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true})
}

func driven(ctx context.Context, d *Driver, spec runtime.Spec) (time.Duration, error) {
	began := time.Now()
	id, err := d.Create(ctx, spec)
	if err != nil {
		return 0, err
	}
	if err := d.Start(ctx, id, runtime.Streams{Stdout: io.Discard}); err != nil {
		return 0, err
	}
	if _, err := d.Wait(ctx, id); err != nil {
		return 0, err
	}
	exited := time.Since(began)
	return exited, d.Remove(ctx, id)
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
