package endstest

import (
	"context"
	"testing/synctest"
	"time"
)

// Lead runs a server's term until what it returns is called.
func Lead(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = run(ctx) }()
	synctest.Wait()
	return func() { cancel(); <-done }
}

// MostSteps is the largest step that Play knows.
const MostSteps = 90

// Play plays steps: under 60 is an end, the rest seconds that pass, an outage of
// the outbox, or a change of the leader. Then the outbox works, and a new leader
// has three hours. fresh makes a server that knows nothing, and lead begins its
// term.
func (w *World) Play(steps []int, end func(i, step int), fresh func(), lead func() (stop func())) {
	lead()() // from now on every end counts
	var stop func()
	outage := false
	for i, step := range steps {
		switch {
		case step < 60:
			end(i, step)
		case step < 70:
			time.Sleep(time.Duration(step-59) * 3 * time.Second)
		case step < 75:
			outage = !outage
			w.Fail(outage)
		case stop == nil:
			fresh()
			stop = lead()
		default:
			stop()
			stop = nil
		}
	}
	w.Fail(false)
	if stop != nil {
		stop()
	}
	fresh()
	stop = lead()
	time.Sleep(3 * time.Hour)
	stop()
}
