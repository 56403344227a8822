package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

const (
	// batch is how many tasks are given up in one message of the log; it holds
	// 256 events.
	batch = 200
	// patience is how many deletions in a row may fail before a walk ends: by
	// then it is the store, not the object.
	patience = 10
)

// walks are the listings of a sweep. In each, key order is order of time.
var walks = []struct {
	bucket, prefix string
	kinds          []functions.Stored
}{
	{intake.Bucket, intake.InputPrefix, []functions.Stored{functions.StoredInputs}},
	{intake.Bucket, intake.EventPrefix, []functions.Stored{functions.StoredInputs}},
	{intake.Results, "", []functions.Stored{functions.StoredOutputs, functions.StoredLogs}},
}

// Sweep looks at every file that is old enough once: it gives up those whose
// time is over and deletes those that were given up before. It returns after
// what it could do, with the errors of the rest.
func (r *Retention) Sweep(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			r.metrics.failed.Inc()
			return
		}
		r.metrics.last.Set(float64(r.cfg.Now().Unix()))
	}()
	s := sweep{Retention: r, now: r.cfg.Now(), pause: time.NewTicker(time.Second / time.Duration(r.cfg.Rate))}
	defer s.pause.Stop()
	if err := s.caughtUp(ctx); err != nil {
		return err
	}
	if s.needed, err = s.references(ctx); err != nil {
		return err
	}
	for _, w := range walks {
		limit := r.cfg.Keep.shortest(w.kinds)
		if limit == 0 {
			continue
		}
		if werr := s.walk(ctx, w.bucket, w.prefix, s.now.Add(-limit)); werr != nil {
			err = errors.Join(err, fmt.Errorf("sweep %s/%s: %w", w.bucket, w.prefix, werr))
		}
	}
	return errors.Join(err, s.giveUp(ctx))
}

// sweep is one pass. now is its one moment: however long it takes, a file is
// deleted only if it had been given up a grace time before the references were
// read.
type sweep struct {
	*Retention
	now     time.Time
	settled uint64                // the log's end a grace time before now; 0 = not known
	needed  map[intake.Owner]bool // Attempt is 0
	pause   *time.Ticker

	due     []functions.Event // not in the log yet
	failing int               // deletions that failed in a row
}

// caughtUp waits until the projection shows all that the log held at now, and
// finds out what had settled by then.
func (s *sweep) caughtUp(ctx context.Context) error {
	last, err := s.cfg.Log.LastSeq(ctx)
	if err != nil {
		s.ends = nil
		return fmt.Errorf("read the log's end: %w", err)
	}
	s.ends = append(s.ends, end{s.cfg.Now(), last})
	for len(s.ends) > 1 && s.now.Sub(s.ends[1].at) > s.cfg.Keep.Grace {
		s.ends = s.ends[1:]
	}
	if first := s.ends[0]; s.now.Sub(first.at) > s.cfg.Keep.Grace {
		s.settled = first.seq
	}
	if err := s.cfg.Tasks.WaitApplied(ctx, last); err != nil {
		return fmt.Errorf("catch up with the log: %w", err)
	}
	return nil
}

// references collects which files of other tasks the unfinished tasks work on.
// Their own are safe as long as they are unfinished.
func (s *sweep) references(ctx context.Context) (map[intake.Owner]bool, error) {
	needed := map[intake.Owner]bool{}
	for t, err := range s.cfg.Tasks.Live(ctx) {
		if err != nil {
			return nil, fmt.Errorf("read the unfinished tasks: %w", err)
		}
		for _, in := range t.Inputs {
			if o, ok := intake.OwnerOf(in.Bucket, in.Key); ok && o.Task != t.ID {
				o.Attempt = 0
				needed[o] = true
			}
		}
	}
	return needed, nil
}

