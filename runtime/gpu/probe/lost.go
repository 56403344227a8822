package probe

import "slices"

// keepLost adds to a reading the GPUs that were lost in the one before and are not
// in it: a probe started since cannot name what it never saw. One stays until it is
// back; an instance of it, until it is back, divided otherwise.
func keepLost(before []Device, r Reading) Reading {
	if r.Status != OK {
		return r
	}
	find := func(uuid string) int {
		return slices.IndexFunc(r.Devices, func(d Device) bool { return d.UUID == uuid })
	}
	kept := slices.Clone(r.Devices)
	for _, d := range before {
		if !d.Lost || find(d.UUID) >= 0 {
			continue
		}
		if i := find(d.Parent); d.Parent != "" && i >= 0 && !r.Devices[i].Lost {
			continue
		}
		kept = append(kept, d)
	}
	r.Devices = kept
	return r
}
