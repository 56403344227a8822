package tasklog

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// report adds the median and the 99th percentile to b's figures.
func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkSubmit is the rate of durable submissions of about 350 bytes.
func BenchmarkSubmit(b *testing.B) {
	for _, clients := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			l := openLog(b, startServer(b, b.TempDir()))
			took := make([]time.Duration, b.N)
			var next atomic.Int64
			var g sync.WaitGroup
			b.ResetTimer()
			for range clients {
				g.Go(func() {
					for {
						i := next.Add(1) - 1
						if i >= int64(b.N) {
							return
						}
						e := submission(newID())
						start := time.Now()
						if _, err := l.Submit(b.Context(), e); err != nil {
							b.Error(err)
							return
						}
						took[i] = time.Since(start)
					}
				})
			}
			g.Wait()
			b.StopTimer()
			last, err := l.LastSeq(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			b.ReportMetric(float64(b.N)/float64(last), "tasks/sync")
			report(b, took)
		})
	}
}

// BenchmarkTailLatency is the time from the start of a durable append to the
// handler, and from the end of it.
func BenchmarkTailLatency(b *testing.B) {
	s := startServer(b, b.TempDir())
	l, reader := openLog(b, s), openLog(b, s)
	arrived := make(chan time.Time, 1)
	background(b, func(ctx context.Context) error {
		return reader.Tail(ctx, 0, func(_ context.Context, rs []functions.Record) error {
			for range rs {
				arrived <- time.Now()
			}
			return nil
		})
	})
	took := make([]time.Duration, b.N)
	after := make([]time.Duration, b.N)
	b.ResetTimer()
	for i := range b.N {
		start := time.Now()
		if _, err := l.Append(b.Context(), "", submission(newID())); err != nil {
			b.Fatal(err)
		}
		acked := time.Now()
		at := <-arrived
		took[i], after[i] = at.Sub(start), at.Sub(acked)
	}
	slices.Sort(after)
	b.ReportMetric(float64(after[len(after)/2].Microseconds()), "after-ack-p50-us")
	b.ReportMetric(float64(after[len(after)*99/100].Microseconds()), "after-ack-p99-us")
	report(b, took)
}

// BenchmarkTailReplay is the rate at which a new server reads the log.
func BenchmarkTailReplay(b *testing.B) {
	for _, events := range []int{1, 64} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			l := openLog(b, startServer(b, b.TempDir()))
			const messages = 2000
			batch := make([]functions.Event, events)
			for i := range batch {
				batch[i] = submission(newID())
			}
			for range messages {
				if _, err := l.Append(b.Context(), "", batch...); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for range b.N {
				ctx, cancel := context.WithCancel(b.Context())
				err := l.Tail(ctx, 0, func(_ context.Context, rs []functions.Record) error {
					if rs[len(rs)-1].Seq == messages {
						cancel()
					}
					return nil
				})
				cancel()
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*messages*events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkTakeover is the time from the death of a leader to the first moment
// of the next one's term, with the real times.
func BenchmarkTakeover(b *testing.B) {
	s := startServer(b, b.TempDir())
	standby := openLog(b, s)
	p := project(b, standby)
	took := make([]time.Duration, b.N)
	for i := range b.N {
		leader := openLog(b, s)
		pl := newProjection()
		ctx, kill := context.WithCancel(b.Context())
		begun := make(chan struct{}, 8)
		var g sync.WaitGroup
		term := func(ctx context.Context, _ uint64) error {
			begun <- struct{}{}
			<-ctx.Done()
			return nil
		}
		g.Go(func() { leader.Tail(ctx, 0, pl.apply) })
		g.Go(func() { leader.Lead(ctx, "leader", pl, term) })
		<-begun
		next := make(chan time.Time, 1)
		sctx, stop := context.WithCancel(b.Context())
		g.Go(func() {
			standby.Lead(sctx, "standby", p, func(context.Context, uint64) error {
				next <- time.Now()
				<-sctx.Done()
				return nil
			})
		})
		time.Sleep(2 * defaultTiming.poll) // the standby is waiting
		start := time.Now()
		leader.Close()
		took[i] = (<-next).Sub(start)
		stop()
		kill()
		g.Wait()
	}
	report(b, took)
}
