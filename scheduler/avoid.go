package scheduler

import (
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// avoidance is where a task should not go again, and what else its past attempts
// say of the next one.
type avoidance struct {
	Devices []string            // UUIDs that failed it
	Never   []functions.NodeID  // nodes whose GPUs failed it as a whole
	Unfit   places              // of these, where the program itself cannot run
	Rather  []functions.NodeID  // nodes that refused or lost it: only when there is no other
	Short   []functions.Attempt // those that ran out of GPU memory
	Since   time.Time           // when the first attempt began that a GPU failed; zero = none did
	Fault   functions.Class     // of the last one
	Story   string              // of all of them
}

// places are devices and the GPUs of nodes.
type places struct {
	Devices []string
	Nodes   []functions.NodeID
}

func (a *avoidance) empty() bool {
	return a == nil || len(a.Devices)+len(a.Never)+len(a.Rather)+len(a.Short) == 0 && a.Since.IsZero()
}

// again is the avoidance of a task that has no other place left: what has failed
// it may work by now, what does not suit it never will.
func (a *avoidance) again() *avoidance {
	b := *a
	b.Devices, b.Never = a.Unfit.Devices, a.Unfit.Nodes
	return &b
}

func (a *avoidance) device(uuid string) bool {
	return a != nil && slices.Contains(a.Devices, uuid)
}

func (a *avoidance) never(id functions.NodeID) bool {
	return a != nil && slices.Contains(a.Never, id)
}

func (a *avoidance) rather(id functions.NodeID) bool {
	return a != nil && slices.Contains(a.Rather, id)
}

// avoid is where the next attempt of t should not go.
func avoid(t *functions.Task) avoidance {
	var av avoidance
	past := life(t)
	for _, a := range past {
		if !faulted(a) {
			continue
		}
		if av.Since.IsZero() {
			av.Since = a.StartedAt
		}
		switch c := a.Failure.Class; functions.React(c).Next {
		case functions.NextBigger:
			av.Short = append(av.Short, a)
		case functions.NextHost:
			av.Never = append(av.Never, a.Node)
			if unsuited(c) {
				av.Unfit.Nodes = append(av.Unfit.Nodes, a.Node)
			}
		default:
			av.Devices = append(av.Devices, a.GPUs...)
			if unsuited(c) {
				av.Unfit.Devices = append(av.Unfit.Devices, a.GPUs...)
			}
		}
		av.Fault = a.Failure.Class
	}
	if !av.Since.IsZero() {
		av.Story = story(t)
	}
	for _, a := range slices.Backward(past) {
		if a.Failure == nil || !a.Failure.Class.Platform() {
			break
		}
		av.Rather = append(av.Rather, a.Node)
	}
	return av
}

// unsuited reports whether it is the program that cannot use such a GPU, which
// time does not change.
func unsuited(c functions.Class) bool {
	switch c {
	case functions.GPUImage, functions.GPUUnsuited, functions.Declined:
		return true
	}
	return false
}
