package gpusim

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a machine with two devices of 80 GiB, and a driver around inner.
func host(t testing.TB, inner runtime.Driver, texts ...string) (*Host, runtime.Driver) {
	t.Helper()
	devices, err := ParseDevices("2x80GiB", "n")
	if err != nil {
		t.Fatal(err)
	}
	h := New(Config{Devices: devices, Faults: faults(t, texts...)})
	return h, h.Wrap(inner)
}

// box is a fake whose containers run the box.
func box() *runtimetest.Fake {
	f := runtimetest.NewFake()
	f.AddImage("box", runtime.Image{Size: functions.MiB, Entrypoint: []string{"/box"}, Command: []string{"echo", "hello"}, Env: []string{"BOX=image"}}, runtimetest.Box)
	return f
}

func TestTheDriverKeepsTheContract(t *testing.T) {
	runtimetest.TestDriver(t, func(t *testing.T) runtimetest.Subject {
		fake := box()
		_, d := host(t, fake)
		return runtimetest.Subject{
			Driver: d, Image: "box", Simulated: true,
			Reopen: func(*testing.T) runtime.Driver { return d },
			Load: func(*testing.T) string {
				fake.Add("box:second", runtimetest.Box)
				return "box:second"
			},
			GPU: &runtimetest.GPUSubject{
				IDs: []string{"SIM-n-0", "SIM-n-1"}, BadID: "SIM-n-7", Look: []string{"env", EnvDevices},
				Seen: func(stdout string) []string {
					return strings.FieldsFunc(stdout, func(r rune) bool { return r == ',' || r == '\n' })
				},
			},
		}
	})
}

