package functions

// Resources is room on a node, or what a task takes of it. GPUs are counted
// apart, by device, because they are leased by identity.
type Resources struct {
	MilliCPU int64 `json:"milli_cpu"` // thousandths of a core
	Memory   Bytes `json:"memory"`
	Tasks    int   `json:"tasks"` // containers
}

// Fits reports whether r fits into free.
func (r Resources) Fits(free Resources) bool {
	return r.MilliCPU <= free.MilliCPU && r.Memory <= free.Memory && r.Tasks <= free.Tasks
}

// Add returns the sum.
func (r Resources) Add(o Resources) Resources {
	return Resources{r.MilliCPU + o.MilliCPU, r.Memory + o.Memory, r.Tasks + o.Tasks}
}

// Sub returns the difference, which may be negative.
func (r Resources) Sub(o Resources) Resources {
	return Resources{r.MilliCPU - o.MilliCPU, r.Memory - o.Memory, r.Tasks - o.Tasks}
}
