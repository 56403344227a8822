package functions

import "time"

// Listed is an object as a listing of its bucket shows it.
type Listed struct {
	ObjectRef
	Modified time.Time // by the store's clock; AWS dates an upload in parts from its beginning
}

// Mark says which objects a function has been offered: every one that was stored
// at From or later and before Until.
type Mark struct {
	From  time.Time `json:"from,omitzero"`  // what is older came while the function was not in force; zero = its versions alone say
	Until time.Time `json:"until,omitzero"` // zero = no listing was complete yet
}

// Merge returns the later of both ends: marks only move forward.
func (m Mark) Merge(o Mark) Mark {
	later := func(a, b time.Time) time.Time {
		if b.After(a) {
			return b
		}
		return a
	}
	return Mark{later(m.From, o.From), later(m.Until, o.Until)}
}

// IngestStatus is what one server knows of how objects become tasks.
type IngestStatus struct {
	Sources   []IngestSource   `json:"sources"`
	Buckets   []IngestBucket   `json:"buckets"`
	Functions []IngestFunction `json:"functions"`
	MaxDepth  int              `json:"max_depth"`        // of functions that feed each other
	Refused   int64            `json:"refused_by_depth"` // outputs that started nothing because of it
	Refusals  []IngestRefusal  `json:"refusals"`         // the newest of them, newest first
}

// IngestSource is one way in which new objects are learnt of, counted since the
// server started.
type IngestSource struct {
	Name       string    `json:"name"`
	Hints      int64     `json:"hints"`
	Started    int64     `json:"started"`
	Duplicates int64     `json:"duplicates"` // starts that an earlier hint had made
	Rejected   int64     `json:"rejected"`   // can never start: not understood, or refused for good
	Failures   int64     `json:"failures"`   // may work later: queue full, store or log away
	Dropped    int64     `json:"dropped"`    // not looked at, because too many waited; listing finds the objects
	LastHint   time.Time `json:"last_hint,omitzero"`
	Error      string    `json:"error,omitempty"` // the newest
	ErrorAt    time.Time `json:"error_at,omitzero"`
}

// IngestBucket is one watched bucket.
type IngestBucket struct {
	Name          string    `json:"name"`
	ListedAt      time.Time `json:"listed_at,omitzero"` // begin of the last complete listing
	ListingMS     int64     `json:"listing_ms"`
	Objects       int64     `json:"objects"`                      // looked at by it
	Gap           int64     `json:"gap"`                          // of these, new and reported by no event
	Recovered     int64     `json:"recovered"`                    // such objects since the server started
	Error         string    `json:"error,omitempty"`              // why the newest listing was not complete
	Notifications string    `json:"notification_error,omitempty"` // why the store does not report to us
}

// IngestFunction is a function with triggers and its mark.
type IngestFunction struct {
	Name Name `json:"name"`
	Mark
	Held string `json:"held,omitempty"` // why the newest listing did not move the mark
}

// IngestRefusal is an output that starts nothing, because too many tasks stand
// in line before it.
type IngestRefusal struct {
	Function Name      `json:"function"`
	Task     TaskID    `json:"task"` // whose output it is
	Output   string    `json:"output"`
	Depth    int       `json:"depth"`
	At       time.Time `json:"at"`
}

// Backfill asks to offer to a function what was stored before it had its
// triggers.
type Backfill struct {
	Function Name      `json:"function"`
	Bucket   string    `json:"bucket,omitempty"` // empty = every bucket of its triggers
	Prefix   string    `json:"prefix,omitempty"`
	Since    time.Time `json:"since,omitzero"` // stored at or after
	Until    time.Time `json:"until,omitzero"` // stored before
	DryRun   bool      `json:"dry_run,omitempty"`
}

// BackfillProgress is how far a backfill has come. The last one is Done, or has
// an Error.
type BackfillProgress struct {
	Listed   int64  `json:"listed"`
	Matched  int64  `json:"matched"`  // by name
	Started  int64  `json:"started"`  // in a dry run: would start
	Known    int64  `json:"known"`    // have their task already
	Unfit    int64  `json:"unfit"`    // of another content type, or gone
	Rejected int64  `json:"rejected"` // can never start
	Bucket   string `json:"bucket,omitempty"`
	Key      string `json:"key,omitempty"`     // the newest that was looked at
	Waiting  string `json:"waiting,omitempty"` // for what
	DryRun   bool   `json:"dry_run,omitempty"`
	Done     bool   `json:"done"`
	Error    string `json:"error,omitempty"` // why it ended early; the same call goes on from there
}
