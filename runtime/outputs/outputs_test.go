package outputs

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// copyFor copies for so long, or until it is stopped.
func copyFor(t *testing.T, s *Set, id runtime.ID, long time.Duration) {
	ctx, done := s.Begin(t.Context(), id)
	go func() {
		defer done()
		select {
		case <-time.After(long): // fake clock
		case <-ctx.Done():
		}
	}()
}

func TestWait(t *testing.T) {
	for name, c := range map[string]struct {
		limit, patience time.Duration
		whole           bool
		err             error
		took            time.Duration
	}{
		"to the end of the longest": {0, time.Hour, true, nil, 2 * time.Minute},
		"within the limit":          {time.Hour, time.Hour, true, nil, 2 * time.Minute},
		"past the limit":            {time.Minute, time.Hour, false, nil, time.Minute},
		"past the caller's time":    {time.Hour, time.Minute, false, context.DeadlineExceeded, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s Set
				defer s.Close()
				copyFor(t, &s, "a", 90*time.Second)
				copyFor(t, &s, "a", 2*time.Minute)
				copyFor(t, &s, "b", 24*time.Hour)
				ctx, cancel := context.WithTimeout(t.Context(), c.patience)
				defer cancel()
				began := time.Now()
				whole, err := s.Wait(ctx, "a", c.limit)
				if whole != c.whole || !errors.Is(err, c.err) || time.Since(began) != c.took {
					t.Errorf("whole %v, %v, after %v; want %v, %v, %v", whole, err, time.Since(began), c.whole, c.err, c.took)
				}
			})
		})
	}
}

func TestStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		if whole, err := s.Wait(t.Context(), "nothing", 0); !whole || err != nil {
			t.Errorf("Wait for what nobody copies: %v, %v", whole, err)
		}
		copyFor(t, &s, "a", time.Hour)
		copyFor(t, &s, "b", time.Hour)
		began := time.Now()
		s.Forget("a")
		s.Forget("a")
		if whole, err := s.Wait(t.Context(), "a", time.Minute); !whole || err != nil {
			t.Errorf("Wait for what is forgotten: %v, %v", whole, err)
		}
		if whole, _ := s.Wait(t.Context(), "b", time.Minute); whole {
			t.Error("forgetting one has ended another")
		}
		s.Close()
		s.Close()
		if took := time.Since(began); took != time.Minute {
			t.Errorf("took %v: stopping waits for the end of a container", took)
		}
	})
}
