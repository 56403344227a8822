package scheduler

import "github.com/spillway/spillway/functions"

// maxRoutes bounds how many different routes are told apart. Content types come
// from clients, who may send a new one with every task.
const maxRoutes = 4096

// routes keeps each different route once, so that a queued task needs an index.
type routes struct {
	all   []functions.Route
	index map[functions.Route]uint16
}

// put returns the index of what a decision reads of a route.
func (r *routes) put(full functions.Route) uint16 {
	lean := functions.Route{Policy: full.Policy, Device: full.Device, Reason: full.Reason}
	if i, ok := r.index[lean]; ok {
		return i
	}
	if len(r.all) >= maxRoutes {
		lean.Reason = "policy " + string(full.Policy)
		if i, ok := r.index[lean]; ok {
			return i
		}
	}
	if r.index == nil {
		r.index = map[functions.Route]uint16{}
	}
	i := uint16(len(r.all))
	r.all = append(r.all, lean)
	r.index[lean] = i
	return i
}

func (r *routes) get(i uint16) functions.Route { return r.all[i] }
