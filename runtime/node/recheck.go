package node

import (
	"context"
	"fmt"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// readyGPUs makes sure, before a GPU container is made, that it has a chance: that
// the image suits the driver, and that the devices still have the memory that they
// had when they were leased. Staging and pulling can take minutes, and other
// programs use the same devices.
func (n *Node) readyGPUs(ctx context.Context, a *attempt) *functions.Failure {
	if !a.onGPU() || n.cfg.GPUs == nil {
		return nil
	}
	if f := n.suits(ctx, a); f != nil {
		return f
	}
	if a.Assignment.Asks().Alone() { // alone on a device is without containers that wait, too
		n.served.Free(a.serveKey(), a.Leased)()
	}
	return n.confirmGPUs(ctx, a)
}

// suits refuses an image that needs a newer driver than the node has. That costs
// no container, and a driver that is set up by CDI would never ask.
func (n *Node) suits(ctx context.Context, a *attempt) *functions.Failure {
	host := n.cfg.GPUs.Host()
	if host == nil || host.Driver == "" && host.CUDA == "" {
		return nil
	}
	img, err := n.cfg.Driver.Image(ctx, a.spec.Image)
	if err != nil {
		return nil // the launch tells more
	}
	reason, hint := runtime.Unsuited(img, a.spec.GPU, *host)
	if reason == "" {
		return nil
	}
	return &functions.Failure{Class: functions.GPUImage, Message: reason, Hint: hint}
}

// confirmGPUs looks at the attempt's devices again. When one has no room any more,
// the attempt gets others if there are any; else it ends as an order that was
// refused does: that blames no device, and counts for nothing.
func (n *Node) confirmGPUs(ctx context.Context, a *attempt) *functions.Failure {
	claim := a.Assignment.Asks()
	r, ok := n.read(ctx, freshReading)
	if !ok || !tells(r) {
		return nil
	}
	why := lacking(r, a.devices, claim)
	if why == "" {
		return nil
	}
	n.served.Free(a.serveKey(), a.Leased)() // an idle container may hold it
	if r, ok = n.read(ctx, 0); !ok || !tells(r) {
		return nil
	}
	if why = lacking(r, a.devices, claim); why == "" {
		return nil
	}
	devices, release, err := n.cfg.GPUs.Acquire(a.key.task, claim, nil)
	if err != nil {
		return &functions.Failure{Class: functions.Refused, Message: why + ", and no other GPU of the node has room",
			Hint: "another program uses the GPUs of the node: look at nvidia-smi there"}
	}
	a.release()
	a.mu.Lock() // readings look for the attempt's programs meanwhile
	a.devices, a.release, a.Leased = devices, release, uuidsOf(devices)
	a.mu.Unlock()
	n.cfg.Log.Info("attempt moved to another GPU", "task", a.key.task, "attempt", a.key.attempt, "gpus", a.Leased, "why", why)
	if err := a.folder.note(entry{Held: &a.record}); err != nil {
		return diskFailure("write down the GPUs", err)
	}
	return nil
}

// tells reports whether a reading is one of devices that exist.
func tells(r probe.Reading) bool {
	return r.Status == probe.OK && r.Source != sourceSimulated
}

const sourceSimulated = "simulated"

// lacking says why a reading leaves one of the devices no room for the claim that
// it is leased for; empty when there is room, or the reading does not tell.
func lacking(r probe.Reading, devices []functions.GPUInfo, claim functions.GPUClaim) string {
	for _, d := range devices {
		if d.Assumed {
			continue
		}
		i := indexOf(r, d.UUID)
		if i < 0 {
			return fmt.Sprintf("GPU %s is not there any more", d.UUID)
		}
		seen := r.Devices[i]
		if seen.Lost {
			return fmt.Sprintf("GPU %s has failed", d.UUID)
		}
		if seen.Total <= 0 || seen.Free < 0 {
			continue
		}
		// As a device that nobody else holds: what others were promised is the ledger's
		// to know, and what they use is in the reading.
		idle := functions.GPUInfo{State: functions.GPUFree, Memory: seen.Total, ReadAt: r.At, Free: max(0, seen.Free-functions.GPUOverhead), Can: claim.Can}
		if !idle.Takes(claim) {
			return fmt.Sprintf("GPU %s has only %s of its %s free", d.UUID, seen.Free, seen.Total)
		}
	}
	return ""
}

func uuidsOf(devices []functions.GPUInfo) (ids []string) {
	for _, d := range devices {
		ids = append(ids, d.UUID)
	}
	return ids
}
