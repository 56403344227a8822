package gpu

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// eight is a pool of a machine with eight devices that was just read.
func eight(tb testing.TB) (*Pool, probe.Reading) {
	p, err := New(Config{Stale: time.Hour})
	if err != nil {
		tb.Fatal(err)
	}
	r := probe.Reading{Source: "nvml", Status: probe.OK, Driver: "580.65.06"}
	for i := range 8 {
		r.Devices = append(r.Devices, cardOf(fmt.Sprint("GPU-", i), i, 80*gib))
	}
	p.Observe(r)
	return p, r
}

func TestConcurrentTasksReadingsAndFaultsNeverOversubscribe(t *testing.T) {
	p, r := eight(t)
	used := make(map[string]*atomic.Int64)
	for _, d := range r.Devices {
		used[d.UUID] = new(atomic.Int64)
	}
	var tasks, other sync.WaitGroup
	done := make(chan struct{})
	other.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			p.Observe(r)
			p.Xid(probe.Event{UUID: fmt.Sprint("GPU-", i%8), Xid: 79})
			_ = p.Readmit("")
			p.Remember("image", "why")
			p.Unsuited("image")
			p.Snapshot()
			p.Host()
			if ids, release, ok := p.Trial(); ok {
				p.Report(nil, ids)
				release()
			}
		}
	})
	var granted atomic.Int64
	for i := range 8 {
		tasks.Go(func() {
			claim := functions.GPUClaim{Count: 1 + i%3, Memory: functions.Bytes(i*9) * gib} // the first is alone
			takes := claim.Promise()
			if claim.Alone() {
				takes = 80 * gib
			}
			for range 300 {
				got, release, err := p.Acquire("t", claim, nil)
				if err != nil {
					continue
				}
				granted.Add(1)
				for _, g := range got {
					if sum := used[g.UUID].Add(int64(takes)); sum > int64(80*gib) {
						t.Errorf("%s: %s are promised", g.UUID, functions.Bytes(sum))
					}
				}
				p.Launched(uuids(got))
				p.Report(nil, uuids(got))
				for _, g := range got {
					used[g.UUID].Add(-int64(takes))
				}
				release()
			}
		})
	}
	tasks.Wait()
	close(done)
	other.Wait()
	if granted.Load() == 0 {
		t.Error("no task was ever lent a device")
	}
}

func BenchmarkAcquireOfEightDevices(b *testing.B) {
	p, r := eight(b)
	for name, claim := range map[string]functions.GPUClaim{"shared": share(4 * gib), "alone": some(1)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, release, err := p.Acquire("t", claim, nil)
				if err != nil {
					b.Fatal(err)
				}
				release()
				b.StopTimer()
				p.Observe(r)
				b.StartTimer()
			}
		})
	}
}