// walk goes through one listing up to the tasks that were made at until.
func (s *sweep) walk(ctx context.Context, bucket, prefix string, until time.Time) error {
	s.failing = 0
	var id functions.TaskID // of the newest object
	var t *functions.Task
	marked := map[functions.Stored]bool{} // kinds of it that are given up in this pass
	for ref, err := range s.cfg.Objects.List(ctx, bucket, prefix, "") {
		if errors.Is(err, functions.ErrNotFound) {
			return nil // no bucket yet: nothing was stored
		}
		if err != nil {
			return err
		}
		o, ok := intake.OwnerOf(bucket, ref.Key)
		if !ok {
			s.stranger(bucket, prefix, ref.Key)
			continue
		}
		if o.Task.Time().After(until) {
			return nil
		}
		if o.Task != id {
			if t, err = s.task(ctx, o.Task); err != nil {
				return err
			}
			id = o.Task
			clear(marked)
		}
		switch what, why := s.judge(o, t); what {
		case purge:
			if marked[o.Kind] {
				continue
			}
			marked[o.Kind] = true
			err = s.mark(ctx, o)
		case discard:
			err = s.remove(ctx, ref, o, why)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *sweep) judge(o intake.Owner, t *functions.Task) (step, string) {
	return decide(o, t, s.needed[intake.Owner{Task: o.Task, Kind: o.Kind}], s.now, s.settled, s.cfg.Keep)
}

// task reads a task; nil when there is none.
func (s *sweep) task(ctx context.Context, id functions.TaskID) (*functions.Task, error) {
	t, err := s.cfg.Tasks.Task(ctx, id)
	if errors.Is(err, functions.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read task %s: %w", id, err)
	}
	return &t, nil
}

// mark notes that files of a task are to be given up, together with other tasks.
func (s *sweep) mark(ctx context.Context, o intake.Owner) error {
	if n := len(s.due); n > 0 && s.due[n-1].Task == o.Task {
		s.due[n-1].Ctl.Stored = append(s.due[n-1].Ctl.Stored, o.Kind)
		return nil
	}
	if len(s.due) == batch {
		if err := s.giveUp(ctx); err != nil {
			return err
		}
	}
	s.due = append(s.due, functions.Event{
		Kind: functions.Control, Task: o.Task,
		Ctl: &functions.Request{Verb: functions.Purge, By: "retention", Stored: []functions.Stored{o.Kind}},
	})
	return nil
}

// giveUp writes what mark has noted to the log. An event whose task has been
// retried by then is void.
func (s *sweep) giveUp(ctx context.Context) error {
	if len(s.due) == 0 {
		return nil
	}
	at := s.cfg.Now().UTC()
	for i := range s.due {
		s.due[i].At = at
	}
	seq, err := s.cfg.Log.Append(ctx, "", s.due...)
	if err != nil {
		s.ends = nil
		return fmt.Errorf("give files up: %w", err)
	}
	s.ends = append(s.ends, end{s.cfg.Now(), seq})
	for _, e := range s.due {
		for _, k := range e.Ctl.Stored {
			s.metrics.purged.WithLabelValues(string(k)).Inc()
		}
	}
	s.log.Info("files of ended tasks given up", "tasks", len(s.due), "deleted_after", s.cfg.Keep.Grace)
	s.due = nil
	return nil
}

// remove deletes one file, at the pace of the configuration. A file that cannot
// be deleted keeps none of the others.
func (s *sweep) remove(ctx context.Context, ref functions.ObjectRef, o intake.Owner, why string) error {
	select {
	case <-s.pause.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := s.cfg.Objects.Delete(ctx, functions.ObjectRef{Bucket: ref.Bucket, Key: ref.Key}); err != nil {
		if s.failing++; s.failing >= patience || ctx.Err() != nil {
			return err
		}
		s.metrics.failed.Inc()
		s.log.Warn("old file not deleted", "bucket", ref.Bucket, "key", ref.Key, "err", err)
		return nil
	}
	s.failing = 0
	s.metrics.deleted.WithLabelValues(string(o.Kind)).Inc()
	s.metrics.bytes.WithLabelValues(string(o.Kind)).Add(float64(ref.Size))
	s.log.Debug("old file deleted", "bucket", ref.Bucket, "key", ref.Key, "size", ref.Size, "why", why)
	return nil
}

// stranger reports, once for each place, that objects lie there which Spillway
// has not put there. They are left alone.
func (s *sweep) stranger(bucket, prefix, key string) {
	place := bucket + "/" + prefix
	if s.foreign[place] {
		return
	}
	s.foreign[place] = true
	s.log.Warn("objects that are not Spillway's lie in its bucket; they are left alone", "bucket", bucket, "first", key)
}
