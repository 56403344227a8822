//go:build cgo

package main

import (
	"fmt"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/spillway/spillway/runtime/gpu/probe"
)

// divided reports whether the GPU is divided into MIG instances.
func (r *reader) divided() bool {
	if !has(r.lib, "nvmlDeviceGetMigMode") {
		return false
	}
	mode, _, ret := r.handle.GetMigMode()
	return r.ok("MIG mode", ret) && mode == nvml.DEVICE_MIG_ENABLE
}

// instances reads the MIG instances of the GPU that r has read. What is wrong with
// the GPU is wrong with each.
func (r *reader) instances() []probe.Device {
	if !has(r.lib, "nvmlDeviceGetMaxMigDeviceCount") || !has(r.lib, "nvmlDeviceGetMigDeviceHandleByIndex") {
		return nil
	}
	most, ret := r.handle.GetMaxMigDeviceCount()
	if !r.ok("MIG instances", ret) {
		return nil
	}
	var found []probe.Device
	for i := range most {
		handle, ret := r.handle.GetMigDeviceHandleByIndex(i)
		if ret == nvml.ERROR_NOT_FOUND || !r.ok("MIG instance", ret) {
			continue
		}
		in := newReader(r.lib, r.Index)
		in.handle = handle
		uuid, ret := handle.GetUUID()
		if !in.ok("UUID", ret) || uuid == "" {
			r.ok(fmt.Sprintf("MIG instance %d", i), ret)
			continue
		}
		in.UUID, in.Parent = uuid, r.UUID
		in.Minor, in.BusID, in.Model = r.Minor, r.BusID, r.Model
		in.ECC, in.Remap, in.Recovery = r.ECC, r.Remap, r.Recovery
		in.measure()
		in.share(r)
		in.Error = in.why()
		found = append(found, in.Device)
	}
	return found
}

// share reads which part of its GPU the instance is, and the engines in it.
func (r *reader) share(gpu *reader) {
	if has(r.lib, "nvmlDeviceGetName") {
		if v, ret := r.handle.GetName(); ret == nvml.SUCCESS {
			_, r.Profile, _ = strings.Cut(v, " MIG ")
		}
	}
	if !has(r.lib, "nvmlDeviceGetAttributes_v2", "nvmlDeviceGetAttributes") {
		return
	}
	a, ret := r.handle.GetAttributes()
	if !r.ok("attributes", ret) {
		return
	}
	if r.Profile == "" {
		r.Profile = profile(a)
	}
	if a.SharedEncoderCount > 0 {
		r.Can = append(r.Can, "nvenc")
	}
	if a.SharedDecoderCount > 0 {
		r.Can = append(r.Can, "nvdec")
	}
}

// profile names an instance as NVIDIA's tools do: 1g.18gb, and 1c.2g.36gb for a
// compute instance that is less than its GPU instance.
func profile(a nvml.DeviceAttributes) string {
	p := fmt.Sprintf("%dg.%dgb", a.GpuInstanceSliceCount, (a.MemorySizeMB+1023)/1024)
	if c := a.ComputeInstanceSliceCount; c != a.GpuInstanceSliceCount {
		p = fmt.Sprintf("%dc.%s", c, p)
	}
	return p
}
