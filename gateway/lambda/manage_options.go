package lambda

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
)

// tagOption is a setting that Lambda has no member for, and that clients of every
// version can send as a tag: spillway:NAME, or rt:NAME. set reports whether it
// knows the value; reset is what takes the tag away.
type tagOption struct {
	name  string
	may   string // the values, in words
	set   func(s *functions.Spec, value string) bool
	reset func(s *functions.Spec)
}

// prefixes of options, the one that we write first.
var prefixes = []string{"spillway:", "rt:"}

// options in the order in which they are applied: the contract decides what
// others mean.
var options = []tagOption{
	{"contract", "lambda, http or task", setContract, func(s *functions.Spec) { setContract(s, string(functions.LambdaContract)) }},
	{"gpu", "none, auto, prefer, require or how many", setGPU, func(s *functions.Spec) { setGPU(s, "auto") }},
	{"gpu-memory", "GB needed of one device", setGPUMemory, func(s *functions.Spec) { changeGPU(s, func(g *functions.GPUNeed) { g.Memory = 0 }) }},
	{"reuse", "0 for one invocation per container, or forever", setReuse, func(s *functions.Spec) { s.Reuse = 0 }},
	{"network", "none or egress", setNetwork, func(s *functions.Spec) { s.Network = functions.NetworkNone }},
	{"concurrency", "invocations at once in one container", setAtOnce, func(s *functions.Spec) { atOnce(s, 1) }},
}

func setContract(s *functions.Spec, value string) bool {
	switch c := functions.Contract(value); c {
	case functions.LambdaContract, functions.TaskContract:
		s.Contract, s.HTTP = c, nil
	case functions.HTTPContract:
		s.Contract = c
	default:
		return false
	}
	return true
}

func setGPU(s *functions.Spec, value string) bool {
	count := 0
	switch value {
	case "none":
		s.Device = functions.Never
	case "auto":
		s.Device = functions.Auto
	case "prefer":
		s.Device = functions.Preferred
	case "require":
		s.Device = functions.Required
	default:
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return false
		}
		s.Device, count = functions.Required, n
	}
	changeGPU(s, func(g *functions.GPUNeed) { g.Count = count })
	return true
}

func setGPUMemory(s *functions.Spec, value string) bool {
	gb, err := strconv.ParseFloat(value, 64)
	if err != nil || !(gb > 0 && gb <= maxDeviceMemory) {
		return false
	}
	changeGPU(s, func(g *functions.GPUNeed) { g.Memory = functions.Bytes(gb * float64(functions.GiB)) })
	return true
}

// changeGPU changes a copy, and leaves none where nothing is needed.
func changeGPU(s *functions.Spec, change func(*functions.GPUNeed)) {
	var g functions.GPUNeed
	if s.GPU != nil {
		g = *s.GPU
	}
	change(&g)
	s.GPU = &g
	if reflect.ValueOf(g).IsZero() {
		s.GPU = nil
	}
}

func setReuse(s *functions.Spec, value string) bool {
	switch value {
	case "0":
		s.Reuse = 1
	case "forever":
		s.Reuse = functions.ReuseForever
	default:
		return false
	}
	return true
}

func setNetwork(s *functions.Spec, value string) bool {
	s.Network = functions.Network(value)
	return s.Network == functions.NetworkNone || s.Network == functions.NetworkEgress
}

func setAtOnce(s *functions.Spec, value string) bool {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || s.Contract == functions.TaskContract && n > 1 {
		return false
	}
	atOnce(s, n)
	return true
}

// atOnce says it where the contract has it: an http function's in its spec, a
// lambda function's in the variable by which its runtime is told.
func atOnce(s *functions.Spec, n int) {
	if s.Contract == functions.HTTPContract {
		var h functions.HTTPSpec
		if s.HTTP != nil {
			h = *s.HTTP
		}
		h.Concurrency = n
		s.HTTP = &h
	}
	env := maps.Clone(s.Env)
	delete(env, concurrencyEnv)
	if s.Contract == functions.LambdaContract && n > 1 {
		if env == nil {
			env = map[string]string{}
		}
		env[concurrencyEnv] = strconv.Itoa(n)
	}
	if len(env) == 0 {
		env = nil
	}
	s.Env = env
}

// concurrencyEnv is where a Lambda runtime finds how many invocations it may
// take at once.
const concurrencyEnv = "AWS_LAMBDA_MAX_CONCURRENCY"

// option returns the value of an option among tags.
func option(tags map[string]string, name string) (string, bool) {
	for _, p := range prefixes {
		if v, ok := tags[p+name]; ok {
			return v, true
		}
	}
	return "", false
}

// applyTags writes what tags say over a spec, and takes back what removed tags
// said.
func applyTags(s *functions.Spec, tags map[string]string, removed []string) *apiError {
	for _, o := range options {
		value, ok := option(tags, o.name)
		switch {
		case ok && !o.set(s, value):
			return problem(codeInvalidParameter, "tag %s%s: %.140q is not %s", prefixes[0], o.name, value, o.may)
		case !ok && slices.ContainsFunc(prefixes, func(p string) bool { return slices.Contains(removed, p+o.name) }):
			o.reset(s)
		}
	}
	return nil
}

// accelerated adds to tags what a wish for an accelerator means.
func accelerated(tags map[string]string, gb int) (map[string]string, *apiError) {
	want := map[string]string{"gpu": "require", "gpu-memory": strconv.Itoa(gb)}
	tags = cloned(tags)
	for name, value := range want {
		if have, ok := option(tags, name); ok && have != value {
			return nil, problem(codeInvalidParameter, "AcceleratorConfig means the tag %s%s=%s, and the function has it with %.140q", prefixes[0], name, value, have)
		} else if !ok {
			tags[prefixes[0]+name] = value
		}
	}
	return tags, nil
}

// cloned is a copy that can be written to.
func cloned[V any](m map[string]V) map[string]V {
	c := maps.Clone(m)
	if c == nil {
		c = map[string]V{}
	}
	return c
}

// Lambda's limits of tags.
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// tagFault checks all the tags of a function.
func tagFault(tags map[string]string) *apiError {
	if len(tags) > maxTags {
		return problem(codeInvalidParameter, "a function has at most %d tags, and these are %d", maxTags, len(tags))
	}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		switch {
		case key == "" || len(key) > maxTagKey:
			return outside(key, "tags", "Map keys must have length from 1 to 128")
		case len(tags[key]) > maxTagValue:
			return outside(tags[key], "tags", "Map values must have length less than or equal to 256")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return problem(codeInvalidParameter, "tag %.140q: the prefix aws: is reserved", key)
		}
		for _, p := range prefixes {
			name, ours := strings.CutPrefix(key, p)
			if !ours {
				continue
			}
			if !slices.ContainsFunc(options, func(o tagOption) bool { return o.name == name }) {
				return problem(codeInvalidParameter, "tag %.140q: there is no such setting; there are contract, gpu, gpu-memory, reuse, network and concurrency", key)
			}
			if v, _ := option(tags, name); v != tags[key] {
				return problem(codeInvalidParameter, "tag %.140q: %s%s says something else; remove one of them", key, prefixes[0], name)
			}
		}
	}
	return nil
}
