//go:build cgo

package main

import (
	"math"
	"testing"
	"testing/synctest"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"
)

func TestEvents(t *testing.T) {
	s := dgxh200.New()
	devices := stub(s)
	divide(devices[5], nvml.GPU_INSTANCE_PROFILE_1_SLICE, nvml.GPU_INSTANCE_PROFILE_1_SLICE)
	const none = math.MaxUint32
	for name, c := range map[string]struct {
		data nvml.EventData
		xid  uint64
		uuid string
	}{
		"Xid of a GPU":             {nvml.EventData{Device: devices[2], EventType: nvml.EventTypeXidCriticalError, EventData: 79, GpuInstanceId: none, ComputeInstanceId: none}, 79, devices[2].UUID},
		"unknown Xid":              {nvml.EventData{Device: devices[2], EventType: nvml.EventTypeXidCriticalError, EventData: 999, GpuInstanceId: none, ComputeInstanceId: none}, 999, devices[2].UUID},
		"double bit ECC":           {nvml.EventData{Device: devices[0], EventType: nvml.EventTypeDoubleBitEccError, GpuInstanceId: none, ComputeInstanceId: none}, 48, devices[0].UUID},
		"of nobody":                {nvml.EventData{EventType: nvml.EventTypeXidCriticalError, EventData: 13}, 13, ""},
		"Xid of an instance":       {nvml.EventData{Device: devices[5], EventType: nvml.EventTypeXidCriticalError, EventData: 13, GpuInstanceId: 8, ComputeInstanceId: 0}, 13, "MIG-" + devices[5].UUID + "-1"},
		"of an instance as whole":  {nvml.EventData{Device: devices[5], EventType: nvml.EventTypeXidCriticalError, EventData: 13, GpuInstanceId: 7, ComputeInstanceId: none}, 13, "MIG-" + devices[5].UUID + "-0"},
		"of an instance now gone":  {nvml.EventData{Device: devices[5], EventType: nvml.EventTypeXidCriticalError, EventData: 13, GpuInstanceId: 3, ComputeInstanceId: 0}, 13, devices[5].UUID},
		"of a part that is not it": {nvml.EventData{Device: devices[5], EventType: nvml.EventTypeXidCriticalError, EventData: 13, GpuInstanceId: 8, ComputeInstanceId: 1}, 13, devices[5].UUID},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := hear(t, s, c.data)
				if e.Xid != c.xid || e.UUID != c.uuid || e.At.IsZero() {
					t.Errorf("event is %+v", e)
				}
			})
		})
	}
}

// TestEventOfTwoInstances: compute instances share a GPU instance, and the driver
// does not say which it was.
func TestEventOfTwoInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dgxh200.New()
		d := stub(s)[0]
		instances := divide(d, nvml.GPU_INSTANCE_PROFILE_1_SLICE, nvml.GPU_INSTANCE_PROFILE_1_SLICE)
		instances[1].GetGpuInstanceIdFunc = instances[0].GetGpuInstanceIdFunc
		e := hear(t, s, nvml.EventData{Device: d, EventType: nvml.EventTypeXidCriticalError, EventData: 31, GpuInstanceId: 7, ComputeInstanceId: math.MaxUint32})
		if e.UUID != d.UUID {
			t.Errorf("event is %+v", e)
		}
	})
}

// TestEventOfALostGPU is about a GPU that does not say its name any more when its
// last event comes.
func TestEventOfALostGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dgxh200.New()
		d := stub(s)[1]
		uuid := d.UUID
		registered := d.RegisterEventsFunc
		d.RegisterEventsFunc = func(types uint64, set nvml.EventSet) nvml.Return {
			if types != nvml.EventTypeXidCriticalError|nvml.EventTypeDoubleBitEccError {
				t.Errorf("registered for %b", types)
			}
			return registered(types, set)
		}
		calls := 0
		d.GetUUIDFunc = func() (string, nvml.Return) {
			if calls++; calls > 1 {
				return "", nvml.ERROR_GPU_IS_LOST
			}
			return uuid, nvml.SUCCESS
		}
		e := hear(t, s, nvml.EventData{Device: d, EventType: nvml.EventTypeXidCriticalError, EventData: 79, GpuInstanceId: math.MaxUint32})
		if e.UUID != uuid {
			t.Errorf("event is %+v", e)
		}
	})
}

func TestNoEventsThere(t *testing.T) {
	s := dgxh200.New()
	for _, d := range stub(s) {
		d.GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
	}
	s.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) { return nil, nvml.SUCCESS }
	if _, err := subscribe(s); err == nil {
		t.Error("subscribed to GPUs that report nothing")
	}
}
