package functions

import (
	"fmt"
	"regexp"
	"slices"
	"time"
)

// Capabilities are what gpu.needs may hold.
var Capabilities = []string{"nvenc", "nvdec"}

var versionNumber = regexp.MustCompile(`^\d{1,5}(\.\d{1,5}){0,3}$`)

// gpuFault returns the field of gpu that is wrong, and why; empty when none is.
func (s Spec) gpuFault() (field, why string) {
	g := s.GPU
	if g == nil {
		return "", ""
	}
	switch {
	case g.Count < 0 || g.Count > 64:
		return "gpu.count", fmt.Sprintf("%d is out of range 0 to 64", g.Count)
	case g.All && g.Count != 0:
		return "gpu.count", "says how many, and gpu.all says every one"
	case g.Memory < 0:
		return "gpu.memory", "is negative"
	case g.Memory > 0 && g.Memory < MiB:
		return "gpu.memory", fmt.Sprintf("%s is under 1MiB: did you mean GiB?", g.Memory)
	case g.Tries < 0 || g.Tries > 10:
		return "gpu.tries", fmt.Sprintf("%d is out of range 0 to 10", g.Tries)
	case g.Within < 0 || g.Within.Std() > 24*time.Hour:
		return "gpu.within", "is out of range 0s to 24h"
	case g.MinDriver != "" && !versionNumber.MatchString(g.MinDriver):
		return "gpu.min_driver", fmt.Sprintf("%q is not a version like 535.104", trim(g.MinDriver))
	case g.MinCUDA != "" && !versionNumber.MatchString(g.MinCUDA):
		return "gpu.min_cuda", fmt.Sprintf("%q is not a version like 12.2", trim(g.MinCUDA))
	}
	for i, what := range g.Needs {
		if !slices.Contains(Capabilities, what) {
			return fmt.Sprintf("gpu.needs[%d]", i), fmt.Sprintf("%q is not nvenc or nvdec", trim(what))
		}
	}
	return "", ""
}

// Claim is what a GPU attempt of s asks for.
func (s Spec) Claim() GPUClaim {
	if s.GPU == nil {
		return GPUClaim{Count: 1}
	}
	return GPUClaim{Count: max(s.GPU.Count, 1), All: s.GPU.All, Memory: s.GPU.Memory, Exclusive: s.GPU.Exclusive, Can: s.GPU.Needs}
}

// Budget is how many attempts of a task GPUs may fail, and how long after the
// beginning of the first of these another one may begin on a GPU. What a function
// does not say is more where a GPU is required: there is no other way then.
func (s Spec) Budget(required bool) (tries int, within time.Duration) {
	tries, within = 2, 5*time.Minute
	if required {
		tries, within = 3, 30*time.Minute
	}
	if g := s.GPU; g != nil && g.Tries > 0 {
		tries = g.Tries
	}
	if g := s.GPU; g != nil && g.Within > 0 {
		within = g.Within.Std()
	}
	return tries, within
}

// ClaimsAfter is what the next GPU attempt of a task may ask for after its
// attempts so far, the best first; those up to number earlier do not count. After
// one that ran out of GPU memory that is twice what was declared, or a device
// alone. Where a device was not enough even alone, over names those that were
// not: only larger ones help.
func (s Spec) ClaimsAfter(attempts []Attempt, earlier int) (claims []GPUClaim, over []string) {
	short, own := 0, s.Claim()
	for _, a := range attempts {
		if a.Number <= earlier || a.Device != GPU || a.Failure == nil || a.Failure.Class != GPUMemory {
			continue
		}
		short++
		if a.asked(own).Alone() {
			over = append(over, a.GPUs...)
		}
	}
	alone := own
	alone.Exclusive = true
	switch {
	case short == 0 || own.Alone():
		return []GPUClaim{own}, over
	case short > 1 || len(over) > 0:
		return []GPUClaim{alone}, over
	}
	double := own
	double.Memory *= 2
	return []GPUClaim{double, alone}, nil
}

// asked is what the attempt asked of GPUs, of a function that claims own.
func (a Attempt) asked(own GPUClaim) GPUClaim {
	if a.Claim.Count == 0 && !a.Claim.All {
		return own
	}
	return a.Claim
}

// GPUCount is how many devices a GPU attempt takes; of a function that takes all
// of a node's, 1, the least that there can be.
func (s Spec) GPUCount() int { return s.Claim().Count }
