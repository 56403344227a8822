package functions

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// State is where a task stands.
type State string

const (
	AwaitingUpload State = "awaiting_upload" // accepted; its bytes are not there yet
	Queued         State = "queued"          // waits for a slot, or for its not-before time
	Assigned       State = "assigned"        // attempt n belongs to a node, which stages, launches, runs, collects
	Deciding       State = "deciding"        // attempt n failed; the leader has not said yet what follows
	Canceling      State = "canceling"       // attempt n is being stopped on request

	Succeeded State = "succeeded" // final, with one result
	Failed    State = "failed"    // final; retry moves it to queued
	TimedOut  State = "timed_out" // final; ran past its limit
	Canceled  State = "canceled"  // final; by request
	Expired   State = "expired"   // final; waited past its limit for a slot or for its upload
)

// moves lists every legal move. Apply is the only writer of Task.State, and a
// move that is not here never happens, whatever the log says.
var moves = map[State][]State{
	AwaitingUpload: {Queued, Canceled, Expired},
	Queued:         {Assigned, Failed, Canceled, Expired},
	Assigned:       {Succeeded, Deciding, Queued, Failed, TimedOut, Canceling},
	Deciding:       {Queued, Failed, TimedOut, Canceled, Expired},
	Canceling:      {Canceled, Succeeded},
	Succeeded:      nil,
	Failed:         {Queued},
	TimedOut:       {Queued},
	Canceled:       {Queued},
	Expired:        {Queued},
}

// States lists every state, in the order of a task's life.
var States = []State{AwaitingUpload, Queued, Assigned, Deciding, Canceling, Succeeded, Failed, TimedOut, Canceled, Expired}

// CanMove reports whether from -> to is legal.
func CanMove(from, to State) bool { return slices.Contains(moves[from], to) }

// Final reports whether nothing but a client's retry leaves s.
func (s State) Final() bool {
	switch s {
	case Succeeded, Failed, TimedOut, Canceled, Expired:
		return true
	}
	return false
}

// Task is one accepted invocation, as the log says. A Task in a Change is
// shared between readers: copy before modifying.
type Task struct {
	ID       TaskID `json:"id"`
	Function Name   `json:"function"`
	Version  int    `json:"version"`
	State    State  `json:"state"`
	Route    Route  `json:"route"`

	Event    json.RawMessage `json:"event,omitempty"`     // JSON given to the function
	EventRef *ObjectRef      `json:"event_ref,omitempty"` // the same when over InlineLimit
	Inputs   []Input         `json:"inputs,omitempty"`
	Params   json.RawMessage `json:"params,omitempty"`
	Upload   *Multipart      `json:"upload,omitempty"` // when the awaited file comes in parts
	Form     bool            `json:"form,omitempty"`   // when an HTML form sends the awaited file

	// Parent is the task whose output or end this one works on, and Depth how many
	// such tasks stand in line before it: what bounds functions that feed each other.
	Parent TaskID `json:"parent,omitempty"`
	Depth  int    `json:"depth,omitempty"`

	Source   string          `json:"source"`              // http, upload, seed, s3, lambda, cli, chain, schedule
	Key      string          `json:"key,omitempty"`       // idempotency key, unique per function
	BodyHash string          `json:"body_hash,omitempty"` // of the request that used Key
	CallID   string          `json:"call_id,omitempty"`   // the client's own correlation id
	Metadata json.RawMessage `json:"metadata,omitempty"`  // opaque, echoed
	Webhook  string          `json:"webhook,omitempty"`   // URL that is told when the task has ended
	Priority int             `json:"priority,omitempty"`

	Retries   *Retries      `json:"retries,omitempty"`    // nil = the function's
	MaxAge    Duration      `json:"max_age,omitempty"`    // since it was accepted, no attempt begins after it; 0 = the function's queue_timeout
	OnSuccess []Destination `json:"on_success,omitempty"` // where the record of its end goes, as the call or else the function said
	OnFailure []Destination `json:"on_failure,omitempty"`

	CreatedAt  time.Time `json:"created_at"`
	QueuedAt   time.Time `json:"queued_at,omitzero"` // last time it entered the queue
	NotBefore  time.Time `json:"not_before,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`

	Attempt  int       `json:"attempt"`            // number of the last attempt; 0 = none yet
	Attempts []Attempt `json:"attempts,omitempty"` // at most maxAttempts, oldest first; of more, refusals are left out before others
	Earlier  int       `json:"earlier,omitempty"`  // attempts up to this number were before a client's retry: they count against no budget
	Only     Device    `json:"only,omitempty"`     // set by a respawn or a retry: no other device
	Fallback Class     `json:"fallback,omitempty"` // why a GPU task was respawned on the CPU

	Outcome *Outcome `json:"outcome,omitempty"` // of the attempt that ended the task
	Failure *Failure `json:"failure,omitempty"` // when it did not succeed
	Purged  Purged   `json:"purged,omitzero"`
	Seq     uint64   `json:"seq"` // of the last event that changed it
}

