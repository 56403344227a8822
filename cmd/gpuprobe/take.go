//go:build cgo

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/spillway/spillway/runtime/gpu/probe"
)

// Seen is what earlier readings of this process have named, by the index of the
// GPU: one that is lost may not say its own name any more. It begins empty, and
// Take keeps it.
type Seen map[int][]probe.Device

// Take reads every GPU of an initialised library once. A GPU that was never named
// and cannot be now is not among the devices; the message says so.
func Take(lib nvml.Interface, seen Seen, now time.Time) probe.Reading {
	reading := probe.Reading{At: now, Source: source, Status: probe.OK}
	var ret nvml.Return
	if reading.Driver, ret = lib.SystemGetDriverVersion(); ret != nvml.SUCCESS {
		return faultOf(lib, ret).reading(now)
	}
	count, ret := lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return faultOf(lib, ret).reading(now)
	}
	if has(lib, "nvmlSystemGetCudaDriverVersion") {
		if v, ret := lib.SystemGetCudaDriverVersion(); ret == nvml.SUCCESS {
			reading.CUDA = fmt.Sprintf("%d.%d", v/1000, v%1000/10)
		}
	}
	var nameless []string
	for i := range count {
		devices, why := takeGPU(lib, i, seen[i])
		if len(devices) == 0 {
			nameless = append(nameless, fmt.Sprintf("GPU %d: %s", i, why))
			continue
		}
		seen[i] = nil
		for _, d := range devices {
			seen[i] = append(seen[i], name(d))
		}
		reading.Devices = append(reading.Devices, devices...)
	}
	reading.Message = strings.Join(nameless, "; ")
	return reading
}

// takeGPU reads the GPU with an index, and its MIG instances. before is what it
// was when it was last named.
func takeGPU(lib nvml.Interface, index int, before []probe.Device) ([]probe.Device, string) {
	r := newReader(lib, index)
	handle, ret := lib.DeviceGetHandleByIndex(index)
	if !r.ok("handle", ret) {
		return r.remembered(before), r.why()
	}
	r.handle = handle
	if uuid, ret := handle.GetUUID(); r.ok("UUID", ret) {
		r.UUID = uuid
	}
	if r.UUID == "" {
		return r.remembered(before), r.why()
	}
	r.describe()
	r.MIG = r.divided()
	r.measure()
	r.health()
	if r.Lost {
		return r.remembered(before), ""
	}
	if !r.MIG {
		r.Can = r.abilities()
	}
	r.Error = r.why()
	devices := []probe.Device{r.Device}
	if r.MIG {
		devices = append(devices, r.instances()...)
		devices[0].Error = r.why()
	}
	return devices, ""
}

// remembered is the GPU as it was last named, with what is wrong with it now.
func (r *reader) remembered(before []probe.Device) []probe.Device {
	devices := slices.Clone(before)
	if len(devices) == 0 && r.UUID != "" {
		devices = []probe.Device{name(r.Device)}
	}
	for i := range devices {
		devices[i].Lost, devices[i].Error = r.Lost, r.why()
		devices[i].ECC, devices[i].Remap, devices[i].Recovery = r.ECC, r.Remap, r.Recovery
	}
	return devices
}

// name is what of a device stays while all that is measured goes.
func name(d probe.Device) probe.Device {
	n := unread()
	n.UUID, n.Index, n.Minor, n.BusID, n.Model = d.UUID, d.Index, d.Minor, d.BusID, d.Model
	n.Parent, n.Profile, n.MIG, n.Can = d.Parent, d.Profile, d.MIG, d.Can
	return n
}

// unread is a device of which no number is known.
func unread() probe.Device {
	return probe.Device{Minor: -1, Total: -1, Used: -1, Free: -1, Utilisation: -1, ECC: -1}
}
