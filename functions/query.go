package functions

import "time"

// TaskQuery selects tasks. Empty fields select everything.
type TaskQuery struct {
	Function Name
	States   []State
	Node     NodeID // of the newest attempt
	Device   Device // of the newest attempt
	Source   string
	Fallback Class // respawned on the CPU for this cause; "any" = for any cause
	IDPrefix string
	Since    time.Time // created at or after
	Until    time.Time // created before
	Cursor   string    // from the page before; empty = newest first from the start
	Limit    int       // 1 to 1000; 0 means 50
}

// TaskPage is one page of tasks, newest first.
type TaskPage struct {
	Tasks []Task
	Next  string // cursor of the next page; empty on the last
}

// Counts is how many tasks stand in each state, per function.
type Counts map[Name]map[State]int64