// Purged says since when a task's stored files are given up to be deleted. From
// that moment nothing may count on them: a task whose inputs are purged cannot
// be retried. A retry makes new outputs and logs, of which nothing is purged.
type Purged struct {
	Inputs  time.Time `json:"inputs,omitzero"`
	Outputs time.Time `json:"outputs,omitzero"` // results and output files
	Logs    time.Time `json:"logs,omitzero"`
}

// Of returns the mark of one kind of file; the zero time when it is not purged.
func (p Purged) Of(kind Stored) time.Time {
	switch kind {
	case StoredInputs:
		return p.Inputs
	case StoredOutputs:
		return p.Outputs
	case StoredLogs:
		return p.Logs
	}
	return time.Time{}
}

// Attempt is one try of a task.
type Attempt struct {
	Number    int        `json:"number"`
	Node      NodeID     `json:"node"`
	Boot      string     `json:"boot"`
	Epoch     uint64     `json:"epoch"`
	Device    Device     `json:"device"`
	GPUs      []string   `json:"gpus,omitempty"`
	Claim     GPUClaim   `json:"claim,omitzero"` // of GPUs, when it was more than the function declares
	Reason    string     `json:"reason"`         // why this device
	StartedAt time.Time  `json:"started_at"`
	EndedAt   time.Time  `json:"ended_at,omitzero"`
	ExitCode  int        `json:"exit_code,omitempty"`
	Failure   *Failure   `json:"failure,omitempty"` // nil while running, and when it succeeded
	Phases    []Span     `json:"phases,omitempty"`
	Warm      bool       `json:"warm,omitempty"` // its container had been started before it came
	Log       *ObjectRef `json:"log,omitempty"`
	Then      string     `json:"then,omitempty"` // what the leader decided after it, and why
}

// maxAttempts bounds the history that a task carries. Refusals could otherwise
// grow it without end; they go first, so that what budgets count stays.
const maxAttempts = 32

// shorten takes out of a history that is full what tells least: a refusal after
// another, so that it still says since when a task was refused, else the oldest.
func shorten(past []Attempt) []Attempt {
	if len(past) <= maxAttempts {
		return past
	}
	refused := func(a Attempt) bool { return a.Failure != nil && a.Failure.Class == Refused }
	least := 0
	for i := 1; i < len(past) && least == 0; i++ {
		if refused(past[i-1]) && refused(past[i]) {
			least = i
		}
	}
	return slices.Delete(past, least, least+1)
}

// Last returns the newest attempt, or nil.
func (t *Task) Last() *Attempt {
	if len(t.Attempts) == 0 {
		return nil
	}
	return &t.Attempts[len(t.Attempts)-1]
}

