package gateway

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway/spillway/functions"
)

// spent is the uploads in parts that nobody will complete: of canceled and
// expired tasks, and those begun for calls that made no task. The store keeps
// their parts, which no listing of objects shows, until they are aborted.
type spent struct {
	more chan struct{} // holds one when something was added

	mu      sync.Mutex // guards uploads
	uploads map[string]functions.ObjectRef
}

func newSpent() *spent {
	return &spent{more: make(chan struct{}, 1), uploads: map[string]functions.ObjectRef{}}
}

func (s *spent) add(ref functions.ObjectRef, uploadID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uploads[uploadID] = ref
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *spent) all() map[string]functions.ObjectRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.uploads)
}

func (s *spent) done(uploadID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uploads, uploadID)
}

// spend adds the upload of a task that ended before its file was whole.
func (g *Gateway) spend(t *functions.Task) {
	if t.Upload != nil && len(t.Inputs) > 0 && t.QueuedAt.IsZero() && t.State.Final() {
		g.spent.add(t.Inputs[0].ObjectRef, t.Upload.ID)
	}
}

// abortSpent aborts spent uploads as they come; what the store does not take is
// tried again. It begins with those of tasks that ended while no server ran, or
// whose server died before it had aborted them.
func (g *Gateway) abortSpent(ctx context.Context) error {
	tick := time.NewTicker(g.cfg.Sweep)
	defer tick.Stop()
	recalled := false
	for {
		if !recalled {
			err := g.recallSpent(ctx)
			if recalled = err == nil; !recalled && ctx.Err() == nil {
				g.log.Warn("ended uploads not listed", "err", err)
			}
		}
		select {
		case <-g.spent.more: // what it told of is tried now
		default:
		}
		work := new(errgroup.Group)
		work.SetLimit(sweepAtOnce)
		for id, ref := range g.spent.all() {
			work.Go(func() error {
				if err := g.cfg.Objects.AbortMultipart(ctx, ref, id); err != nil {
					return fmt.Errorf("abort the upload of %s/%s: %w", ref.Bucket, ref.Key, err)
				}
				g.spent.done(id)
				return nil
			})
		}
		if err := work.Wait(); err != nil && ctx.Err() == nil {
			g.log.Warn("parts of an ended upload stay in the store for now", "err", err)
		}
		select {
		case <-tick.C:
		case <-g.spent.more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// spentFor is how old an ended upload may be to be aborted at a start.
const spentFor = 8 * 24 * time.Hour

func (g *Gateway) recallSpent(ctx context.Context) error {
	q := functions.TaskQuery{
		States: []functions.State{functions.Canceled, functions.Expired}, Source: "upload",
		Since: g.cfg.Now().Add(-spentFor), Limit: sweepPages,
	}
	for {
		page, err := g.cfg.Tasks.List(ctx, q)
		if err != nil {
			return fmt.Errorf("list ended uploads: %w", err)
		}
		for i := range page.Tasks {
			g.spend(&page.Tasks[i])
		}
		if page.Next == "" {
			return nil
		}
		q.Cursor = page.Next
	}
}
