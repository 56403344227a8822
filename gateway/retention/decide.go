package retention

import (
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// Limits is how long files are kept after their task's end. 0 means for ever.
type Limits struct {
	Inputs  time.Duration // uploads and large events
	Outputs time.Duration // results and output files
	Logs    time.Duration
	Grace   time.Duration // from giving files up to deleting them
}

func (l Limits) of(kind functions.Stored) time.Duration {
	switch kind {
	case functions.StoredInputs:
		return l.Inputs
	case functions.StoredOutputs:
		return l.Outputs
	case functions.StoredLogs:
		return l.Logs
	}
	return 0
}

// shortest is the smallest limit of some kinds that is not for ever; 0 when all are.
func (l Limits) shortest(kinds []functions.Stored) (d time.Duration) {
	for _, k := range kinds {
		if one := l.of(k); one > 0 && (d == 0 || one < d) {
			d = one
		}
	}
	return d
}

// step is what becomes of a file now.
type step int

const (
	keep    step = iota
	purge        // give it up: write so to the log, delete nothing yet
	discard      // delete it
)

// decide judges one file of the owner o. t is its task, nil when nobody knows
// one; needed says that an unfinished task other than t works on files of this
// task and kind; settled is the log's end at some time that was a grace time
// before now. t and needed must have been read at now or later, and from a
// projection that showed all of the log at now.
func decide(o intake.Owner, t *functions.Task, needed bool, now time.Time, settled uint64, l Limits) (step, string) {
	limit := l.of(o.Kind)
	switch {
	case limit == 0:
		return keep, "kept for ever"
	case needed:
		return keep, "an unfinished task needs it"
	case t == nil && now.Sub(o.Task.Time()) <= max(limit, intake.Forgotten+l.Grace):
		return keep, "its task may be about to be accepted"
	case t == nil:
		return discard, "it belongs to no task"
	case !t.State.Final():
		return keep, "its task has not ended"
	case o.Attempt > t.Attempt:
		return keep, "of an attempt that is not known here yet"
	}
	if !t.Purged.Of(o.Kind).IsZero() {
		// The log's order, and not the mark's time: an event may take long to
		// reach the log, and its writer's clock may be wrong.
		if t.Seq <= settled {
			return discard, "given up"
		}
		return keep, "given up a moment ago"
	}
	if now.Sub(ended(t)) > limit {
		return purge, "its time is over"
	}
	return keep, "its task ended not long ago"
}

// ended is when a final task ended. Its end has the time of its node, whose
// clock may be slow: a task did not end before it was placed.
func ended(t *functions.Task) time.Time {
	at := t.FinishedAt
	for _, other := range []time.Time{t.CreatedAt, t.QueuedAt} {
		if other.After(at) {
			at = other
		}
	}
	if a := t.Last(); a != nil && a.StartedAt.After(at) {
		at = a.StartedAt
	}
	return at
}