// launched runs a container to its end on device 0.
func launched(t *testing.T, d runtime.Driver, event string, env ...string) (runtime.Exit, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	id, err := d.Create(ctx, runtime.Spec{Image: "box", Command: []string{"echo", "hello"}, Env: env, GPUs: []string{"SIM-n-0"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Remove(t.Context(), id); err != nil {
			t.Error(err)
		}
	}()
	var stderr bytes.Buffer
	if err := d.Start(ctx, id, runtime.Streams{Stdin: []byte(event), Stderr: &stderr}); err != nil {
		return runtime.Exit{}, "", err
	}
	exit, err := d.Wait(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return exit, stderr.String(), nil
}

// Each kind is told apart by those who read an engine's and a program's words.
func TestEachKindHasItsClass(t *testing.T) {
	for kind, class := range map[Kind]functions.Class{
		NoToolkit: functions.GPUHost, NoDevice: functions.GPUDevice, Requirement: functions.GPUImage, Hook: functions.GPUUnknown, Hang: functions.GPUHung,
		OutOfMemory: functions.GPUMemory, Lost: functions.GPULost, Missing: functions.GPUMissing, Unsuited: functions.GPUUnsuited, Declined: functions.Declined,
	} {
		synctest.Test(t, func(t *testing.T) {
			_, d := host(t, box(), string(kind))
			exit, stderr, err := launched(t, d, "{}")
			got := runtime.ClassifyRun(exit, true, stderr, false)
			if launch, failed := errors.AsType[*runtime.LaunchError](err); failed {
				got = runtime.ClassifyLaunch(launch.Message, launch.Hung, true)
			}
			if got != class {
				t.Errorf("%s is classified as %q, want %s (%v, %q)", kind, got, class, err, stderr)
			}
			// A container without a GPU meets nothing.
			id, err := d.Create(t.Context(), runtime.Spec{Image: "box", Command: []string{"exit", "3"}})
			if err == nil {
				err = d.Start(t.Context(), id, runtime.Streams{})
			}
			if err != nil {
				t.Fatalf("%s: a CPU container does not start: %v", kind, err)
			}
			if exit, err := d.Wait(t.Context(), id); err != nil || exit.Code != 3 {
				t.Errorf("%s: a CPU container ended with %+v, %v", kind, exit, err)
			}
		})
	}
}

func TestAContainerThatAFaultEndedHasEnded(t *testing.T) {
	_, d := host(t, box(), "oom")
	ctx := t.Context()
	labels := map[string]string{"a": "b"}
	id, err := d.Create(ctx, runtime.Spec{Image: "box", GPUs: []string{"SIM-n-0"}, Labels: labels})
	if err == nil {
		err = d.Start(ctx, id, runtime.Streams{})
	}
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := d.Attach(ctx, id, runtime.Streams{Stderr: &again}); err != nil || !strings.Contains(again.String(), "out of memory") {
		t.Errorf("attached: %q, %v", again.String(), err)
	}
	if err := d.Stop(ctx, id, time.Minute); err != nil {
		t.Errorf("stop: %v", err)
	}
	if u, err := d.Usage(ctx, id); err != nil || u != (runtime.Usage{}) {
		t.Errorf("usage %+v, %v", u, err)
	}
	if all, err := d.List(ctx, labels); err != nil || len(all) != 1 || all[0].State != runtime.Exited {
		t.Errorf("listed as %+v, %v", all, err)
	}
	if err := d.Remove(ctx, id); err != nil {
		t.Fatal(err)
	}
	if all, err := d.List(ctx, labels); err != nil || len(all) != 0 {
		t.Errorf("after its removal: %+v, %v", all, err)
	}
}

func TestSlowAddsToTheLaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d := host(t, box(), "slow=3s", "slow=4s@1")
		began := time.Now()
		if exit, _, err := launched(t, d, "{}"); err != nil || exit.Code != 0 {
			t.Fatalf("ended with %+v, %v", exit, err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %s, want the 3s of its device alone", took)
		}
		_, d = host(t, box(), "slow=10m")
		_, _, err := launched(t, d, "{}")
		if launch, ok := errors.AsType[*runtime.LaunchError](err); !ok || !launch.Hung {
			t.Errorf("slower than the launch may take: %v, want a hung launch", err)
		}
	})
}

// read is the reading of one device.
func read(t *testing.T, h *Host, index int) probe.Device {
	t.Helper()
	r, err := h.Now(t.Context())
	if err != nil || r.Source != Source || r.Status != probe.OK || len(r.Devices) != 2 {
		t.Fatalf("reading %+v, %v", r, err)
	}
	return r.Devices[index]
}

func TestReadingsFollowWhatRuns(t *testing.T) {
	h, d := host(t, box(), "foreign=10GiB@1")
	start := func(event string, gpus []string, env ...string) runtime.ID {
		t.Helper()
		id, err := d.Create(t.Context(), runtime.Spec{Image: "box", Command: []string{"sleep", "60000"}, Env: env, GPUs: gpus})
		if err == nil {
			err = d.Start(t.Context(), id, runtime.Streams{Stdin: []byte(event)})
		}
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	used := func(want0, want1 functions.Bytes) {
		t.Helper()
		for i, want := range []functions.Bytes{want0, want1} {
			if r := read(t, h, i); r.Used != want || r.Free != 80*functions.GiB-want {
				t.Errorf("device %d: %s used and %s free, want %s used", i, r.Used, r.Free, want)
			}
		}
	}
	gib := functions.GiB
	used(0, 10*gib)
	if p := read(t, h, 1).Processes; len(p) != 1 || p[0].Memory != 10*gib {
		t.Errorf("processes %+v, want somebody else's", p)
	}
	a := start("{}", []string{"SIM-n-0"}, "TASK_GPU_MEMORY_MIB=4096")
	b := start(`{"gpu_mib": 20480}`, []string{"SIM-n-0"}, "TASK_GPU_MEMORY_MIB=4096")
	used(24*gib, 10*gib)
	c := start("no JSON", []string{"SIM-n-1"})
	used(24*gib, 80*gib)
	if u := []int{read(t, h, 0).Utilisation, read(t, h, 1).Utilisation}; u[0] == 0 || u[1] == 0 {
		t.Errorf("utilisation %v of busy devices", u)
	}
	if err := d.Stop(t.Context(), a, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	used(20*gib, 10*gib)
	if err := d.Remove(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	used(0, 10*gib)
	if err := d.Remove(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

// A container that waits for its next task makes room for any other.
func TestAContainerThatServesTakesNothing(t *testing.T) {
	h, d := host(t, box(), "missing:first=1")
	start := func() (runtime.ID, runtime.Exit) {
		t.Helper()
		id, err := d.Create(t.Context(), runtime.Spec{Image: "box", GPUs: []string{"SIM-n-0"}, Labels: map[string]string{runtime.LabelServe: "f@1"}})
		if err == nil {
			err = d.Start(t.Context(), id, runtime.Streams{})
		}
		if err != nil {
			t.Fatal(err)
		}
		if r := read(t, h, 0); r.Used != 0 {
			t.Errorf("%s used", r.Used)
		}
		exit, err := d.Wait(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return id, exit
	}
	if _, exit := start(); exit.Code != 1 {
		t.Errorf("it ended with %+v, and was to meet a fault", exit)
	}
	if _, exit := start(); exit.Code != 0 {
		t.Errorf("it ended with %+v", exit)
	}
}

func TestAProgramThatTakesMoreThanThereIs(t *testing.T) {
	h, d := host(t, box(), "foreign=50GiB@0")
	for event, class := range map[string]functions.Class{`{"gpu_mib": 20480}`: "", `{"gpu_mib": 40960}`: functions.GPUMemory} {
		exit, stderr, err := launched(t, d, event, "TASK_GPU_MEMORY_MIB=4096")
		if got := runtime.ClassifyRun(exit, true, stderr, false); err != nil || got != class {
			t.Errorf("%s: class %q of %+v %q %v, want %q", event, got, exit, stderr, err, class)
		}
	}
	if r := read(t, h, 0); r.Used != 50*functions.GiB {
		t.Errorf("%s used by what has ended", r.Used)
	}
}

// A device that is promised twice shows it as a real one would.
func TestWhoComesLastIsOutOfMemory(t *testing.T) {
	for _, c := range []struct {
		first, second string // what each was told that it has; empty = the device
		fits          bool
	}{
		{"", "", false}, {"", "1024", false}, {"1024", "", false}, {"81920", "81920", false}, {"40960", "40960", true}, {"40960", "40961", false},
	} {
		_, d := host(t, box())
		env := func(mib string) []string {
			if mib == "" {
				return nil
			}
			return []string{"TASK_GPU_MEMORY_MIB=" + mib}
		}
		id, err := d.Create(t.Context(), runtime.Spec{Image: "box", Command: []string{"sleep", "60000"}, Env: env(c.first), GPUs: []string{"SIM-n-0"}})
		if err == nil {
			err = d.Start(t.Context(), id, runtime.Streams{})
		}
		if err != nil {
			t.Fatal(err)
		}
		exit, stderr, err := launched(t, d, "{}", env(c.second)...)
		class := runtime.ClassifyRun(exit, true, stderr, false)
		if err != nil || (class == "") != c.fits || (class == functions.GPUMemory) == c.fits {
			t.Errorf("%q beside %q: %q, %v; fits: %v", c.second, c.first, class, err, c.fits)
		}
		if err := d.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALostDeviceIsLostUntilItIsMended(t *testing.T) {
	devices, err := ParseDevices("2x80GiB", "n")
	if err != nil {
		t.Fatal(err)
	}
	f := faults(t, "lost:first=1@0")
	h := New(Config{Devices: devices, Faults: f})
	d := h.Wrap(box())
	if r := read(t, h, 0); r.Lost {
		t.Error("lost before anybody used it")
	}
	exit, stderr, err := launched(t, d, "{}")
	if err != nil || runtime.ClassifyRun(exit, true, stderr, false) != functions.GPULost {
		t.Errorf("the first launch: %+v %q %v", exit, stderr, err)
	}
	if r := read(t, h, 0); !r.Lost || r.ECC == 0 || read(t, h, 1).Lost {
		t.Errorf("reading %+v; want device 0 lost, and device 1 not", r)
	}
	_, _, err = launched(t, d, "{}")
	launch, ok := errors.AsType[*runtime.LaunchError](err)
	if !ok || runtime.ClassifyLaunch(launch.Message, false, true) != functions.GPUDevice {
		t.Errorf("a further launch: %v, want one that the engine refuses for the device", err)
	}
	f.fixed = nil
	f.enforce(nil)
	if r := read(t, h, 0); r.Lost || r.ECC != 0 {
		t.Errorf("mended, and read as %+v", r)
	}
	if exit, stderr, err := launched(t, d, "{}"); err != nil || exit.Code != 0 {
		t.Errorf("after it was mended: %+v %q %v", exit, stderr, err)
	}
}

func TestRunReportsWhatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := host(t, box(), "lost:first=1@0")
		var got []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- h.Run(ctx, func(r probe.Report) {
				switch {
				case r.Event != nil:
					got = append(got, "event "+r.Event.UUID)
				case r.Reading.Devices[0].Lost:
					got = append(got, "lost")
				case r.Reading.Devices[1].Used > 0:
					got = append(got, "used")
				default:
					got = append(got, "idle")
				}
			})
		}()
		synctest.Wait()
		id, err := d.Create(t.Context(), runtime.Spec{Image: "box", Command: []string{"sleep", "60000"}, GPUs: []string{"SIM-n-1"}})
		if err == nil {
			err = d.Start(t.Context(), id, runtime.Streams{})
		}
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := d.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, _, err := launched(t, d, "{}"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Second + time.Millisecond)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("it ended with %v", err)
		}
		if want := []string{"idle", "used", "idle", "event SIM-n-0", "lost", "lost"}; !slices.Equal(got, want) {
			t.Errorf("reported %q, want %q", got, want)
		}
	})
}

func TestASilentProbe(t *testing.T) {
	h, _ := host(t, box(), "stale")
	if r, err := h.Now(t.Context()); !errors.Is(err, functions.ErrUnavailable) || r.Status != probe.Silent {
		t.Errorf("reading %+v, %v; want silence", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := h.Run(ctx, func(r probe.Report) {
		if r.Reading == nil || r.Reading.Status != probe.Silent || len(r.Reading.Devices) > 0 {
			t.Errorf("report %+v, want silence", r)
		}
		cancel()
	}); err != nil {
		t.Error(err)
	}
}
