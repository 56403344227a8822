package gpu

import (
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

func contains(s, sub string) bool { return strings.Contains(s, sub) }

func TestEachStatusOfTheDriver(t *testing.T) {
	one := []probe.Device{cardOf("a", 0, 24*gib)}
	for name, c := range map[string]struct {
		reading probe.Reading
		state   functions.GPUHostState
		reason  string // of the host, and of its device
		device  functions.GPUState
	}{
		"works":            {probe.Reading{Status: probe.OK, Devices: one}, functions.GPUHostReady, "", functions.GPUFree},
		"is not installed": {probe.Reading{Status: probe.NoDriver}, functions.GPUHostNone, "no NVIDIA driver", ""},
		"is not loaded":    {probe.Reading{Status: probe.NotLoaded, Message: "code 9"}, functions.GPUHostOff, "modprobe nvidia on the machine, or reboot it (code 9)", functions.GPUUnread},
		"was upgraded":     {probe.Reading{Status: probe.Mismatch}, functions.GPUHostOff, "driver was upgraded while the old one is still loaded: reboot the machine", functions.GPUUnread},
		"is broken":        {probe.Reading{Status: probe.Broken, Message: "unknown error"}, functions.GPUHostOff, "nvidia-smi and dmesg on the machine (unknown error)", functions.GPUUnread},
		"is silent":        {probe.Reading{Status: probe.Silent}, functions.GPUHostOff, "gives no answer", functions.GPUUnread},
		"says nonsense":    {probe.Reading{Status: "?"}, functions.GPUHostOff, "does not work", functions.GPUUnread},
		"lists nothing":    {probe.Reading{Status: probe.OK}, functions.GPUHostOff, "lists no GPU", ""},
		"lists a divided":  {probe.Reading{Status: probe.OK, Devices: []probe.Device{{UUID: "GPU-1", MIG: true}}}, functions.GPUHostOff, "GPU-1 is in MIG mode", ""},
	} {
		t.Run(name, func(t *testing.T) {
			rigged(t, Config{}, one, func(r *rig) {
				time.Sleep(time.Second)
				c.reading.At, c.reading.Source = time.Now(), "nvml"
				r.Observe(c.reading)
				h := r.Host()
				if h.State != c.state || !contains(h.Reason, c.reason) || (h.Reason == "") != (c.reason == "") {
					t.Errorf("the host is %s: %s", h.State, h.Reason)
				}
				if c.device == "" {
					if all := r.Snapshot(); len(all) > 0 {
						t.Errorf("devices %+v", all)
					}
				} else {
					r.is("a", c.device, c.reason)
				}
				if got, _, err := r.Acquire("t", some(1), nil); (err == nil) != (c.state == functions.GPUHostReady) {
					t.Errorf("Acquire = %+v, %v", got, err)
				} else if err != nil && c.device != "" && !contains(err.Error(), c.reason) {
					t.Errorf("the refusal does not say why: %v", err)
				}
				r.read()
				if h := r.Host(); h.State != functions.GPUHostReady || h.Source != "nvml" || h.Driver != "580.65.06" || h.CUDA != "13.0" {
					t.Errorf("it works again: %+v", h)
				}
			})
		})
	}
}

func TestTheHostOfAssumedDevices(t *testing.T) {
	if h := pool(t).Host(); h != nil {
		t.Errorf("a host that never looked says %+v", h)
	}
	rigged(t, Config{Devices: Assumed(1)}, nil, func(r *rig) {
		if h := r.Host(); h.State != functions.GPUHostReady || h.Source != "assumed" {
			t.Errorf("assumed: %+v", h)
		}
		for _, s := range []probe.Status{probe.NoDriver, probe.Silent} { // says nothing of what the operator knows
			r.Observe(probe.Reading{Status: s})
			_, release := r.lends(some(1))
			release()
		}
		r.Observe(probe.Reading{Status: probe.Mismatch})
		r.refuses(some(1))
		r.Observe(probe.Reading{Status: probe.NoDriver})
		_, release := r.lends(some(1))
		release()
		r.Report(fail(functions.GPUHung), []string{"assumed-0"})
		if h := r.Host(); h.State != functions.GPUHostOff || h.Reason != "gpu_hung: as seen" || time.Until(h.Until) != firstQuarantine {
			t.Errorf("after a hung launch: %+v", h)
		}
		time.Sleep(firstQuarantine)
		if h := r.Host(); h.State != functions.GPUHostReady {
			t.Errorf("half open, before the trial: %+v", h)
		}
		_, release = r.lends(some(1))
		if h := r.Host(); h.State != functions.GPUHostOff || !contains(h.Reason, "tries") {
			t.Errorf("on trial: %+v", h)
		}
		r.Launched([]string{"assumed-0"})
		if h := r.Host(); h.State != functions.GPUHostReady {
			t.Errorf("the trial's container has started: %+v", h)
		}
		release()
	})
}

// Readings that take long, as nvidia-smi's do, are as old when they come; that makes
// no device unread as long as they do come.
func TestReadingsThatTakeLong(t *testing.T) {
	const takes = 4 * time.Second
	rigged(t, Config{}, []probe.Device{}, func(r *rig) {
		r.Devices = []probe.Device{cardOf("a", 0, 24*gib)}
		for n := range 3 {
			time.Sleep(time.Second)
			r.At = time.Now()
			time.Sleep(takes)
			if n > 0 {
				r.is("a", functions.GPUFree, "")
			}
			r.Observe(r.Reading)
			r.Observe(r.Reading) // as for who asked for one
			r.is("a", functions.GPUFree, "")
		}
		time.Sleep(takes + 3*time.Second + time.Millisecond)
		r.is("a", functions.GPUUnread, "last read")
		r.read()
		r.is("a", functions.GPUFree, "")
		time.Sleep(3*time.Second + time.Millisecond)
		r.is("a", functions.GPUUnread, "last read")
	})
}