// Destinations is where the record of the task's end goes: nothing of one that
// has not ended, or was canceled.
func (t *Task) Destinations() []Destination {
	switch t.State {
	case Succeeded:
		return t.OnSuccess
	case Failed, TimedOut, Expired:
		return t.OnFailure
	}
	return nil
}

// DeviceUsed is the device of the newest attempt; empty before the first.
func (t *Task) DeviceUsed() Device {
	if a := t.Last(); a != nil {
		return a.Device
	}
	return ""
}

// Accept returns the task as its submit event makes it.
func Accept(e Event, seq uint64) (Task, error) {
	if e.Kind != Submit || e.Sub == nil || e.Sub.ID != e.Task {
		return Task{}, stale("not a submit event")
	}
	t := *e.Sub
	if t.State != AwaitingUpload {
		t.State = Queued
		t.QueuedAt = e.At
	}
	t.Attempt, t.Earlier, t.Attempts, t.Outcome, t.Failure = 0, 0, nil, nil, nil
	t.Only, t.Fallback, t.FinishedAt, t.Seq = "", "", time.Time{}, seq
	return t, nil
}

// Apply folds one event into the task and returns the task after it. The
// receiver is not changed. An event that fails its guard returns an ErrStale
// error: it is void, on every server alike. epoch is the sequence of the newest
// leader event before this one; seq is the event's own.
func (t Task) Apply(e Event, epoch, seq uint64) (Task, error) {
	if e.Task != t.ID {
		return t, stale("event of another task")
	}
	from := t.State
	t.Attempts = slices.Clone(t.Attempts)
	var err error
	switch {
	case e.Kind == Assign && e.Asg != nil:
		err = t.assign(e, epoch)
	case e.Kind == Finish && e.Fin != nil:
		err = t.finish(e)
	case e.Kind == Release && e.Rel != nil:
		err = t.release(e, epoch)
	case e.Kind == Control && e.Ctl != nil:
		err = t.control(e)
	case e.Kind == Submit:
		err = stale("already accepted")
	default:
		err = stale("event says nothing")
	}
	if err != nil {
		return t, err
	}
	if moved := e.Kind != Control || e.Ctl.Verb != Purge; moved && !CanMove(from, t.State) {
		return t, stale(fmt.Sprintf("%s to %s is not a move", from, t.State))
	}
	if t.State.Final() && !from.Final() {
		t.FinishedAt = e.At
	}
	t.Seq = seq
	return t, nil
}

func (t *Task) assign(e Event, epoch uint64) error {
	p := e.Asg
	switch {
	case p.Epoch != epoch:
		return stale("from an old leader")
	case t.State != Queued:
		return stale("not queued")
	case p.Attempt != t.Attempt+1:
		return stale("not the next attempt")
	}
	reason := p.Reason
	if t.Fallback != "" && p.Device == CPU {
		reason = "respawned on the CPU after " + string(t.Fallback) + ", a cause that the CPU does not share"
	}
	t.State = Assigned
	t.Attempt = p.Attempt
	t.NotBefore = time.Time{}
	t.Attempts = append(t.Attempts, Attempt{
		Number: p.Attempt, Node: p.Node, Boot: p.Boot, Epoch: p.Epoch,
		Device: p.Device, GPUs: p.GPUs, Claim: p.Claim, Reason: reason, StartedAt: e.At,
	})
	t.Attempts = shorten(t.Attempts)
	return nil
}

func (t *Task) finish(e Event) error {
	c := e.Fin
	if t.State != Assigned && t.State != Canceling {
		return stale("no attempt is running")
	}
	if c.Attempt != t.Attempt {
		return stale("from an old attempt")
	}
	a := t.Last()
	a.EndedAt, a.ExitCode, a.Failure = e.At, c.Outcome.ExitCode, c.Outcome.Failure
	a.Phases, a.Log, a.Warm = c.Outcome.Phases, c.Outcome.Log, c.Outcome.Warm
	if len(c.Outcome.GPUs) > 0 {
		a.GPUs = c.Outcome.GPUs
	}
	out := c.Outcome
	t.Outcome = &out
	switch {
	case out.Failure == nil:
		t.State, t.Failure = Succeeded, nil
	case t.State == Canceling:
		t.State = Canceled
		t.Failure = &Failure{Class: CanceledByUser, Message: "canceled by request"}
	default:
		t.State = Deciding
	}
	return nil
}

