package functions

import (
	"encoding/json"
	"time"
)

// Kind is the kind of an Event; its value is part of the log's subject.
type Kind string

const (
	Submit  Kind = "sub"
	Assign  Kind = "asg"
	Finish  Kind = "fin"
	Release Kind = "rel"
	Control Kind = "ctl"
	Lead    Kind = "ldr"
)

// Event is one line of the log. Exactly one of the pointers is set, the one
// that Kind names.
type Event struct {
	Kind Kind      `json:"k"`
	Task TaskID    `json:"id,omitempty"`
	At   time.Time `json:"at"` // the writer's clock; for people, never for a decision

	Sub *Task      `json:"sub,omitempty"`
	Asg *Placement `json:"asg,omitempty"`
	Fin *Closing   `json:"fin,omitempty"`
	Rel *Verdict   `json:"rel,omitempty"`
	Ctl *Request   `json:"ctl,omitempty"`
	Ldr *Leader    `json:"ldr,omitempty"`
}

// Placement is a leader's decision to run an attempt.
type Placement struct {
	Epoch   uint64   `json:"ep"`
	Attempt int      `json:"a"`
	Node    NodeID   `json:"n"`
	Boot    string   `json:"b"` // of the node's agent: an attempt belongs to one boot
	Device  Device   `json:"d"`
	GPUs    []string `json:"g,omitempty"` // UUIDs that the leader had in mind; the node leases
	Reason  string   `json:"why"`         // why this device
	Claim   GPUClaim `json:"c,omitzero"`  // of GPUs, when it is more than the function declares
}

// Closing is a node's report that an attempt has ended.
type Closing struct {
	Attempt int     `json:"a"`
	Node    NodeID  `json:"n"`
	Outcome Outcome `json:"out"`
}

// Verdict is a leader's decision after an attempt ended, could not start, or
// was lost, or about a task that waited too long.
type Verdict struct {
	Epoch     uint64    `json:"ep"`
	Attempt   int       `json:"a"` // the task's last attempt; 0 if it had none
	To        State     `json:"to"`
	NotBefore time.Time `json:"nb,omitzero"`    // when To is Queued
	Device    Device    `json:"d,omitempty"`    // when To is Queued: the only device from now on; empty = undecided
	Why       string    `json:"why,omitempty"`  // one sentence, kept on the attempt
	Failure   *Failure  `json:"fail,omitempty"` // when To is final, or the attempt was lost
	Fallback  Class     `json:"fb,omitempty"`   // set when this is a respawn on the CPU: its cause
}

// Verb is what a client asks of a task.
type Verb string

const (
	Cancel   Verb = "cancel"
	Retry    Verb = "retry"    // run an ended task again, keeping its id
	Uploaded Verb = "uploaded" // the awaited object is there
	Purge    Verb = "purge"    // stored files of an ended task are given up, and will be deleted
)

// Stored is a kind of stored file that a task leaves behind.
type Stored string

const (
	StoredInputs  Stored = "inputs"
	StoredOutputs Stored = "outputs"
	StoredLogs    Stored = "logs"
)

// Request is a client's wish, or the retention's.
type Request struct {
	Verb   Verb     `json:"v"`
	By     string   `json:"by,omitempty"`    // who asked, for people
	Device Device   `json:"d,omitempty"`     // Retry: on this device only
	Inputs []Input  `json:"in,omitempty"`    // Uploaded: what arrived
	Route  *Route   `json:"route,omitempty"` // Uploaded: the decision, now that the bytes are known
	Stored []Stored `json:"st,omitempty"`    // Purge: which files
}

// Leader announces a new leader; the sequence of this event is its epoch.
type Leader struct {
	ID string `json:"id"`
}

// Record is an event with its place in the log.
type Record struct {
	Seq   uint64 // of the log message, which may hold several events
	Index int    // of the event in the message
	Event Event
}

// Change is what a valid event did to a task.
type Change struct {
	Seq    uint64
	Kind   Kind
	Before State // empty when the task is new
	Task   Task  // after; shared, not to be modified
}

// Outcome is how an attempt ended. Failure is nil when it succeeded.
type Outcome struct {
	Failure    *Failure        `json:"failure,omitempty"`
	ExitCode   int             `json:"exit_code"`
	Result     json.RawMessage `json:"result,omitempty"`      // JSON; absent when ResultRef is set
	ResultText *string         `json:"result_text,omitempty"` // stdout of a function whose stdout is its result, when it is not JSON
	ResultRef  *ObjectRef      `json:"result_ref,omitempty"`  // a result over InlineLimit
	Outputs    []Output        `json:"outputs,omitempty"`
	Log        *ObjectRef      `json:"log,omitempty"`
	LogTail    string          `json:"log_tail,omitempty"` // the last 4 KiB
	Phases     []Span          `json:"phases,omitempty"`
	PeakMemory Bytes           `json:"peak_memory,omitempty"`
	GPUs       []string        `json:"gpus,omitempty"`      // UUIDs that were leased
	Container  string          `json:"container,omitempty"` // the engine's id
	Warm       bool            `json:"warm,omitempty"`      // it had been started before the attempt came
}

// Span is one phase and how long it took.
type Span struct {
	Phase Phase   `json:"phase"`
	MS    float64 `json:"ms"`
}

// InlineLimit is the largest event or result that travels in the log itself;
// larger ones are objects. NATS carries messages up to 1 MiB.
const InlineLimit = 256 * KiB
