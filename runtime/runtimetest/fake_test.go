package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// subject is a fake with the box, as a bench of its own.
func subject() (*Fake, Subject) {
	f := NewFake()
	add := func(name string) {
		f.AddImage(name, runtime.Image{
			Size: functions.MiB, Entrypoint: []string{"/box"}, Command: []string{"echo", "hello"}, Env: []string{"BOX=image"},
		}, Box)
	}
	add("box")
	return f, Subject{
		Driver: f, Image: "box", Simulated: true, Parallel: 256,
		Reopen: func(*testing.T) runtime.Driver { return f },
		Load: func(*testing.T) string {
			add("box:second")
			return "box:second"
		},
	}
}

func TestFake(t *testing.T) {
	TestDriver(t, func(*testing.T) Subject {
		_, s := subject()
		return s
	})
}

func TestFakeWithGPUs(t *testing.T) {
	TestGPU(t, func(*testing.T) Subject {
		f, s := subject()
		s.GPU = &GPUSubject{
			IDs: []string{"GPU-0", "GPU-1"}, BadID: "GPU-7",
			Look: []string{"env", "NVIDIA_VISIBLE_DEVICES"}, Seen: Visible,
		}
		f.OnLaunch(func(_ context.Context, spec runtime.Spec) error {
			for _, id := range spec.GPUs {
				if !slices.Contains(s.GPU.IDs, id) {
					return fmt.Errorf("nvidia-container-cli: device error: %s: unknown device", id)
				}
			}
			return nil
		})
		return s
	})
}

func TestLaunchFailsInTheEnginesWords(t *testing.T) {
	f := NewFake()
	f.Add("box", Box)
	f.OnLaunch(func(_ context.Context, spec runtime.Spec) error {
		if len(spec.GPUs) > 0 {
			return errors.New(`could not select device driver "" with capabilities: [[gpu]]`)
		}
		return nil
	})
	id, err := f.Create(t.Context(), runtime.Spec{Image: "box", GPUs: []string{"GPU-1"}})
	if err != nil {
		t.Fatal(err)
	}
	err = f.Start(t.Context(), id, runtime.Streams{})
	var launch *runtime.LaunchError
	if !errors.As(err, &launch) {
		t.Fatalf("Start: %v", err)
	}
	if class := runtime.ClassifyLaunch(launch.Message, launch.Hung, true); class != functions.GPUHost {
		t.Errorf("class %s", class)
	}
	if infos, err := f.List(t.Context(), nil); err != nil || len(infos) != 1 || infos[0].State != runtime.Created {
		t.Errorf("after a failed start: %+v, %v", infos, err)
	}
}

func TestHungLaunchStartsLateUnlessRemoved(t *testing.T) {
	for _, removed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := NewFake()
			f.Add("box", Box)
			f.OnLaunch(func(ctx context.Context, _ runtime.Spec) error {
				sleep(ctx, 8*time.Second)
				return nil
			})
			id, err := f.Create(t.Context(), runtime.Spec{Image: "box", Command: []string{"wait"}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err = f.Start(ctx, id, runtime.Streams{})
			var launch *runtime.LaunchError
			if !errors.As(err, &launch) || !launch.Hung {
				t.Fatalf("Start: %v, want hung", err)
			}
			if removed {
				if err := f.Remove(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			sleep(t.Context(), 10*time.Second)
			synctest.Wait()
			infos, err := f.List(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if removed && len(infos) != 0 {
				t.Errorf("a removed container started late: %+v", infos)
			}
			if !removed && (len(infos) != 1 || infos[0].State != runtime.Up) {
				t.Errorf("ten seconds later: %+v, want it up", infos)
			}
			if err := f.Remove(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestDownAnswersNothing(t *testing.T) {
	f := NewFake()
	f.SetDown(true)
	if _, err := f.Probe(t.Context()); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("Probe: %v", err)
	}
	if _, err := f.List(t.Context(), nil); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("List: %v", err)
	}
}

func TestBoxImageIsAnArchive(t *testing.T) {
	name, archive := BoxImage(t)
	if !strings.HasPrefix(name, "spillway-test-box:") || len(archive) < 1<<20 {
		t.Errorf("image %s of %d bytes", name, len(archive))
	}
}
