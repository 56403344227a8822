//go:build cgo

package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// machines are NVIDIA's own: eight GPUs each.
var machines = []struct {
	name    string
	server  func() *server.Server
	memory  functions.Bytes
	profile string // of the smallest instance
}{
	{"dgxa100", dgxa100.New, 40 * functions.GiB, "1g.5gb"},
	{"dgxh100", dgxh100.New, 80 * functions.GiB, "1g.10gb"},
	{"dgxh200", dgxh200.New, 141 * functions.GiB, "1g.18gb"},
}

func TestTakeReadsEveryGPU(t *testing.T) {
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			s := m.server()
			devices := stub(s)
			devices[3].MemoryInfo.Used, devices[3].MemoryInfo.Free = 1<<30, devices[3].MemoryInfo.Total-1<<30
			r := Take(s, Seen{}, noon)
			if r.Status != probe.OK || r.Message != "" || !r.At.Equal(noon) || r.Source != "nvml" || r.Driver != s.DriverVersion || r.CUDA != cuda(s.CudaDriverVersion) {
				t.Errorf("reading is %+v", r)
			}
			if len(r.Devices) != 8 {
				t.Fatalf("%d devices", len(r.Devices))
			}
			for i, d := range r.Devices {
				if d.UUID != devices[i].UUID || d.Index != i || d.Minor != i || d.Model != devices[i].Config.Name || d.BusID != fmt.Sprintf("00000000:%02X:00.0", i) {
					t.Errorf("GPU %d is %+v", i, d)
				}
				if d.Total != m.memory || d.Utilisation != 7 || d.ECC != 0 || d.Lost || d.Error != "" || d.Recovery != 0 || !slices.Equal(d.Can, []string{"nvdec"}) {
					t.Errorf("GPU %d reads %+v", i, d)
				}
			}
			if d := r.Devices[3]; d.Used != functions.GiB || d.Free != d.Total-functions.GiB-functions.MiB {
				t.Errorf("memory is %v, %v used, %v free", d.Total, d.Used, d.Free)
			}
		})
	}
}

func cuda(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

func TestTakeReadsInstances(t *testing.T) {
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			s := m.server()
			devices := stub(s)
			divide(devices[1], nvml.GPU_INSTANCE_PROFILE_1_SLICE, nvml.GPU_INSTANCE_PROFILE_3_SLICE)
			devices[1].GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 2, nvml.SUCCESS }
			r := Take(s, Seen{}, noon)
			if len(r.Devices) != 10 {
				t.Fatalf("%d devices", len(r.Devices))
			}
			gpu, small, large := r.Devices[1], r.Devices[2], r.Devices[3]
			if !gpu.MIG || gpu.Error != "" || gpu.Can != nil || gpu.Processes != nil {
				t.Errorf("the divided GPU is %+v", gpu)
			}
			if small.MIG || small.Parent != gpu.UUID || small.UUID != "MIG-"+gpu.UUID+"-0" || small.Profile != m.profile || small.Utilisation != -1 || small.Error != "" {
				t.Errorf("the small instance is %+v", small)
			}
			if small.ECC != 2 || small.BusID != gpu.BusID || small.Index != gpu.Index || small.Minor != gpu.Minor {
				t.Errorf("of its GPU the instance has %+v", small)
			}
			if large.Total <= small.Total || large.Free != large.Total || !slices.Equal(large.Can, []string{"nvdec"}) {
				t.Errorf("the large instance is %+v", large)
			}
		})
	}
}

func TestTakeRemembersALostGPU(t *testing.T) {
	s := dgxh100.New()
	devices := stub(s)
	divide(devices[2], nvml.GPU_INSTANCE_PROFILE_1_SLICE)
	seen := Seen{}
	before := Take(s, seen, noon)
	lose(s, 2)
	for range 2 { // it is remembered for as long as it is lost
		after := Take(s, seen, noon)
		if after.Status != probe.OK || len(after.Devices) != len(before.Devices) {
			t.Fatalf("reading is %+v", after)
		}
		for i, d := range after.Devices {
			b := before.Devices[i]
			gone := b.UUID == devices[2].UUID || b.Parent == devices[2].UUID
			if d.UUID != b.UUID || d.Parent != b.Parent || d.Lost != gone || (d.Error != "") != gone || (d.Total == -1) != gone {
				t.Errorf("device %d was %+v, is %+v", i, b, d)
			}
		}
	}
}

func TestTakeNamesNoStranger(t *testing.T) {
	s := dgxh100.New()
	stub(s)
	lose(s, 0)
	r := Take(s, Seen{}, noon)
	if r.Status != probe.OK || len(r.Devices) != 7 || !strings.Contains(r.Message, "GPU 0: handle: NVML error 15") {
		t.Errorf("reading is %+v", r)
	}
}

