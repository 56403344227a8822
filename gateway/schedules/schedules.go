// Package schedules starts functions at the times that their specs name.
//
// Each tick starts one task, whichever server leads: the task's key is made of the
// function, the schedule and the tick. Of the ticks that came while nobody led, or
// that could not be accepted, only the newest is made up for, and only for a day:
// a function that was away for an hour need not run sixty times.
package schedules

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

// Functions knows the deployed functions. Versions are those of one, oldest first.
type Functions interface {
	List() []functions.Function
	Versions(name functions.Name) []functions.Function
}

// Door accepts tasks.
type Door interface {
	Accept(ctx context.Context, c intake.Call) (intake.Ticket, error)
}

// Config is what a Schedules works with.
type Config struct {
	Functions Functions
	Door      Door
	Now       func() time.Time // nil means time.Now
	Logger    *slog.Logger
}

// Schedules has nothing to remember from one term to the next.
type Schedules struct {
	cfg Config
}

// New returns a Schedules that does nothing until Run.
func New(cfg Config) *Schedules {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Schedules{cfg: cfg}
}

// catchUp is how long after a tick its task may still be started.
const catchUp = 24 * time.Hour

// watch is one schedule of a function that is in force.
type watch struct {
	ticks functions.Ticks
	next  time.Time // the first tick that is not due yet; zero = none
	due   time.Time // the newest that is, and has no task yet; zero = none
}

// Run starts tasks until ctx ends. It is for the leader alone.
func (s *Schedules) Run(ctx context.Context) error {
	var known map[string]*watch // nil: the first round, which looks back
	for {
		known = s.round(ctx, known)
		now := s.cfg.Now()
		if !functions.Sleep(ctx, now.Truncate(time.Second).Add(time.Second).Sub(now)) {
			return nil
		}
	}
}

// round starts what is due, and returns the watches that are in force.
func (s *Schedules) round(ctx context.Context, known map[string]*watch) map[string]*watch {
	now := s.cfg.Now()
	inForce := make(map[string]*watch, len(known))
	for _, fn := range s.cfg.Functions.List() {
		for _, sched := range fn.Schedules {
			id := string(fn.Name) + "|" + sched.Identity()
			w := known[id]
			if w == nil {
				ticks, err := sched.Ticks()
				if err != nil {
					s.cfg.Logger.Error("a schedule cannot be read", "function", fn.Name, "err", err)
					continue
				}
				from := fn.CreatedAt
				if known == nil {
					from = s.since(fn, sched)
				}
				if oldest := now.Add(-catchUp); from.Before(oldest) {
					from = oldest
				}
				w = &watch{ticks: ticks, next: ticks.Next(from)}
			}
			inForce[id] = w
			w.advance(now)
			if !w.due.IsZero() && s.start(ctx, fn, sched, w.due) {
				w.due = time.Time{}
			}
		}
	}
	return inForce
}

// since is when the function got the schedule: it is in every version since then.
// A tick that came before a deployment is not lost when nobody led at the time.
func (s *Schedules) since(fn functions.Function, sched functions.Schedule) time.Time {
	at, id := fn.CreatedAt, sched.Identity()
	versions := s.cfg.Functions.Versions(fn.Name)
	for i := len(versions) - 1; i >= 0; i-- {
		v := versions[i]
		if v.Version > fn.Version {
			continue
		}
		has := false
		for _, other := range v.Schedules {
			has = has || other.Identity() == id
		}
		if !has {
			break
		}
		at = v.CreatedAt
	}
	return at
}

func (w *watch) advance(now time.Time) {
	for !w.next.IsZero() && !w.next.After(now) {
		w.due, w.next = w.next, w.ticks.Next(w.next)
	}
	if now.Sub(w.due) > catchUp {
		w.due = time.Time{}
	}
}

// start accepts the task of a tick; false when it is to be tried again.
func (s *Schedules) start(ctx context.Context, fn functions.Function, sched functions.Schedule, tick time.Time) bool {
	key := "schedule|" + sched.Identity() + "|" + strconv.FormatInt(tick.Unix(), 10)
	event := json.RawMessage(sched.Event)
	if len(event) == 0 {
		var err error
		if event, err = eventOf(fn.Name, key, tick); err != nil {
			s.cfg.Logger.Error("the event of a schedule cannot be made", "function", fn.Name, "err", err)
			return true
		}
	}
	t, err := s.cfg.Door.Accept(ctx, intake.Call{
		Function: fn.Name, Version: fn.Version, Event: event, Content: content.JSON(),
		Source: "schedule", Key: key, BodyHash: key, // the same tick is the same request
	})
	switch {
	case err == nil:
		s.cfg.Logger.Debug("a schedule started a task", "function", fn.Name, "tick", tick, "task", t.Task.ID, "again", t.Replayed)
		return true
	case errors.Is(err, functions.ErrInvalid), errors.Is(err, functions.ErrNotFound): // deleted just now
		s.cfg.Logger.Warn("a schedule cannot start its function", "function", fn.Name, "tick", tick, "err", err)
		return true
	}
	if ctx.Err() == nil {
		s.cfg.Logger.Warn("a schedule's task is not accepted yet", "function", fn.Name, "tick", tick, "err", err)
	}
	return false
}

// eventOf is the event of a tick as AWS EventBridge makes it.
func eventOf(fn functions.Name, id string, tick time.Time) (json.RawMessage, error) {
	return json.Marshal(map[string]any{
		"version": "0", "id": id, "detail-type": "Scheduled Event", "source": "aws.events", "account": "000000000000",
		"time": tick.UTC().Format(time.RFC3339), "region": "us-east-1",
		"resources": []string{"arn:aws:events:us-east-1:000000000000:rule/" + string(fn)}, "detail": struct{}{},
	})
}
