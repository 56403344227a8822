//go:build cgo

package main

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// reader reads one device, and notes what it could not.
type reader struct {
	probe.Device
	lib    nvml.Interface
	handle nvml.Device
	faults []string
}

func newReader(lib nvml.Interface, index int) *reader {
	r := &reader{Device: unread(), lib: lib}
	r.Index = index
	return r
}

// ok reports whether a call succeeded. What a device does not support is no fault
// of it.
func (r *reader) ok(what string, ret nvml.Return) bool {
	switch ret {
	case nvml.SUCCESS:
		return true
	case nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_FUNCTION_NOT_FOUND, nvml.ERROR_VGPU_ECC_NOT_SUPPORTED:
		return false
	}
	r.Lost = r.Lost || lost(ret)
	if text := what + ": " + describe(r.lib, ret); !slices.Contains(r.faults, text) {
		r.faults = append(r.faults, text)
	}
	return false
}

func (r *reader) why() string { return strings.Join(r.faults, "; ") }

// describe reads what identifies the device beside its UUID.
func (r *reader) describe() {
	if has(r.lib, "nvmlDeviceGetName") {
		if v, ret := r.handle.GetName(); r.ok("name", ret) {
			r.Model = v
		}
	}
	if has(r.lib, "nvmlDeviceGetMinorNumber") {
		if v, ret := r.handle.GetMinorNumber(); r.ok("minor number", ret) {
			r.Minor = v
		}
	}
	if has(r.lib, "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo") {
		if v, ret := r.handle.GetPciInfo(); r.ok("bus id", ret) {
			r.BusID = text(v.BusId[:])
		}
	}
}

// measure reads what changes from one moment to the next.
func (r *reader) measure() {
	r.memory()
	if has(r.lib, "nvmlDeviceGetUtilizationRates") {
		if v, ret := r.handle.GetUtilizationRates(); r.ok("utilisation", ret) {
			r.Utilisation = int(v.Gpu)
		}
	}
	if r.MIG {
		return // the processes are the instances'
	}
	byPID := map[int]functions.Bytes{}
	for _, list := range []struct {
		symbol string
		get    func() ([]nvml.ProcessInfo, nvml.Return)
	}{
		{"nvmlDeviceGetComputeRunningProcesses", r.handle.GetComputeRunningProcesses},
		{"nvmlDeviceGetMPSComputeRunningProcesses", r.handle.GetMPSComputeRunningProcesses},
		{"nvmlDeviceGetGraphicsRunningProcesses", r.handle.GetGraphicsRunningProcesses},
	} {
		if !has(r.lib, list.symbol+"_v3", list.symbol+"_v2", list.symbol) {
			continue
		}
		infos, ret := list.get()
		if !r.ok("processes", ret) {
			continue
		}
		for _, info := range infos { // one that computes and draws is in two lists
			pid, used := int(info.Pid), bytes(info.UsedGpuMemory)
			if before, twice := byPID[pid]; !twice || used > before {
				byPID[pid] = used
			}
		}
	}
	for pid, used := range byPID {
		r.Processes = append(r.Processes, probe.Process{PID: pid, Memory: used})
	}
	slices.SortFunc(r.Processes, func(a, b probe.Process) int { return cmp.Compare(a.PID, b.PID) })
}

// memory prefers the call that does not count the driver's own share as used.
func (r *reader) memory() {
	if has(r.lib, "nvmlDeviceGetMemoryInfo_v2") {
		if v, ret := r.handle.GetMemoryInfo_v2(); ret == nvml.SUCCESS {
			r.Total, r.Used, r.Free = bytes(v.Total), bytes(v.Used), bytes(v.Free)
			return
		}
	}
	if v, ret := r.handle.GetMemoryInfo(); r.ok("memory", ret) {
		r.Total, r.Used, r.Free = bytes(v.Total), bytes(v.Used), bytes(v.Free)
	}
}

// health reads what tells a sick GPU. A driver that knows no recovery action
// needs none: 0 stands for both.
func (r *reader) health() {
	if has(r.lib, "nvmlDeviceGetTotalEccErrors") {
		if v, ret := r.handle.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); r.ok("ECC errors", ret) {
			r.ECC = int64(min(v, math.MaxInt64))
		}
	}
	if has(r.lib, "nvmlDeviceGetRemappedRows") {
		if _, _, _, failed, ret := r.handle.GetRemappedRows(); r.ok("remapped rows", ret) {
			r.Remap = failed
		}
	}
	if has(r.lib, "nvmlDeviceGetFieldValues") {
		ask := []nvml.FieldValue{{FieldId: nvml.FI_DEV_GET_GPU_RECOVERY_ACTION}}
		// A driver that does not know the field says so in the field.
		if ret := r.handle.GetFieldValues(ask); ret == nvml.SUCCESS && nvml.Return(ask[0].NvmlReturn) == nvml.SUCCESS {
			r.Recovery = int(binary.NativeEndian.Uint32(ask[0].Value[:]))
		} else if lost(ret) {
			r.ok("recovery action", ret)
		}
	}
}

// lost reports whether ret says that the GPU can be used by nobody.
func lost(ret nvml.Return) bool {
	return ret == nvml.ERROR_GPU_IS_LOST || ret == nvml.ERROR_RESET_REQUIRED
}

// abilities are the GPU's engines. An encoder that can do nothing is none: data
// centre GPUs lack it. NVML tells of decoders only by how busy they are, which it
// does not support where there is none.
func (r *reader) abilities() []string {
	var can []string
	if has(r.lib, "nvmlDeviceGetEncoderCapacity") {
		if v, ret := r.handle.GetEncoderCapacity(nvml.ENCODER_QUERY_H264); ret == nvml.SUCCESS && v > 0 {
			can = append(can, "nvenc")
		}
	}
	if has(r.lib, "nvmlDeviceGetDecoderUtilization") {
		if _, _, ret := r.handle.GetDecoderUtilization(); ret == nvml.SUCCESS {
			can = append(can, "nvdec")
		}
	}
	return can
}

// bytes is -1 for what the driver does not say, which it writes as all ones.
func bytes(v uint64) functions.Bytes {
	if v > math.MaxInt64 {
		return -1
	}
	return functions.Bytes(v)
}

// text is a C string in an array.
func text(chars []int8) string {
	var b strings.Builder
	for _, c := range chars {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}