func TestTakeOfAGPUThatFailsInParts(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*server.Device)
		want   func(probe.Device) bool
	}{
		"lost while it is read": {func(d *server.Device) {
			d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) { return nvml.Memory_v2{}, nvml.ERROR_GPU_IS_LOST }
			d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_GPU_IS_LOST }
		}, func(d probe.Device) bool { return d.Lost && d.Total == -1 && d.Free == -1 && d.Error != "" }},
		"needs a reset": {func(d *server.Device) {
			d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, nvml.ERROR_RESET_REQUIRED }
		}, func(d probe.Device) bool { return d.Lost && d.Utilisation == -1 }},
		"knows little": {func(d *server.Device) {
			d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, nvml.ERROR_NOT_SUPPORTED }
			d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) {
				return 0, nvml.ERROR_NOT_SUPPORTED
			}
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, nvml.ERROR_NOT_SUPPORTED }
			d.GetMigModeFunc = func() (int, int, nvml.Return) { return 0, 0, nvml.ERROR_NOT_SUPPORTED }
			d.GetDecoderUtilizationFunc = func() (uint32, uint32, nvml.Return) { return 0, 0, nvml.ERROR_NOT_SUPPORTED }
		}, func(d probe.Device) bool {
			return d.Utilisation == -1 && d.ECC == -1 && d.Error == "" && !d.Lost && d.Can == nil && d.Total > 0
		}},
		"has no memory of its own": {func(d *server.Device) {
			d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) { return nvml.Memory_v2{}, nvml.ERROR_NOT_SUPPORTED }
			d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_NOT_SUPPORTED }
		}, func(d probe.Device) bool { return d.Total == -1 && d.Used == -1 && d.Free == -1 && d.Error == "" }},
		"is sick": {func(d *server.Device) {
			d.GetTotalEccErrorsFunc = func(k nvml.MemoryErrorType, c nvml.EccCounterType) (uint64, nvml.Return) {
				if k != nvml.MEMORY_ERROR_TYPE_UNCORRECTED || c != nvml.VOLATILE_ECC {
					return 0, nvml.ERROR_INVALID_ARGUMENT
				}
				return 5, nvml.SUCCESS
			}
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 1, false, true, nvml.SUCCESS }
			d.GetFieldValuesFunc = func(v []nvml.FieldValue) nvml.Return {
				if v[0].FieldId == nvml.FI_DEV_GET_GPU_RECOVERY_ACTION {
					v[0].ValueType, v[0].Value[0] = uint32(nvml.VALUE_TYPE_UNSIGNED_INT), 2
				}
				return nvml.SUCCESS
			}
		}, func(d probe.Device) bool { return d.ECC == 5 && d.Remap && d.Recovery == 2 && d.Error == "" }},
		"encodes": {func(d *server.Device) {
			d.GetEncoderCapacityFunc = func(nvml.EncoderType) (int, nvml.Return) { return 100, nvml.SUCCESS }
		}, func(d probe.Device) bool { return slices.Equal(d.Can, []string{"nvenc", "nvdec"}) }},
		"has an encoder that can do nothing": {func(d *server.Device) {
			d.GetEncoderCapacityFunc = func(nvml.EncoderType) (int, nvml.Return) { return 0, nvml.SUCCESS }
		}, func(d probe.Device) bool { return slices.Equal(d.Can, []string{"nvdec"}) }},
		"is used": {func(d *server.Device) {
			d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
				return []nvml.ProcessInfo{{Pid: 9, UsedGpuMemory: 4096}, {Pid: 3, UsedGpuMemory: math.MaxUint64}, {Pid: 4, UsedGpuMemory: 1 << 63}}, nvml.SUCCESS
			}
			d.GetGraphicsRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
				return []nvml.ProcessInfo{{Pid: 9, UsedGpuMemory: 8192}}, nvml.SUCCESS
			}
			d.GetMPSComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.ERROR_NO_PERMISSION }
		}, func(d probe.Device) bool {
			return slices.Equal(d.Processes, []probe.Process{{PID: 3, Memory: -1}, {PID: 4, Memory: -1}, {PID: 9, Memory: 8192}}) && strings.Contains(d.Error, "processes: NVML error 4")
		}},
		"says no name": {func(d *server.Device) {
			d.GetUUIDFunc = func() (string, nvml.Return) { return "", nvml.ERROR_UNKNOWN }
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := dgxh200.New()
			c.change(stub(s)[0])
			r := Take(s, Seen{}, noon)
			if c.want == nil {
				if len(r.Devices) != 7 || !strings.Contains(r.Message, "GPU 0: UUID") {
					t.Errorf("reading is %+v", r)
				}
				return
			}
			if len(r.Devices) != 8 || !c.want(r.Devices[0]) {
				t.Errorf("GPU is %+v", r.Devices[0])
			}
		})
	}
}

