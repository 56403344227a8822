//go:build cgo

package main

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/spillway/spillway/runtime/gpu/probe"
)

const (
	// eventWait is how long one call waits for an event.
	eventWait = 5 * time.Second
	// eventPause follows a call that failed, so that a lost GPU does not keep a core busy.
	eventPause = time.Second
	// doubleBitXid is the Xid that stands for a double bit ECC error, which NVML
	// reports as an event of its own kind too.
	doubleBitXid = 48
	// anyInstance is what NVML writes for "of no MIG instance".
	anyInstance = math.MaxUint32
)

// subscription receives the events of every GPU that reports some.
type subscription struct {
	lib   nvml.Interface
	set   nvml.EventSet
	names map[nvml.Device]string // UUIDs: a GPU that fell off the bus does not say its own
}

func subscribe(lib nvml.Interface) (*subscription, error) {
	for _, name := range []string{"nvmlEventSetCreate", "nvmlDeviceGetSupportedEventTypes", "nvmlDeviceRegisterEvents"} {
		if !has(lib, name) {
			return nil, errors.New("the driver has no " + name)
		}
	}
	if !has(lib, "nvmlEventSetWait_v2", "nvmlEventSetWait") {
		return nil, errors.New("the driver has no nvmlEventSetWait")
	}
	set, ret := lib.EventSetCreate()
	if ret != nvml.SUCCESS {
		return nil, errors.New(describe(lib, ret))
	}
	count, ret := lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, errors.New(describe(lib, ret))
	}
	s := &subscription{lib: lib, set: set, names: map[nvml.Device]string{}}
	for i := range count {
		if d, ret := lib.DeviceGetHandleByIndex(i); ret == nvml.SUCCESS {
			s.add(d)
		}
	}
	if len(s.names) == 0 {
		return nil, errors.New("no GPU here reports any")
	}
	return s, nil
}

func (s *subscription) add(d nvml.Device) {
	types, ret := d.GetSupportedEventTypes()
	if ret != nvml.SUCCESS {
		return
	}
	if types &= nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError; types == 0 {
		return
	}
	if d.RegisterEvents(types, s.set) != nvml.SUCCESS {
		return
	}
	uuid, ret := d.GetUUID()
	if ret != nvml.SUCCESS {
		uuid = ""
	}
	s.names[d] = uuid
}

// run passes events on until ctx ends. A wait in the driver is not cut short.
func (s *subscription) run(ctx context.Context, report func(probe.Event)) {
	for ctx.Err() == nil {
		data, ret := s.set.Wait(uint32(eventWait.Milliseconds()))
		switch ret {
		case nvml.SUCCESS:
			if e, ok := s.event(data, time.Now()); ok {
				report(e)
			}
		case nvml.ERROR_TIMEOUT:
		default:
			select {
			case <-time.After(eventPause):
			case <-ctx.Done():
			}
		}
	}
}

func (s *subscription) event(data nvml.EventData, now time.Time) (probe.Event, bool) {
	e := probe.Event{At: now, Xid: data.EventData}
	switch data.EventType {
	case nvml.EventTypeXidCriticalError:
	case nvml.EventTypeDoubleBitEccError:
		e.Xid = doubleBitXid
	default:
		return e, false
	}
	if data.Device == nil {
		return e, true
	}
	e.UUID = s.names[data.Device]
	if data.EventType == nvml.EventTypeXidCriticalError && data.GpuInstanceId != anyInstance {
		if uuid := s.instance(data); uuid != "" {
			e.UUID = uuid
		}
	}
	return e, true
}

// instance is the UUID of the MIG instance that an Xid is of; empty when there is
// none such, or more than one.
func (s *subscription) instance(data nvml.EventData) string {
	for _, name := range []string{"nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId"} {
		if !has(s.lib, name) {
			return ""
		}
	}
	most, ret := data.Device.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		return ""
	}
	var found []string
	for i := range most {
		d, ret := data.Device.GetMigDeviceHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue
		}
		if id, ret := d.GetGpuInstanceId(); ret != nvml.SUCCESS || uint32(id) != data.GpuInstanceId {
			continue
		}
		if id, ret := d.GetComputeInstanceId(); data.ComputeInstanceId != anyInstance && (ret != nvml.SUCCESS || uint32(id) != data.ComputeInstanceId) {
			continue
		}
		if uuid, ret := d.GetUUID(); ret == nvml.SUCCESS {
			found = append(found, uuid)
		}
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}
