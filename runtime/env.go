package runtime

import (
	"slices"
	"strings"
)

// The variables that decide which GPUs a program sees.
const (
	envVisible     = "NVIDIA_VISIBLE_DEVICES"
	envCUDAVisible = "CUDA_VISIBLE_DEVICES"
	envCUDAOrder   = "CUDA_DEVICE_ORDER"
	noGPU          = "void" // the toolkit's word for none, whatever the image asks for
)

// Environment is what a container gets over its image's variables: the spec's,
// less what decides which GPUs are seen, plus what decides it here. On a host
// whose default runtime is NVIDIA's, an image could otherwise give itself every
// GPU. Which devices a GPU container sees is the engine's to add.
func Environment(s Spec) []string {
	env := slices.DeleteFunc(slices.Clone(s.Env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return strings.HasPrefix(name, "NVIDIA_") || name == envCUDAVisible || name == envCUDAOrder
	})
	if len(s.GPUs) > 0 {
		return append(env, envCUDAOrder+"=PCI_BUS_ID")
	}
	return append(env, envVisible+"="+noGPU, envCUDAVisible+"=")
}
