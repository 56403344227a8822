package functions

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// NeverRuns reports whether none of the nodes could run the function were it idle
// and well, and why: one sentence. Nodes that are silent now count too, and so do
// sick GPUs: they may come back. With no node known, everything may run.
//
// Of a function that may use the CPU, why is given with never false when only the
// GPU that it names can never be had: it is then no obstacle, and worth a warning.
// For one task, put its policy into spec.Device.
func NeverRuns(spec Spec, nodes []NodeStatus) (why string, never bool) {
	if len(nodes) == 0 {
		return "", false
	}
	spec = spec.WithDefaults()
	onCPU := neverOn(CPU, spec, nodes)
	if spec.Device == Never {
		return noNode("", onCPU), onCPU != ""
	}
	onGPU := neverOnGPU(spec, nodes)
	switch {
	case onGPU == "":
		return "", false
	case spec.Device == Required:
		return noNode("", onGPU), true
	case onCPU != "":
		return noNode("", "on a GPU, "+onGPU+"; on the CPU, "+onCPU), true
	case spec.GPU != nil || spec.Device == Preferred:
		return noNode(" on a GPU", onGPU) + "; it runs on the CPU", false
	}
	return "", false
}

func noNode(where, why string) string {
	if why == "" {
		return ""
	}
	return "no node can ever run this" + where + ": " + why
}

// neverOn says what of CPUs and host memory no node has for an attempt on d.
func neverOn(d Device, spec Spec, nodes []NodeStatus) string {
	need := spec.Needs(d)
	var most Resources
	for _, n := range nodes {
		if need.MilliCPU <= n.Capacity.MilliCPU && need.Memory <= n.Capacity.Memory {
			return ""
		}
		most.MilliCPU, most.Memory = max(most.MilliCPU, n.Capacity.MilliCPU), max(most.Memory, n.Capacity.Memory)
	}
	who := "the largest node"
	if d == GPU {
		who = "the largest node with such GPUs"
	}
	switch {
	case need.MilliCPU > most.MilliCPU:
		return fmt.Sprintf("it needs %s and %s has %s", cores(need.MilliCPU), who, cores(most.MilliCPU))
	case need.Memory > most.Memory:
		return fmt.Sprintf("it needs %s of host memory and %s has %s", need.Memory, who, most.Memory)
	}
	return fmt.Sprintf("it needs %s and %s of host memory, which no one node has together", cores(need.MilliCPU), need.Memory)
}

func cores(milli int64) string { return fmt.Sprintf("%.4g CPU(s)", float64(milli)/1000) }

// neverOnGPU says what of GPUs no node has. It looks at one demand after the
// other, each time among the nodes that meet those before.
func neverOnGPU(spec Spec, nodes []NodeStatus) string {
	claim := spec.Claim()
	if slices.ContainsFunc(nodes, func(n NodeStatus) bool { return n.unknownGPUs() }) {
		return ""
	}
	left := having(nodes, GPUClaim{Count: 1})
	if len(left) == 0 {
		return "it needs a GPU and no node has one"
	}
	all, sized := left, claim
	sized.Count = 1
	if left = having(left, GPUClaim{Count: 1, All: claim.All}); len(left) == 0 {
		return "it needs every GPU of a node whole, and on each node some are divided into MIG instances"
	}
	if left = having(left, GPUClaim{Count: 1, All: claim.All, Can: claim.Can}); len(left) == 0 {
		return fmt.Sprintf("it needs %s with %s and no node has that", claim.each(), strings.Join(claim.Can, " and "))
	}
	if left = having(left, sized); len(left) == 0 {
		return fmt.Sprintf("it needs %s with %s for it and %s for the driver and its context, and the largest has %s",
			claim.each(), claim.Memory, 2*GPUOverhead, largestGPU(all, claim))
	}
	most := 0
	for _, n := range left {
		most = max(most, n.suited(claim))
	}
	if left = having(left, claim); len(left) == 0 {
		which := ""
		if most != mostGPUs(all) {
			which = " that suit"
		}
		return fmt.Sprintf("it needs %d GPUs%s and the largest node has %d", claim.Count, which, most)
	}
	if spec.GPU != nil {
		able := slices.DeleteFunc(slices.Clone(left), func(n NodeStatus) bool { return !n.GPUHost.Drives(*spec.GPU) })
		if len(able) == 0 {
			return "it needs " + spec.GPU.versions() + ", and no node with such GPUs has it"
		}
		left = able
	}
	return neverOn(GPU, spec, left)
}

// each names the devices of a claim one by one.
func (c GPUClaim) each() string {
	if c.All {
		return "every GPU of a node"
	}
	return "a GPU"
}

// unknownGPUs reports whether the node has GPUs that its driver cannot list now.
func (n NodeInfo) unknownGPUs() bool {
	return len(n.GPUs) == 0 && n.GPUHost != nil && n.GPUHost.State == GPUHostOff
}

// having are the nodes that have the devices of a claim.
func having(nodes []NodeStatus, c GPUClaim) (out []NodeStatus) {
	for _, n := range nodes {
		have := n.suited(c)
		if have == 0 || (c.All && have < len(n.GPUs)) || (!c.All && have < c.Count) {
			continue
		}
		out = append(out, n)
	}
	return out
}

// suited counts the devices of the node that suit a claim.
func (n NodeInfo) suited(c GPUClaim) (count int) {
	for _, g := range n.GPUs {
		if g.Suits(c) {
			count++
		}
	}
	return count
}

// largestGPU is the memory of the largest device that can do what is claimed.
func largestGPU(nodes []NodeStatus, c GPUClaim) (most Bytes) {
	c.Memory = 0
	for _, n := range nodes {
		for _, g := range n.GPUs {
			if g.Suits(c) {
				most = max(most, g.Memory)
			}
		}
	}
	return most
}

func mostGPUs(nodes []NodeStatus) (most int) {
	for _, n := range nodes {
		most = max(most, len(n.GPUs))
	}
	return most
}

// Drives reports whether the host's driver and CUDA are as new as a function
// needs. What nobody knows is given the chance.
func (h *GPUHostInfo) Drives(need GPUNeed) bool {
	return h == nil || (!older(h.Driver, need.MinDriver) && !older(h.CUDA, need.MinCUDA))
}

// versions says which driver and CUDA the function needs.
func (g GPUNeed) versions() string {
	var parts []string
	if g.MinDriver != "" {
		parts = append(parts, "driver "+g.MinDriver+" or newer")
	}
	if g.MinCUDA != "" {
		parts = append(parts, "CUDA "+g.MinCUDA+" or newer")
	}
	return strings.Join(parts, " and ")
}

// older reports whether version a comes before b, number by number. A version
// that is empty or no version comes before none.
func older(a, b string) bool {
	x, y := numbers(a), numbers(b)
	return x != nil && y != nil && slices.Compare(x, y) < 0
}

// numbers are the parts of a version without the zeros at its end; nil when it
// is none.
func numbers(version string) []int {
	if !versionNumber.MatchString(version) {
		return nil
	}
	parts := []int{}
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		parts = append(parts, n)
	}
	for len(parts) > 1 && parts[len(parts)-1] == 0 {
		parts = parts[:len(parts)-1]
	}
	return parts
}