// TestTakeAsksBeforeItCalls takes each function away in turn: the mock panics where
// a real library would end the process.
func TestTakeAsksBeforeItCalls(t *testing.T) {
	var asked []string
	whole := dgxa100.New()
	divide(stub(whole)[0], nvml.GPU_INSTANCE_PROFILE_1_SLICE)
	whole.LookupSymbolFunc = func(name string) error { asked = append(asked, name); return nil }
	Take(whole, Seen{}, noon)
	slices.Sort(asked)
	asked = slices.Compact(asked)
	if len(asked) < 15 {
		t.Fatalf("asked for %v", asked)
	}
	for _, lacking := range asked {
		if lacking == "nvmlErrorString" {
			continue
		}
		t.Run(lacking, func(t *testing.T) {
			s := dgxa100.New()
			d := stub(s)[0]
			in := divide(d, nvml.GPU_INSTANCE_PROFILE_1_SLICE)[0]
			base := strings.TrimSuffix(strings.TrimSuffix(lacking, "_v3"), "_v2")
			s.LookupSymbolFunc = func(name string) error {
				if name == lacking || lacking != "nvmlDeviceGetMemoryInfo_v2" && strings.HasPrefix(name, base) {
					return errors.New("no such symbol")
				}
				return nil
			}
			switch lacking {
			case "nvmlDeviceGetName":
				d.GetNameFunc, in.GetNameFunc = nil, nil
			case "nvmlDeviceGetMinorNumber":
				d.GetMinorNumberFunc = nil
			case "nvmlDeviceGetPciInfo_v3":
				d.GetPciInfoFunc = nil
			case "nvmlDeviceGetMemoryInfo_v2":
				d.GetMemoryInfo_v2Func, in.GetMemoryInfo_v2Func = nil, nil
				in.GetMemoryInfoFunc = d.GetMemoryInfoFunc
			case "nvmlDeviceGetUtilizationRates":
				d.GetUtilizationRatesFunc, in.GetUtilizationRatesFunc = nil, nil
			case "nvmlDeviceGetComputeRunningProcesses_v3":
				in.GetComputeRunningProcessesFunc = nil
			case "nvmlDeviceGetMPSComputeRunningProcesses_v3":
				in.GetMPSComputeRunningProcessesFunc = nil
			case "nvmlDeviceGetGraphicsRunningProcesses_v3":
				in.GetGraphicsRunningProcessesFunc = nil
			case "nvmlDeviceGetTotalEccErrors":
				d.GetTotalEccErrorsFunc = nil
			case "nvmlDeviceGetRemappedRows":
				d.GetRemappedRowsFunc = nil
			case "nvmlDeviceGetFieldValues":
				d.GetFieldValuesFunc = nil
			case "nvmlDeviceGetMigMode":
				d.GetMigModeFunc = nil
			case "nvmlDeviceGetMaxMigDeviceCount":
				d.GetMaxMigDeviceCountFunc = nil
			case "nvmlDeviceGetMigDeviceHandleByIndex":
				d.GetMigDeviceHandleByIndexFunc = nil
			case "nvmlDeviceGetAttributes_v2":
				in.GetAttributesFunc = nil
			case "nvmlDeviceGetEncoderCapacity":
				s.Devices[1].(*server.Device).GetEncoderCapacityFunc = nil
			case "nvmlDeviceGetDecoderUtilization":
				s.Devices[1].(*server.Device).GetDecoderUtilizationFunc = nil
			case "nvmlSystemGetCudaDriverVersion":
				s.SystemGetCudaDriverVersionFunc = nil
			default:
				t.Fatalf("the test does not know how to take %s away", lacking)
			}
			if r := Take(s, Seen{}, noon); r.Status != probe.OK || len(r.Devices) < 8 || r.Devices[0].Error != "" {
				t.Errorf("reading is %+v", r)
			}
		})
	}
}

func TestDriverCannotBeAsked(t *testing.T) {
	for ret, want := range map[nvml.Return]probe.Status{
		nvml.ERROR_LIBRARY_NOT_FOUND: probe.NoDriver, nvml.ERROR_DRIVER_NOT_LOADED: probe.NotLoaded,
		nvml.ERROR_LIB_RM_VERSION_MISMATCH: probe.Mismatch, nvml.ERROR_UNKNOWN: probe.Broken, nvml.ERROR_NO_PERMISSION: probe.Broken,
	} {
		s := dgxa100.New()
		s.InitFunc = func() nvml.Return { return ret }
		r := initialise(s).reading(noon)
		if r.Status != want || r.Message == "" || !r.At.Equal(noon) {
			t.Errorf("nvmlInit returns %v: reading is %+v", ret, r)
		}
		s = dgxa100.New()
		s.DeviceGetCountFunc = func() (int, nvml.Return) { return 0, ret }
		if r := Take(s, Seen{}, noon); r.Status != want || len(r.Devices) != 0 {
			t.Errorf("later %v: reading is %+v", ret, r)
		}
	}
	if fault := initialise(dgxa100.New()); fault != nil {
		t.Errorf("of a driver that works: %+v", fault)
	}
	s := dgxa100.New()
	s.LookupSymbolFunc = func(name string) error {
		if name == "nvmlDeviceGetUUID" {
			return errors.New("no such symbol")
		}
		return nil
	}
	if r := initialise(s).reading(noon); r.Status != probe.Broken || !strings.Contains(r.Message, "nvmlDeviceGetUUID") {
		t.Errorf("without a function that each driver has: reading is %+v", r)
	}
}
