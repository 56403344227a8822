package runtime

import (
	"slices"
	"testing"
)

func TestEnvironment(t *testing.T) {
	spec := Spec{Env: []string{"A=1", "NVIDIA_VISIBLE_DEVICES=all", "CUDA_VISIBLE_DEVICES=3", "CUDA_DEVICE_ORDER=x", "CUDA_LAUNCH_BLOCKING=1"}}
	before := slices.Clone(spec.Env)
	want := []string{"A=1", "CUDA_LAUNCH_BLOCKING=1", "NVIDIA_VISIBLE_DEVICES=void", "CUDA_VISIBLE_DEVICES="}
	if got := Environment(spec); !slices.Equal(got, want) {
		t.Errorf("of a CPU container: %q, want %q", got, want)
	}
	spec.GPUs = []string{"0"}
	want = []string{"A=1", "CUDA_LAUNCH_BLOCKING=1", "CUDA_DEVICE_ORDER=PCI_BUS_ID"}
	if got := Environment(spec); !slices.Equal(got, want) {
		t.Errorf("of a GPU container: %q, want %q", got, want)
	}
	if !slices.Equal(spec.Env, before) {
		t.Errorf("the caller's spec became %q", spec.Env)
	}
}
