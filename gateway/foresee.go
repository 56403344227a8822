package gateway

import (
	"net/http"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/devices"
)

// warningHeader says that no node that is here can run a function, or one call of
// it. Both are accepted all the same: a node that can may join.
const warningHeader = "Spillway-Warning"

// foresight remembers for a moment what no node can run, so that many calls of a
// function cost one look at the nodes.
type foresight struct {
	mu    sync.Mutex // guards the fields below
	since time.Time
	never map[call]string // why; empty = some node can
}

// call is what decides whether a node can run a task.
type call struct {
	function functions.Name
	version  int
	policy   functions.Policy
}

// foreseeFor is how long an answer holds. Nodes come and go, and a warning that
// is a little late does no harm.
const foreseeFor = 2 * time.Second

// foresee returns why no node can ever run a task; empty when one can. Nothing
// fails for want of the answer.
func (g *Gateway) foresee(t *functions.Task) string {
	if t.State.Final() {
		return ""
	}
	policy := t.Route.Policy
	if policy == functions.Auto && t.Route.Device == functions.CPU {
		policy = functions.Never // its content has decided
	}
	key := call{t.Function, t.Version, policy}
	f := &g.foresight
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := g.cfg.Now(); f.never == nil || now.Sub(f.since) >= foreseeFor || now.Before(f.since) {
		f.since, f.never = now, map[call]string{}
	}
	why, known := f.never[key]
	if !known {
		if fn, err := g.cfg.Functions.Version(t.Function, t.Version); err == nil {
			fn.Device = policy
			if text, never := functions.NeverRuns(fn.Spec, g.cfg.Scheduler.Nodes()); never {
				why = text
			}
		}
		f.never[key] = why
	}
	return why
}

// warn foresees a task's fate and says it in the header.
func (g *Gateway) warn(h http.Header, t *functions.Task) string {
	why := g.foresee(t)
	setWarning(h, why)
	return why
}

func setWarning(h http.Header, why string) {
	if why != "" {
		h.Set(warningHeader, devices.Line(why))
	}
}

// deployed is the answer to a deployment. Here a warning is given as well when
// the function will run, and never on the GPU that it asks for.
type deployed struct {
	functions.Function
	Warning string `json:"warning,omitempty"`
}

func (g *Gateway) deployed(h http.Header, fn functions.Function) deployed {
	why, _ := functions.NeverRuns(fn.Spec, g.cfg.Scheduler.Nodes())
	setWarning(h, why)
	return deployed{fn, why}
}