func (t *Task) release(e Event, epoch uint64) error {
	v := e.Rel
	switch {
	case v.Epoch != epoch:
		return stale("from an old leader")
	case v.Attempt != t.Attempt:
		return stale("about an old attempt")
	case t.State.Final():
		return stale("already ended")
	case v.To != Queued && (!v.To.Final() || v.To == Succeeded): // only a fin brings a result
		return stale("not a verdict")
	case t.State == Queued && v.Failure != nil && v.Failure.Class == UploadExpired:
		return stale("its upload came at the last moment")
	}
	if t.State == Assigned || t.State == Canceling { // lost or refused: no fin will be accepted
		a := t.Last()
		a.EndedAt, a.Failure = e.At, v.Failure
	}
	if a := t.Last(); a != nil && v.Why != "" {
		a.Then = v.Why
	}
	if t.State == Canceling {
		t.State = Canceled
		t.Failure = &Failure{Class: CanceledByUser, Message: "canceled by request"}
		return nil
	}
	t.State = v.To
	if v.To == Queued {
		t.QueuedAt, t.NotBefore, t.Outcome = e.At, v.NotBefore, nil
		if v.Device != "" {
			t.Only = v.Device
		}
		if v.Fallback != "" {
			t.Fallback = v.Fallback
		}
		return nil
	}
	t.Failure = v.Failure
	return nil
}

func (t *Task) control(e Event) error {
	switch c := e.Ctl; c.Verb {
	case Cancel:
		switch t.State {
		case AwaitingUpload, Queued, Deciding:
			t.State = Canceled
			t.Failure = &Failure{Class: CanceledByUser, Message: "canceled by request"}
		case Assigned:
			t.State = Canceling
		default:
			return stale("nothing to cancel")
		}
	case Retry:
		if !t.State.Final() || t.State == Succeeded {
			return stale("only a task that ended without success can be retried")
		}
		if t.Failure != nil && t.Failure.Class == UploadExpired {
			return stale("its upload never came")
		}
		if !t.Purged.Inputs.IsZero() {
			return stale("its inputs are deleted")
		}
		t.State, t.QueuedAt = Queued, e.At
		t.NotBefore, t.FinishedAt, t.Outcome, t.Failure = time.Time{}, time.Time{}, nil, nil
		t.Only, t.Fallback, t.Earlier = c.Device, "", t.Attempt
		t.Purged = Purged{} // what comes now is new, and is kept for its own time
		t.MaxAge = 0        // was of the event as it was sent: whoever asks now finds it new enough
	case Uploaded:
		if t.State != AwaitingUpload {
			return stale("no upload is awaited")
		}
		t.State, t.QueuedAt = Queued, e.At
		t.Inputs = c.Inputs
		if c.Route != nil {
			t.Route = *c.Route
		}
	case Purge:
		return t.purge(c.Stored, e.At)
	default:
		return stale("unknown verb")
	}
	return nil
}

func (t *Task) purge(what []Stored, at time.Time) error {
	if !t.State.Final() {
		return stale("a task that has not ended needs its files")
	}
	fresh := false
	for _, w := range what {
		mark := map[Stored]*time.Time{StoredInputs: &t.Purged.Inputs, StoredOutputs: &t.Purged.Outputs, StoredLogs: &t.Purged.Logs}[w]
		if mark != nil && mark.IsZero() {
			*mark, fresh = at, true
		}
	}
	if !fresh {
		return stale("purged already")
	}
	return nil
}

func stale(why string) error { return NewError(ErrStale, "stale", "%s", why) }
