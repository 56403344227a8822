package scheduler

import (
	"time"

	"github.com/spillway/spillway/functions"
)

// catalog is every function that live tasks name, and what else many of them name alike.
type catalog struct {
	versions  []*version
	byVersion map[versionKey]*version
	usages    map[functions.Name]*usage
	routes    routes
	shares    shareSets
}

// version is one version of a function that live tasks name.
type version struct {
	index  int32
	name   functions.Name
	number int
	fn     functions.Function // valid when known
	known  bool
	onCPU  functions.Resources
	onGPU  need
	asked  time.Time // when it was last looked up in vain
	usage  *usage
	suited stamp[bool] // some node could run it on GPUs
}

// usage is what all versions of a function share.
type usage struct {
	running int // proposed, assigned and canceling attempts
}

type versionKey struct {
	name   functions.Name
	number int
}

// lookupPause is how often an unknown version is looked up: deployments reach
// servers one after the other.
const lookupPause = 200 * time.Millisecond

// version returns the version of a task, known or not.
func (t *term) version(name functions.Name, number int) *version {
	k := versionKey{name, number}
	v := t.byVersion[k]
	if v == nil {
		u := t.usages[name]
		if u == nil {
			u = &usage{}
			t.usages[name] = u
		}
		v = &version{index: int32(len(t.versions)), name: name, number: number, usage: u}
		t.byVersion[k] = v
		t.versions = append(t.versions, v)
	}
	t.lookup(v)
	return v
}

// lookup makes v known if the function is deployed here by now.
func (t *term) lookup(v *version) bool {
	if v.known || (!v.asked.IsZero() && t.now.Sub(v.asked) < lookupPause) {
		return v.known
	}
	fn, err := t.cfg.Functions.Version(v.name, v.number)
	if err != nil {
		if v.asked.IsZero() {
			t.log.Warn("function version is not known", "function", v.name, "version", v.number, "err", err)
		}
		v.asked = t.now
		return false
	}
	fn.Spec = fn.Spec.WithDefaults()
	v.fn, v.known = fn, true
	v.onCPU, v.onGPU = fn.Needs(functions.CPU), needOnGPU(fn)
	return true
}

// full reports whether the function's own cap is reached.
func (v *version) full() bool {
	return v.fn.Concurrency > 0 && v.usage.running >= v.fn.Concurrency
}

// need is what an attempt on d takes, of a task whose inputs are in some shares.
func (v *version) need(d functions.Device, shares []string, av *avoidance) need {
	n := need{Res: v.onCPU}
	if d == functions.GPU {
		n = v.onGPU
	}
	n.Shares, n.Avoid = shares, av
	return n
}

// needOnGPU is what an attempt of the function on a GPU takes.
func needOnGPU(fn functions.Function) need {
	n := need{Res: fn.Needs(functions.GPU), Claim: fn.Claim(), Image: fn.Image}
	n.GPUs = n.Claim.Count
	if g := fn.GPU; g != nil && (g.MinDriver != "" || g.MinCUDA != "") {
		n.Spec = g
	}
	return n
}

func (v *version) queueTimeout() time.Duration {
	if !v.known {
		return functions.Spec{}.WithDefaults().QueueTimeout.Std()
	}
	return v.fn.QueueTimeout.Std()
}
