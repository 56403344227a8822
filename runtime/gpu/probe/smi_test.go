package probe

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

const smiRow0 = "0, GPU-a, NVIDIA H100 80GB HBM3, 580.65.06, 00000000:19:00.0, 81559, 1024, 80023, 37, Disabled, 0\n"

func TestParseSMI(t *testing.T) {
	h100 := Device{UUID: "GPU-a", Minor: -1, BusID: "00000000:19:00.0", Model: "NVIDIA H100 80GB HBM3",
		Total: 81559 * functions.MiB, Used: functions.GiB, Free: 80023 * functions.MiB, Utilisation: 37}
	for name, c := range map[string]struct {
		out  string
		want []Device
		odd  int
	}{
		"one":              {smiRow0, []Device{h100}, 0},
		"Windows's ends":   {strings.ReplaceAll(smiRow0, "\n", "\r\n"), []Device{h100}, 0},
		"none":             {"No devices were found\n", nil, 0},
		"nothing":          {"", nil, 0},
		"an error instead": {"Unable to determine the device handle for GPU0000:19:00.0: Unknown Error\n", nil, 1},
		"one is lost":      {smiRow0 + "Unable to determine the device handle for GPU 0000:1A:00.0: GPU is lost.  Reboot the system to recover this GPU\n", []Device{h100}, 1},
		"the same twice":   {smiRow0 + smiRow0, []Device{h100}, 1},
		"no UUID":          {"0, [N/A], X, 1, b, 1, 1, 1, 1, Disabled, 0\n", nil, 1},
		"no index":         {"[Unknown Error], GPU-a, X, 1, b, 1, 1, 1, 1, Disabled, 0\n", nil, 1},
		"a cell too few":   {"0, GPU-a, X, 1, b, 1, 1, 1, 1, Disabled\n", nil, 1},
		"commas in its name": {"1, GPU-b, Tesla, of 1, or so, 470.1, 00000000:1A:00.0, 2, 1, 1, 0, [N/A], [N/A]\n",
			[]Device{{UUID: "GPU-b", Index: 1, Minor: -1, BusID: "00000000:1A:00.0", Model: "Tesla, of 1, or so", Total: 2 * functions.MiB, Used: functions.MiB, Free: functions.MiB, ECC: -1}}, 0},
		"says little": {"2, GPU-c, [Unknown Error], 470.1, [N/A], [N/A], [Not Supported], ERR!, [GPU requires reset], N/A, [Not Supported]\n",
			[]Device{{UUID: "GPU-c", Index: 2, Minor: -1, Total: -1, Used: -1, Free: -1, Utilisation: -1, ECC: -1}}, 0},
		"numbers beyond sense": {"2, GPU-c, X, 1, b, 99999999999999999999, 9223372036854775807, -5, 101, Disabled, 1e3\n",
			[]Device{{UUID: "GPU-c", Index: 2, Minor: -1, Model: "X", BusID: "b", Total: -1, Used: -1, Free: -1, Utilisation: -1, ECC: -1}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, got, odd := parseSMI(smiFields, c.out)
			if !slices.EqualFunc(got, c.want, same) || len(odd) != c.odd {
				t.Errorf("devices are %+v, odd are %q", got, odd)
			}
		})
	}
	driver, devices, _ := parseSMI(smiFields, strings.Replace(smiRow0, "Disabled", "Enabled", 1))
	if driver != "580.65.06" || !devices[0].MIG || devices[0].Error == "" {
		t.Errorf("driver %q, devices %+v", driver, devices)
	}
}

// same compares devices without lists.
func same(a, b Device) bool {
	return a.UUID == b.UUID && a.Index == b.Index && a.Minor == b.Minor && a.BusID == b.BusID && a.Model == b.Model && a.MIG == b.MIG && a.Error == b.Error &&
		a.Total == b.Total && a.Used == b.Used && a.Free == b.Free && a.Utilisation == b.Utilisation && a.ECC == b.ECC && a.Lost == b.Lost
}

