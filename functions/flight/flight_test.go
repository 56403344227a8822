package flight

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestManyShareOneFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		ran, land := 0, make(chan struct{})
		work := func(_ context.Context, report func(int)) error {
			ran++
			report(1)
			<-land
			report(2)
			return errors.New("as it ended")
		}
		heard := make([][]int, 20)
		var all sync.WaitGroup
		for i := range heard {
			all.Go(func() {
				err := g.Do(t.Context(), "a", func(p int) { heard[i] = append(heard[i], p) }, work)
				if err == nil || err.Error() != "as it ended" {
					t.Errorf("Do = %v", err)
				}
			})
		}
		synctest.Wait()
		close(land)
		all.Wait()
		if ran != 1 {
			t.Errorf("the work ran %d times", ran)
		}
		for i, h := range heard {
			if !slices.Equal(h, []int{1, 2}) {
				t.Errorf("caller %d heard %v", i, h)
			}
		}
		if err := g.Do(t.Context(), "a", nil, func(context.Context, func(int)) error { ran++; return nil }); err != nil || ran != 2 {
			t.Errorf("a new flight: %v, ran %d", err, ran)
		}
	})
}

func TestTheLastToLeaveEndsTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		ended := false
		work := func(ctx context.Context, _ func(int)) error {
			<-ctx.Done()
			ended = true
			return ctx.Err()
		}
		first, leaveFirst := context.WithCancelCause(t.Context())
		second, leaveSecond := context.WithCancelCause(t.Context())
		errs := make(chan error, 2)
		go func() { errs <- g.Do(first, "a", nil, work) }()
		synctest.Wait()
		go func() { errs <- g.Do(second, "a", nil, work) }()
		synctest.Wait()
		bored, late := errors.New("bored"), errors.New("late")
		leaveFirst(bored)
		if err := <-errs; !errors.Is(err, bored) {
			t.Errorf("the first left with %v", err)
		}
		synctest.Wait()
		if ended {
			t.Fatal("the work ended although somebody waits for it")
		}
		leaveSecond(late)
		if err := <-errs; !errors.Is(err, late) || !ended {
			t.Errorf("the last left with %v; work ended: %v", err, ended)
		}
		if err := g.Do(first, "a", nil, work); !errors.Is(err, bored) {
			t.Errorf("Do with a context that has ended = %v", err)
		}
	})
}
