package cli

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway/spillway/functions"
)

func TestWhy(t *testing.T) {
	failure := &functions.Failure{Class: functions.ExitError, Message: "code 3"}
	attempts := []functions.Attempt{{Reason: "first"}, {Reason: "newest"}}
	for _, c := range []struct {
		name string
		t    taskView
		want string
	}{
		{"a wait", taskView{Waiting: &functions.Waiting{Reason: "its turn"}, Failure: failure, Attempts: attempts}, "its turn"},
		{"a pull", taskView{Status: "assigned", Progress: &functions.Progress{Phase: functions.PhasePull, Message: "1MiB of 2MiB"}, Attempts: attempts}, "1MiB of 2MiB"},
		{"a pull that is over", taskView{Status: "succeeded", Progress: &functions.Progress{Phase: functions.PhasePull, Message: "1MiB of 2MiB"}, Attempts: attempts}, "newest"},
		{"a run", taskView{Status: "assigned", Progress: &functions.Progress{Phase: functions.PhaseRun, Message: "decoding"}, Attempts: attempts}, "newest"},
		{"a failure", taskView{Failure: failure, FallbackReason: "gpu_host: x", Attempts: attempts}, "exit_error: code 3"},
		{"a fallback", taskView{FallbackReason: "gpu_host: x", Attempts: attempts}, "gpu_host: x"},
		{"an attempt", taskView{Attempts: attempts, Route: functions.Route{Reason: "route"}}, "newest"},
		{"a route", taskView{Route: functions.Route{Reason: "route"}}, "route"},
	} {
		if got := c.t.why(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestFailed(t *testing.T) {
	for _, s := range functions.States {
		err := taskView{Status: string(s)}.failed()
		if wrong := s.Final() && s != functions.Succeeded; wrong != (ExitCode(err) == 8) {
			t.Errorf("%s: %v", s, err)
		}
	}
	if err := (taskView{Status: "running"}).failed(); err != nil {
		t.Errorf("running: %v", err)
	}
}

func TestPrintTask(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var b strings.Builder
	if err := printTask(&b, taskView{
		ID: "t1", Function: "f", Version: 2, Status: "succeeded", DeviceRequested: "preferred", DeviceUsed: functions.CPU,
		FallbackReason: "gpu_host: no driver", Route: functions.Route{ContentType: "image/png"},
		Timings: map[string]float64{"run": 40.4, "queue": 2, "launch": 310},
		Attempts: []functions.Attempt{
			{Number: 1, Node: "n1", Device: functions.GPU, EndedAt: at, Failure: &functions.Failure{Class: functions.GPUHost, Message: "no driver"}, Then: "respawned on the CPU"},
			{Number: 2, Node: "n1", Device: functions.CPU, EndedAt: at},
			{Number: 3, Node: "n1", Device: functions.CPU},
		},
		Outputs: []outputView{{Name: "o.png", Size: 9, DownloadURL: "http://store/o"}},
	}); err != nil {
		t.Fatal(err)
	}
	want := `task        t1
function    f version 2
status      succeeded
device      asked preferred, used cpu
why         gpu_host: no driver
content     image/png
ms          queue 2 launch 310 run 40
attempt 1   gpu on n1: gpu_host: no driver
            then: respawned on the CPU
attempt 2   cpu on n1: succeeded
attempt 3   cpu on n1: running
output      o.png (9 bytes) http://store/o
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for d, want := range map[time.Duration]string{
			0: "0s", 59 * time.Second: "59s", 3 * time.Minute: "3m", 2 * time.Hour: "2h", 47 * time.Hour: "47h", 96 * time.Hour: "4d",
		} {
			if got := ago(time.Now().Add(-d)); got != want {
				t.Errorf("%s: %q, want %q", d, got, want)
			}
		}
	})
	if got := ago(time.Time{}); got != "" {
		t.Errorf("never: %q", got)
	}
}

func TestMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for s, want := range map[string]time.Time{
			"1h": now.Add(-time.Hour), "0s": now, "2026-01-31T12:00:00Z": time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
		} {
			if got, err := moment(s); err != nil || !got.Equal(want) {
				t.Errorf("%s: %s, %v; want %s", s, got, err, want)
			}
		}
		for _, s := range []string{"", "yesterday", "2026-01-31"} {
			if _, err := moment(s); err == nil {
				t.Errorf("%q is a time", s)
			}
		}
	})
}

func TestClip(t *testing.T) {
	for _, c := range []struct {
		s    string
		n    int
		want string
	}{
		{"short", 5, "short"}, {"longer", 5, "long…"}, {"two\nlines", 20, "two lines"}, {"漢字漢字", 3, "漢字…"}, {"", 5, ""},
	} {
		if got := clip(c.s, c.n); got != c.want {
			t.Errorf("clip(%q, %d) = %q, want %q", c.s, c.n, got, c.want)
		}
	}
}

func TestGPUCell(t *testing.T) {
	for _, c := range []struct {
		gpus []functions.GPUInfo
		want string
	}{
		{nil, "none"},
		{[]functions.GPUInfo{{State: functions.GPUFree}, {State: functions.GPUFree}}, "2 free"},
		{[]functions.GPUInfo{{State: functions.GPUQuarantined, Reason: "no driver"}, {State: functions.GPULeased}}, "1 leased, 1 quarantined (no driver)"},
		{[]functions.GPUInfo{{State: functions.GPUUnread, Reason: "no reading"}, {State: functions.GPUEjected, Reason: "Xid 79"}}, "1 ejected (Xid 79), 1 unread (no reading)"},
	} {
		if got := gpuCell(functions.NodeInfo{GPUs: c.gpus}); got != c.want {
			t.Errorf("%v: %q, want %q", c.gpus, got, c.want)
		}
	}
	off := functions.NodeInfo{GPUHost: &functions.GPUHostInfo{State: functions.GPUHostOff, Reason: "driver not loaded"}}
	if got := gpuCell(off); got != "off (driver not loaded)" {
		t.Errorf("a host that is off: %q", got)
	}
}
