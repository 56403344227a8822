//go:build cgo

package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	"github.com/spillway/spillway/runtime/gpu/probe"
)

// stub fills in what NVIDIA's mock devices do not answer, each call of which would
// panic: an idle, healthy data centre GPU with decoders and no encoder.
func stub(s *server.Server) []*server.Device {
	var devices []*server.Device
	for i, handle := range s.Devices {
		d := handle.(*server.Device)
		devices = append(devices, d)
		d.MemoryInfo.Free = d.MemoryInfo.Total
		d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) {
			m := d.MemoryInfo
			return nvml.Memory_v2{Total: m.Total, Used: m.Used, Free: m.Free - 1<<20, Reserved: 1 << 20}, nvml.SUCCESS
		}
		d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) {
			var p nvml.PciInfo
			for j, c := range fmt.Sprintf("00000000:%02X:00.0", i) {
				p.BusId[j] = int8(c)
			}
			return p, nvml.SUCCESS
		}
		d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 7}, nvml.SUCCESS }
		d.GetEncoderCapacityFunc = func(nvml.EncoderType) (int, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
		d.GetDecoderUtilizationFunc = func() (uint32, uint32, nvml.Return) { return 0, 0, nvml.SUCCESS }
		d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.SUCCESS }
		d.GetMPSComputeRunningProcessesFunc = d.GetComputeRunningProcessesFunc
		d.GetGraphicsRunningProcessesFunc = d.GetComputeRunningProcessesFunc
		d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 0, nvml.SUCCESS }
		d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, nvml.SUCCESS }
		d.GetFieldValuesFunc = func(v []nvml.FieldValue) nvml.Return {
			v[0].NvmlReturn = uint32(nvml.ERROR_NOT_SUPPORTED)
			return nvml.SUCCESS
		}
		d.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
		d.GetMigDeviceHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return nil, nvml.ERROR_NOT_FOUND }
		d.GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return nvml.EventTypeAll, nvml.SUCCESS }
		d.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS }
	}
	return devices
}

// divide gives a GPU MIG instances of the profiles of its own kind, at the odd
// places, as where others were removed.
func divide(d *server.Device, profiles ...int) []*mock.Device {
	d.SetMigMode(nvml.DEVICE_MIG_ENABLE)
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, nvml.ERROR_NOT_SUPPORTED }
	var instances []*mock.Device
	for i, id := range profiles {
		p := d.Config.MIGProfiles.GpuInstanceProfiles[id]
		in := &mock.Device{
			GetUUIDFunc:              func() (string, nvml.Return) { return fmt.Sprintf("MIG-%s-%d", d.UUID, i), nvml.SUCCESS },
			GetNameFunc:              func() (string, nvml.Return) { return d.Config.Name, nvml.SUCCESS },
			GetGpuInstanceIdFunc:     func() (int, nvml.Return) { return i + 7, nvml.SUCCESS },
			GetComputeInstanceIdFunc: func() (int, nvml.Return) { return 0, nvml.SUCCESS },
			GetMemoryInfo_v2Func: func() (nvml.Memory_v2, nvml.Return) {
				total := p.MemorySizeMB << 20
				return nvml.Memory_v2{Total: total, Free: total}, nvml.SUCCESS
			},
			GetUtilizationRatesFunc:           d.GetUtilizationRatesFunc,
			GetComputeRunningProcessesFunc:    d.GetComputeRunningProcessesFunc,
			GetMPSComputeRunningProcessesFunc: d.GetComputeRunningProcessesFunc,
			GetGraphicsRunningProcessesFunc:   d.GetComputeRunningProcessesFunc,
			GetAttributesFunc: func() (nvml.DeviceAttributes, nvml.Return) {
				return nvml.DeviceAttributes{SharedDecoderCount: p.DecoderCount, SharedEncoderCount: p.EncoderCount,
					GpuInstanceSliceCount: p.SliceCount, ComputeInstanceSliceCount: p.SliceCount, MemorySizeMB: p.MemorySizeMB}, nvml.SUCCESS
			},
		}
		instances = append(instances, in)
	}
	d.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i%2 == 0 || i/2 >= len(instances) {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return instances[i/2], nvml.SUCCESS
	}
	return instances
}

// lose takes a GPU off the bus: its handle is not to be had any more. It returns
// what gives the handles.
func lose(s *server.Server, index int) func(int) (nvml.Device, nvml.Return) {
	s.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == index {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return s.Devices[i], nvml.SUCCESS
	}
	return s.DeviceGetHandleByIndexFunc
}

// hear returns the event that a subscription makes of what NVML says, after a wait
// that came to nothing and one that failed.
func hear(t *testing.T, s *server.Server, data nvml.EventData) probe.Event {
	t.Helper()
	answers := []nvml.Return{nvml.ERROR_TIMEOUT, nvml.ERROR_UNKNOWN, nvml.SUCCESS}
	s.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		return &mock.EventSet{WaitFunc: func(uint32) (nvml.EventData, nvml.Return) {
			ret := answers[0]
			if len(answers) > 1 {
				answers = answers[1:]
			}
			return data, ret
		}}, nvml.SUCCESS
	}
	sub, err := subscribe(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var heard probe.Event
	sub.run(ctx, func(e probe.Event) { heard = e; cancel() })
	return heard
}
