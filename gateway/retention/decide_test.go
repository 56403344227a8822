package retention

import (
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	id := func(made time.Time) functions.TaskID {
		w := world{now: made}
		return w.newID()
	}
	l := Limits{Inputs: 10 * time.Hour, Outputs: 100 * time.Hour, Logs: 0, Grace: 20 * time.Minute}
	done := func(change func(*functions.Task)) *functions.Task {
		t := &functions.Task{Seq: 50, State: functions.Failed, Attempt: 2, CreatedAt: ago(200 * time.Hour), FinishedAt: ago(150 * time.Hour)}
		if change != nil {
			change(t)
		}
		return t
	}
	in, out, log := functions.StoredInputs, functions.StoredOutputs, functions.StoredLogs
	for _, c := range []struct {
		name    string
		kind    functions.Stored
		attempt int
		made    time.Time
		task    *functions.Task
		needed  bool
		want    step
	}{
		{"ended long ago", in, 0, ago(200 * time.Hour), done(nil), false, purge},
		{"ended long ago, its outputs", out, 2, ago(200 * time.Hour), done(nil), false, purge},
		{"ended at the limit", in, 0, ago(200 * time.Hour), done(func(t *functions.Task) { t.FinishedAt = ago(l.Inputs) }), false, keep},
		{"ended just past the limit", in, 0, ago(200 * time.Hour), done(func(t *functions.Task) { t.FinishedAt = ago(l.Inputs + 1) }), false, purge},
		{"ended by a slow clock", in, 0, ago(200 * time.Hour), done(func(t *functions.Task) {
			t.FinishedAt, t.Attempts = time.Unix(0, 0), []functions.Attempt{{StartedAt: ago(time.Hour)}}
		}), false, keep},
		{"a limit of 0", log, 1, ago(9000 * time.Hour), done(nil), false, keep},
		{"a limit of 0, given up before", log, 1, ago(9000 * time.Hour), done(func(t *functions.Task) { t.Purged.Logs = ago(time.Hour) }), false, keep},
		{"an unknown kind", "other", 1, ago(9000 * time.Hour), done(nil), false, keep},
		{"needed by another", in, 0, ago(200 * time.Hour), done(nil), true, keep},
		{"given up and needed by another", in, 0, ago(200 * time.Hour), done(func(t *functions.Task) { t.Purged.Inputs = ago(time.Hour) }), true, keep},
		{"given up", in, 0, ago(200 * time.Hour), done(func(t *functions.Task) { t.Purged.Inputs = ago(time.Hour) }), false, discard},
		{"given up after what has settled", in, 0, ago(200 * time.Hour), done(func(t *functions.Task) { t.Seq, t.Purged.Inputs = 51, ago(time.Hour) }), false, keep},
		{"another kind given up", in, 0, ago(200 * time.Hour), done(func(t *functions.Task) { t.Purged.Outputs = ago(time.Hour) }), false, purge},
		{"an attempt that is not known", out, 3, ago(200 * time.Hour), done(func(t *functions.Task) { t.Purged.Outputs = ago(time.Hour) }), false, keep},
		{"queued", in, 0, ago(9000 * time.Hour), done(func(t *functions.Task) { t.State = functions.Queued }), false, keep},
		{"awaiting its upload", in, 0, ago(9000 * time.Hour), done(func(t *functions.Task) { t.State = functions.AwaitingUpload }), false, keep},
		{"running", out, 2, ago(9000 * time.Hour), done(func(t *functions.Task) { t.State = functions.Assigned }), false, keep},
		{"deciding", out, 2, ago(9000 * time.Hour), done(func(t *functions.Task) { t.State = functions.Deciding }), false, keep},
		{"canceling", out, 2, ago(9000 * time.Hour), done(func(t *functions.Task) { t.State = functions.Canceling }), false, keep},
		{"nobody's, an hour old", in, 0, ago(time.Hour), nil, false, keep},
		{"nobody's, past the limit but young", in, 0, ago(20 * time.Hour), nil, false, keep},
		{"nobody's, old", in, 0, ago(intake.Forgotten + time.Hour), nil, false, discard},
		{"nobody's, old but under the limit", out, 1, ago(intake.Forgotten + time.Hour), nil, false, keep},
		{"nobody's, old and needed", in, 0, ago(9000 * time.Hour), nil, true, keep},
	} {
		got, why := decide(intake.Owner{Task: id(c.made), Kind: c.kind, Attempt: c.attempt}, c.task, c.needed, now, 50, l)
		if got != c.want || why == "" {
			t.Errorf("%s: %d (%s), want %d", c.name, got, why, c.want)
		}
	}
}
