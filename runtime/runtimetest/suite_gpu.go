package runtimetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// GPUSubject is the GPUs of a bench, real or pretended.
type GPUSubject struct {
	IDs   []string // at least two that the driver gives to containers
	BadID string   // one that it does not have
	Look  []string // arguments with which the box says what it sees
	// Seen reads the ids out of what it said. It is also asked about containers
	// that were given none.
	Seen func(stdout string) []string
}

// TestGPU holds a driver whose Subject has GPUs to what the contract says of
// them. TestDriver does the same among the rest.
func TestGPU(t *testing.T, open func(t *testing.T) Subject) {
	conform(t, open(t), gpuSentences)
}

var gpuSentences = []sentence{
	{"a GPU container sees the devices that it was given, and no others", testGPUSeen, false},
	{"a device that is not there fails the launch, and is told apart", testGPUUnknown, false},
	{"a container without GPUs sees none", testGPUNone, false},
}

func (b *bench) gpuSpec(t *testing.T, ids ...string) runtime.Spec {
	t.Helper()
	if b.GPU == nil {
		t.Skip("the bench has no GPU")
	}
	spec := b.spec(b.GPU.Look...)
	spec.GPUs = ids
	return spec
}

func testGPUSeen(t *testing.T, b *bench) {
	b.gpuSpec(t) // skips where there are none
	for _, ids := range [][]string{b.GPU.IDs[:1], b.GPU.IDs[1:2], b.GPU.IDs[:2]} {
		exit, stdout, stderr := b.run(t, b.gpuSpec(t, ids...))
		if seen := b.GPU.Seen(stdout); exit.Code != 0 || !slices.Equal(slices.Sorted(slices.Values(seen)), slices.Sorted(slices.Values(ids))) {
			t.Errorf("given %v: it sees %v (%+v %q %q)", ids, seen, exit, stdout, stderr)
		}
	}
}

func testGPUUnknown(t *testing.T, b *bench) {
	b.gpuSpec(t)
	for _, ids := range [][]string{{b.GPU.BadID}, {b.GPU.IDs[0], b.GPU.BadID}} {
		id, err := b.Driver.Create(within(t), b.gpuSpec(t, ids...))
		if err == nil {
			err = b.Driver.Start(within(t), id, runtime.Streams{})
		}
		var launch *runtime.LaunchError
		if !errors.As(err, &launch) || launch.Hung {
			t.Fatalf("given %v: %v, want a LaunchError", ids, err)
		}
		if class := runtime.ClassifyLaunch(launch.Message, launch.Hung, true); class != functions.GPUDevice {
			t.Errorf("given %v: class %s of %q, want %s", ids, class, launch.Message, functions.GPUDevice)
		}
		b.sweep(t)
	}
}

func testGPUNone(t *testing.T, b *bench) {
	b.gpuSpec(t)
	spec := b.gpuSpec(t)
	spec.Env = []string{"NVIDIA_VISIBLE_DEVICES=all"}
	if _, stdout, _ := b.run(t, spec); len(b.GPU.Seen(stdout)) != 0 {
		t.Errorf("it sees %q", stdout)
	}
}

// Visible reads the ids out of the value of NVIDIA_VISIBLE_DEVICES.
func Visible(stdout string) []string {
	value := strings.TrimSpace(stdout)
	if value == "" || value == "void" || value == "none" {
		return nil
	}
	return strings.Split(value, ",")
}
