package node

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/containerd"
	"github.com/spillway/spillway/runtime/containerd/containerdtest"
	"github.com/spillway/spillway/runtime/entry/entrytest"
	"github.com/spillway/spillway/runtime/gpu"
	"github.com/spillway/spillway/runtime/gpu/probe"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// archives is a source of images by their names.
type archives map[string][]byte

func (a archives) Archive(_ context.Context, image string, _ func(runtime.PullProgress)) (io.ReadCloser, error) {
	if archive, ok := a[image]; ok {
		return io.NopCloser(bytes.NewReader(archive)), nil
	}
	return nil, runtime.ImageMissing(image)
}

// The agent on containerd, where devices come by CDI: a canary, a task that gets its
// device by UUID although the specification has only indices, and one whose device
// has another file by now.
func TestGPUsByCDI(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what runs on an engine")
	}
	mask := syscall.Umask(0o022) // the engine's own
	daemon := containerdtest.Start(t, containerdtest.Machine(t))
	syscall.Umask(mask)
	image, archive := runtimetest.BoxImage(t)
	dir, subject := runtimetest.CDI(t)
	d, err := containerd.New(containerd.Config{
		Address: daemon.Address, Namespace: "spillway-test-node", StateDir: t.TempDir(), Program: entrytest.Program(t), Source: archives{image: archive}, CDIDirs: []string{dir},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.RemoveImage(context.WithoutCancel(t.Context()), image); err != nil {
			t.Error(err)
		}
		d.Close()
	})
	if err := d.Pull(t.Context(), image, nil); err != nil {
		t.Fatal(err)
	}

	w := newWorld(t)
	m := newMeter(gib("GPU-a", 0, 24), gib("GPU-b", 1, 24))
	pool, err := gpu.New(gpu.Config{Canary: true})
	if err != nil {
		t.Fatal(err)
	}
	cfg := w.config()
	cfg.Driver, cfg.GPUs, cfg.Readings, cfg.Entry = d, pool, m, entrytest.Program(t)
	a := w.gpuAgent(cfg)
	// run waits until the device is to be had.
	run := func(device functions.Device, uuid string) functions.Outcome {
		t.Helper()
		as := w.gpuOrder(a, 0)
		as.Device, as.GPUs = device, []string{uuid}
		as.Function.Image, as.Function.Command, as.Function.Stdout = image, subject.Look, functions.StdoutResult
		w.until("the device is to be had", func() bool {
			i := slices.IndexFunc(pool.Snapshot(), func(g functions.GPUInfo) bool { return g.UUID == uuid })
			return pool.Snapshot()[i].Takes(as.Claim) && a.Admit(t.Context(), as) == nil
		})
		return w.fin(as)
	}
	for _, c := range []struct {
		device functions.Device
		uuid   string
		want   []string // indices of the devices that it sees
	}{
		{functions.GPU, "GPU-a", []string{"0"}}, {functions.GPU, "GPU-b", []string{"1"}}, {functions.CPU, "GPU-a", nil},
	} {
		out := run(c.device, c.uuid)
		wantClass(t, out, "", "")
		if seen := subject.Seen(*out.ResultText); !slices.Equal(seen, c.want) {
			t.Errorf("a %s task with %s sees %v, want %v", c.device, c.uuid, seen, c.want)
		}
	}
	m.set(func(r *probe.Reading) { r.Devices[1].Minor = 5 })
	w.until("that was read", func() bool { return a.look.reading().Devices[1].Minor == 5 })
	out := run(functions.GPU, "GPU-b")
	wantClass(t, out, functions.GPUDevice, functions.PhaseLaunch)
	if !strings.Contains(out.Failure.Message, "stale CDI specification") || !strings.Contains(out.Failure.Hint, "nvidia-ctk cdi generate") {
		t.Errorf("failure %+v", out.Failure)
	}
	w.nothingHeld(d)
}

// nothingHeld checks that an engine has no container of the node.
func (w *world) nothingHeld(d runtime.Driver) {
	w.t.Helper()
	w.until("containers are gone", func() bool {
		left, err := d.List(w.t.Context(), map[string]string{runtime.LabelNode: "n1"})
		return err == nil && len(left) == 0
	})
}
