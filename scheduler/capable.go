package scheduler

import "github.com/spillway/spillway/functions"

// neverRuns says why no node that is known can ever run a task; empty when one
// could, or when not enough is known to say.
func (t *term) neverRuns(v *version, e *entry) string {
	nodes, gpus := make([]functions.NodeStatus, 0, len(t.nodes)), false
	for _, n := range t.nodes {
		if !n.heard {
			return ""
		}
		info := functions.NodeInfo{ID: n.ID, Capacity: n.Capacity, GPUHost: n.GPUHost}
		for i := range n.GPUs {
			info.GPUs = append(info.GPUs, n.GPUs[i].said)
		}
		gpus = gpus || len(info.GPUs) > 0
		nodes = append(nodes, functions.NodeStatus{NodeInfo: info})
	}
	spec := v.fn.Spec
	switch e.demand {
	case wantsCPU:
		spec.Device = functions.Never
	case prefersGPU:
		spec.Device = functions.Preferred
	case requiresGPU:
		if !gpus { // the wait for a first GPU has a reason of its own
			return ""
		}
		spec.Device = functions.Required
	}
	why, never := functions.NeverRuns(spec, nodes)
	if !never {
		return ""
	}
	return why
}
