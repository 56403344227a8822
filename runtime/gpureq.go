package runtime

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
)

// Labels with which an image says what its programs need of a node's NVIDIA
// driver, beside what NVIDIA's own variables say.
const (
	LabelMinDriver = "spillway.gpu.min-driver" // 535.104
	LabelMinCUDA   = "spillway.gpu.min-cuda"   // 12.2
)

// The variables of NVIDIA's images, as its container toolkit reads them.
const (
	requirePrefix  = "NVIDIA_REQUIRE_"
	disableRequire = "NVIDIA_DISABLE_REQUIRE"
)

// longestRequirement is how much of a requirement is quoted.
const longestRequirement = 120

// Unsuited says why an image cannot run on the GPUs of a host, and what to do
// about it; empty when it can, or when that cannot be told from here. need, which
// may be nil, is what the function asks for itself.
//
// Of NVIDIA's variables each one must hold. Its alternatives stand between spaces
// and their conditions between commas. Only conditions on the driver and on CUDA
// are judged: one on the brand or the architecture of the device is taken as met,
// because who has the last word is NVIDIA's toolkit. A driver set up by CDI has
// nobody else who asks.
func Unsuited(img Image, need *functions.GPUNeed, host functions.GPUHostInfo) (reason, hint string) {
	env := map[string]string{}
	for _, kv := range img.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	off, err := strconv.ParseBool(env[disableRequire])
	if off = off && err == nil; !off {
		for _, k := range slices.Sorted(maps.Keys(env)) {
			if strings.HasPrefix(k, requirePrefix) && requirement(env[k]).refuses(host) {
				return refusal(host, "its %s asks for %s", k, quoted(env[k])), hintDriver
			}
		}
		for _, l := range []struct{ label, name string }{{LabelMinDriver, "driver"}, {LabelMinCUDA, "cuda"}} {
			if c := (condition{l.name, ">=", img.Labels[l.label]}); c.value != "" && c.holds(host) == no {
				return refusal(host, "its label %s asks for %s", l.label, quoted(c.value)), hintDriver
			}
		}
	}
	if need != nil {
		for _, c := range []condition{{"driver", ">=", need.MinDriver}, {"cuda", ">=", need.MinCUDA}} {
			if c.value != "" && c.holds(host) == no {
				return refusal(host, "the function's gpu.min_%s asks for %s", c.name, c.value), hintDriver
			}
		}
	}
	return "", ""
}

const hintDriver = "upgrade the NVIDIA driver of the node, or use an image built for an older CUDA"

func refusal(host functions.GPUHostInfo, format string, args ...any) string {
	have := "driver " + host.Driver
	switch {
	case host.Driver == "":
		have = "CUDA " + host.CUDA
	case host.CUDA != "":
		have += " with CUDA " + host.CUDA
	}
	return fmt.Sprintf("the image does not run on the node's GPUs: "+format+", and the node has "+have, args...)
}

func quoted(text string) string {
	if len(text) > longestRequirement {
		text = text[:longestRequirement] + "..."
	}
	return strconv.Quote(text)
}

// requirement is the value of one NVIDIA_REQUIRE_ variable.
type requirement string

// refuses reports whether every alternative is known not to hold.
func (r requirement) refuses(host functions.GPUHostInfo) bool {
	alternatives := strings.Fields(string(r))
	return len(alternatives) > 0 && !slices.ContainsFunc(alternatives, func(a string) bool {
		for text := range strings.SplitSeq(a, ",") {
			if parseCondition(text).holds(host) == no {
				return false
			}
		}
		return true
	})
}

// condition compares what a host has with a value.
type condition struct{ name, op, value string }

// verdict is whether a condition holds.
type verdict int

const (
	unknown verdict = iota // it is of something that we do not know, or not understood
	yes
	no
)

// parseCondition reads name, operator and value. What it cannot read it gives no
// operator.
func parseCondition(text string) condition {
	at := strings.IndexAny(text, "<>=!")
	if at <= 0 {
		return condition{name: text}
	}
	rest := text[at:]
	for _, op := range []string{">=", "<=", "!=", ">", "<", "="} {
		if value, ok := strings.CutPrefix(rest, op); ok {
			return condition{strings.ToLower(text[:at]), op, value}
		}
	}
	return condition{name: text}
}

func (c condition) holds(host functions.GPUHostInfo) verdict {
	have := map[string]string{"driver": host.Driver, "cuda": host.CUDA}[c.name]
	a, okHave := parseVersion(have)
	b, okValue := parseVersion(c.value)
	if !okHave || !okValue {
		return unknown
	}
	order := slices.Compare(a[:], b[:])
	holds, ok := map[string]bool{
		">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0, "=": order == 0, "!=": order != 0,
	}[c.op]
	switch {
	case !ok:
		return unknown
	case holds:
		return yes
	}
	return no
}

// parseVersion reads up to four numbers with dots between; those that are not
// there are 0.
func parseVersion(text string) (v [4]int, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) > len(v) {
		return v, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return v, false
		}
		v[i] = int(n)
	}
	return v, true
}
