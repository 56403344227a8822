package functions

import "time"

// NodeInfo is what a node says of itself.
type NodeInfo struct {
	ID       NodeID            `json:"id"`
	Boot     string            `json:"boot"` // new for each life of the agent that could not adopt its containers
	Version  string            `json:"version"`
	Driver   string            `json:"driver"`           // docker, containerd, oci, simulated
	Engine   string            `json:"engine,omitempty"` // what the driver found, for people
	Labels   map[string]string `json:"labels,omitempty"`
	Shares   []string          `json:"shares,omitempty"` // names of shared folders that it has mounted
	Capacity Resources         `json:"capacity"`
	GPUs     []GPUInfo         `json:"gpus,omitempty"`
	GPUHost  *GPUHostInfo      `json:"gpu_host,omitempty"` // nil = it has none and looks for none
	Ready    bool              `json:"ready"`              // takes new tasks
	Reason   string            `json:"reason,omitempty"`   // why not ready
	DiskFree Bytes             `json:"disk_free,omitempty"`
	Cache    *CacheInfo        `json:"cache,omitempty"` // nil = it keeps no inputs
	Warm     []WarmInfo        `json:"warm,omitempty"`  // containers that wait started, by function
}

// WarmInfo is what a node has started for the next tasks of one function.
type WarmInfo struct {
	Function Name `json:"function"`
	Version  int  `json:"version"`
	Wanted   int  `json:"wanted"` // as many as the function asks for, or as tasks come often
	Idle     int  `json:"idle"`   // ready for a task
	Starting int  `json:"starting"`
}

// LabelRuntimeWhy is the label with which a node says why it uses its driver.
const LabelRuntimeWhy = "spillway.runtime.why"

// CacheInfo is what a node keeps of inputs for later tasks. Counts are of the
// agent's life.
type CacheInfo struct {
	Budget  Bytes `json:"budget"`
	Used    Bytes `json:"used"`
	Hits    int64 `json:"hits"`    // inputs that were not fetched again
	Misses  int64 `json:"misses"`  // inputs that were fetched and kept
	Evicted int64 `json:"evicted"` // for want of room
}

// Heartbeat is a node's report, once a second and whenever its state changes.
type Heartbeat struct {
	Node    NodeInfo  `json:"node"`
	Running []Running `json:"running"` // every attempt it holds, ended but not yet logged ones too
	At      time.Time `json:"at"`
}

// Running is one attempt that a node holds.
type Running struct {
	Task    TaskID `json:"task"`
	Attempt int    `json:"attempt"`
	Epoch   uint64 `json:"epoch"`
	Phase   Phase  `json:"phase,omitempty"`
}

// Assignment is a leader's order to run one attempt.
type Assignment struct {
	Epoch    uint64   `json:"epoch"`
	Attempt  int      `json:"attempt"`
	Boot     string   `json:"boot"`
	Device   Device   `json:"device"`
	GPUs     []string `json:"gpus,omitempty"` // that the leader has in mind; the node leases
	Claim    GPUClaim `json:"claim,omitzero"` // what the attempt asks of GPUs
	Task     Task     `json:"task"`
	Function Function `json:"function"`
}

// Asks is what the attempt asks of GPUs: its claim, or the function's when the
// leader has sent none.
func (a Assignment) Asks() GPUClaim {
	switch {
	case a.Device != GPU:
		return GPUClaim{}
	case a.Claim.Count == 0 && !a.Claim.All:
		return a.Function.Claim()
	}
	return a.Claim
}

// Kill is an order to stop one attempt.
type Kill struct {
	Task    TaskID `json:"task"`
	Attempt int    `json:"attempt"`
	Why     Class  `json:"why"`
}

// Progress is a live report on a running attempt. It is never stored and cannot
// change a task's state.
type Progress struct {
	Task     TaskID    `json:"task"`
	Attempt  int       `json:"attempt"`
	Phase    Phase     `json:"phase"`
	Fraction float64   `json:"fraction,omitempty"` // 0 to 1
	Stage    string    `json:"stage,omitempty"`
	Message  string    `json:"message,omitempty"`
	At       time.Time `json:"at"`
}

// LogLine is one line that a container wrote.
type LogLine struct {
	Task    TaskID    `json:"task"`
	Attempt int       `json:"attempt"`
	N       int64     `json:"n"`      // line number in the attempt, from 1
	Stream  string    `json:"stream"` // stdout, stderr, system
	Time    time.Time `json:"time"`
	Text    string    `json:"text"`
}

// Waiting explains why a task is not running yet.
type Waiting struct {
	Code   WaitCode `json:"code"`
	Reason string   `json:"reason"`          // one sentence for a person
	Ahead  int      `json:"ahead,omitempty"` // tasks that go first

	// Of a wait for a GPU, in seconds from now, by what earlier tasks took; 0 = not
	// known, for want of them.
	NextGPU     float64 `json:"next_gpu,omitempty"`     // the next one that suits is free, whoever gets it
	ExpectedGPU float64 `json:"expected_gpu,omitempty"` // the task is done, if it waits for one
	ExpectedCPU float64 `json:"expected_cpu,omitempty"` // it would be done, had it gone to the CPU now
}

// WaitCode is the machine-readable form of a wait.
type WaitCode string

const (
	WaitUpload      WaitCode = "awaiting_upload"
	WaitNoNode      WaitCode = "no_node"     // no node is ready
	WaitNoGPUNode   WaitCode = "no_gpu_node" // no node offers a GPU at all
	WaitGPUBusy     WaitCode = "gpu_busy"    // every GPU is leased or quarantined
	WaitRoom        WaitCode = "no_room"     // nodes are ready and full
	WaitTooBig      WaitCode = "too_big"     // fits on no node, even empty
	WaitConcurrency WaitCode = "concurrency" // the function's own cap
	WaitDelay       WaitCode = "delay"       // not before a set time
	WaitTurn        WaitCode = "turn"        // others go first
	WaitNoLeader    WaitCode = "no_leader"   // no scheduler leads
	WaitFunction    WaitCode = "no_function" // the version is not known here yet
	WaitShare       WaitCode = "no_share"    // no ready node has the shared folder that an input is in
)

// NodeStatus is a node as the servers see it.
type NodeStatus struct {
	NodeInfo
	LastSeen time.Time `json:"last_seen"`
	Alive    bool      `json:"alive"` // heard within the last seconds
	Free     Resources `json:"free"`
	Running  []Running `json:"running"`
}
