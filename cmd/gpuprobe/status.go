//go:build cgo

package main

import (
	"fmt"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/spillway/spillway/runtime/gpu/probe"
)

const source = "nvml"

// fault is why the driver as a whole cannot be asked.
type fault struct {
	status  probe.Status
	message string
}

func (f *fault) reading(now time.Time) probe.Reading {
	if f == nil {
		return probe.Reading{At: now, Source: source, Status: probe.OK}
	}
	return probe.Reading{At: now, Source: source, Status: f.status, Message: f.message}
}

// initialise loads the library and makes it ready. It is called once in a process.
func initialise(lib nvml.Interface) *fault {
	if ret := lib.Init(); ret != nvml.SUCCESS {
		return faultOf(lib, ret)
	}
	// Every driver has these. What else is called is asked for first, each time: a
	// call that the library lacks would end the process.
	for _, names := range [][]string{{"nvmlSystemGetDriverVersion"}, {"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"},
		{"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"}, {"nvmlDeviceGetUUID"}, {"nvmlDeviceGetMemoryInfo"}} {
		if !has(lib, names...) {
			return &fault{probe.Broken, "NVIDIA's library has no " + names[0] + ": it is no driver's; reinstall the NVIDIA driver"}
		}
	}
	return nil
}

func faultOf(lib nvml.Interface, ret nvml.Return) *fault {
	why := describe(lib, ret)
	switch ret {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return &fault{probe.NoDriver, "no NVIDIA driver is installed: libnvidia-ml.so.1 cannot be loaded"}
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return &fault{probe.NotLoaded, "the NVIDIA driver is installed and its kernel module does not run (" + why + "): try modprobe nvidia; dmesg says why it fails"}
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return &fault{probe.Mismatch, "the NVIDIA driver was upgraded and its old kernel module still runs (" + why + "): reboot this machine"}
	}
	return &fault{probe.Broken, "the NVIDIA driver does not answer (" + why + "): look for NVRM lines in dmesg; a reboot may help"}
}

// has reports whether the library has one of the functions.
func has(lib nvml.Interface, names ...string) bool {
	for _, name := range names {
		if lib.Extensions().LookupSymbol(name) == nil {
			return true
		}
	}
	return false
}

// describe is a return code in words. The words are the library's, if it has any.
func describe(lib nvml.Interface, ret nvml.Return) string {
	if ret != nvml.ERROR_LIBRARY_NOT_FOUND && !has(lib, "nvmlErrorString") {
		return fmt.Sprintf("NVML error %d", int(ret))
	}
	return fmt.Sprintf("NVML error %d: %s", int(ret), ret.Error())
}