func FuzzParseSMI(f *testing.F) {
	f.Add(smiRow0, 0)
	f.Add("2, GPU-c, [Unknown Error], 470.1, [N/A], [N/A], [Not Supported], ERR!, [GPU requires reset], N/A, [Not Supported]\n", 0)
	f.Add("0, GPU-a, a, b, c,, 1, 1,1,1,1,1,1", 3)
	f.Fuzz(func(t *testing.T, out string, unknown int) {
		fields := smiFields[:max(len(smiFields)-max(unknown, 0)%8, smiNeeded)]
		_, devices, odd := parseSMI(fields, out)
		if n := strings.Count(out, "\n") + 1; len(devices)+len(odd) > n {
			t.Errorf("%d devices and %d odd lines of %d", len(devices), len(odd), n)
		}
		seen := map[string]bool{}
		for _, d := range devices {
			if d.UUID == "" || seen[d.UUID] || d.Index < 0 || d.Total < -1 || d.Used < -1 || d.Free < -1 || d.ECC < -1 || d.Utilisation < -1 || d.Utilisation > 100 {
				t.Errorf("device is %+v", d)
			}
			seen[d.UUID] = true
		}
	})
}

// played is an nvidia-smi whose answers are given, by the first argument.
func played(answer func(arg string) (string, int, error)) (*smi, *[]string) {
	var asked []string
	return &smi{path: "nvidia-smi", run: func(_ context.Context, _ time.Duration, _ string, args ...string) (string, end, error) {
		arg := strings.Join(args, " ")
		asked = append(asked, arg)
		out, code, err := answer(arg)
		return out, end{code, "exit status"}, err
	}}, &asked
}

const smiHeader = "| NVIDIA-SMI 580.65.06    Driver Version: 580.65.06    CUDA Version: 13.0     |\n"

func TestSMIAsksForCUDAOnce(t *testing.T) {
	s, asked := played(func(arg string) (string, int, error) {
		if arg == "" {
			return smiHeader, 0, nil
		}
		return smiRow0, 0, nil
	})
	for range 3 {
		if r := s.read(t.Context()); r.Status != OK || r.Driver != "580.65.06" || r.CUDA != "13.0" || len(r.Devices) != 1 || r.Source != "nvidia-smi" || r.At.IsZero() {
			t.Errorf("reading is %+v", r)
		}
	}
	if len(*asked) != 4 {
		t.Errorf("asked %q", *asked)
	}
}

func TestSMIOfAnOldDriver(t *testing.T) {
	s, asked := played(func(arg string) (string, int, error) {
		switch {
		case arg == "":
			return "| NVIDIA-SMI 390.1   Driver Version: 390.1 |\n", 0, nil
		case strings.Contains(arg, "mig.mode.current"):
			return "Field \"mig.mode.current\" is not a valid field to query.\n\n", smiNoSuchField, nil
		}
		return "0, GPU-a, X, 390.1, b, 10, 1, 9, 0, 0\n", 0, nil
	})
	for range 2 {
		if r := s.read(t.Context()); r.Status != OK || len(r.Devices) != 1 || r.Devices[0].ECC != 0 || r.CUDA != "" {
			t.Errorf("reading is %+v", r)
		}
	}
	if len(*asked) != 4 { // the first is refused, and CUDA is asked for once
		t.Errorf("asked %q", *asked)
	}
}

func TestSMIFails(t *testing.T) {
	for name, c := range map[string]struct {
		out  string
		code int
		err  error
		want Status
	}{
		"no module":     {"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 9, nil, NotLoaded},
		"no library":    {"NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.\n", 12, nil, NoDriver},
		"other version": {"Failed to initialize NVML: Driver/library version mismatch\n", 18, nil, Mismatch},
		"anything":      {"Failed to initialize NVML: Unknown Error\n", 255, nil, Broken},
		"killed":        {"", -1, nil, Broken},
		"needed field":  {"Field \"uuid\" is not a valid field to query.\n", 2, nil, Silent},
		"bad usage":     {"ERROR: Option --query-gpu= is not recognized.\n", 2, nil, Broken},
		"hangs":         {"", 0, errors.New("no answer in 15s"), Silent},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := played(func(string) (string, int, error) { return c.out, c.code, c.err })
			r := s.read(t.Context())
			if r.Status != c.want || r.Message == "" || len(r.Devices) != 0 {
				t.Errorf("reading is %+v", r)
			}
		})
	}
}

func TestSMIOfNoDevices(t *testing.T) {
	for out, code := range map[string]int{"No devices were found\n": 6, smiRow0 + "Unable to determine the device handle for GPU 0000:1A:00.0: GPU is lost.\n": 15} {
		s, _ := played(func(string) (string, int, error) { return out, code, nil })
		if r := s.read(t.Context()); r.Status != OK || len(r.Devices) != strings.Count(out, "GPU-a") || r.Message == "" {
			t.Errorf("%q: reading is %+v", out, r)
		}
	}
}
