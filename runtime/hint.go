package runtime

import (
	"strings"

	"github.com/spillway/spillway/functions"
)

// hints are the next steps for one text of an engine or a program. The first
// that is found wins.
var hints = []struct{ text, hint string }{
	{"could not select device driver", "install nvidia-container-toolkit on the node and restart Docker: it looks for the toolkit only when it starts"},
	{"nknown runtime", "run nvidia-ctk runtime configure --runtime=docker on the node and restart Docker"},
	{"unknown or invalid runtime", "run nvidia-ctk runtime configure --runtime=docker on the node and restart Docker"},
	{"executable file not found in $PATH", "install nvidia-container-toolkit again on the node: a part of it is missing from dockerd's PATH"},
	{"driver not loaded", "load the NVIDIA kernel module on the node (modprobe nvidia); nvidia-smi must work there first"},
	{"libnvidia-ml.so.1", "install the NVIDIA driver on the node; nvidia-smi must work there first"},
	{"rpc error", "enable nvidia-persistenced on the node: without it the driver takes too long to wake"},
	{"bpf_prog_query", "upgrade nvidia-container-toolkit on the node, or set no-cgroups = true in its configuration when Docker is rootless"},
	{"invoking the NVIDIA Container Runtime Hook directly", "set mode = \"auto\" in /etc/nvidia-container-runtime/config.toml on the node"},
	{"setting GPU memory limits", "boot the node with cgroup v2, or set no GPU memory limit"},
	{"nresolvable CDI devices", "write the node's CDI specification anew: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"},
	{"CDI host device", "write the node's CDI specification anew: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"},
	{"stale CDI specification", "write the node's CDI specification anew: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"},
	{"dropped the request for devices", "use Docker 19.03 or newer on the node: what answers there in Docker's place gives containers no GPUs"},
	{"libnvidia-encode", "the encoder's library was not injected: check NVIDIA_DRIVER_CAPABILITIES in the image"},
	{"Failed to initialize NVML", "the container lost its device, often by systemctl daemon-reload: set Docker's cgroup driver to cgroupfs, or use CDI"},
	{"system not yet initialized", "start nvidia-fabricmanager on the node"},
	{"no space left", "free disk space on the node (docker system df)"},
}

// classHints are the next steps where no text says more.
var classHints = map[functions.Class]string{
	functions.GPUHost:      "check nvidia-smi and nvidia-container-cli info on the node",
	functions.GPUDevice:    "compare the node's devices (nvidia-smi -L) with what Spillway shows: one is gone or sick",
	functions.GPUImage:     "use an image built for an older CUDA, or upgrade the node's driver",
	functions.GPUUnknown:   "read the engine's log on the node (journalctl -u docker)",
	functions.GPUHung:      "check nvidia-smi on the node: the driver does not answer",
	functions.GPUMemory:    "ask for more free GPU memory in gpu.memory, or make the batch smaller",
	functions.GPULost:      "look for Xid in the node's kernel log (dmesg); reset or replace the device",
	functions.GPUMissing:   "check that the image does not set NVIDIA_VISIBLE_DEVICES and that nvidia-smi works in a container on the node",
	functions.GPUUnsuited:  "build the image for the node's driver and GPU generation",
	functions.Declined:     "the program refused this device; give cpu_profile what it needs without one",
	functions.Permanent:    "the program refuses this input or configuration; trying again cannot help",
	functions.TempFail:     "the program asks to be tried again; raise retries.max",
	functions.BadEntry:     "check entrypoint and command: the program must exist in the image and be executable",
	functions.OutOfMemory:  "raise limits.memory",
	functions.Crashed:      "the program was killed by a signal; read the end of its log",
	functions.TimedOutRun:  "raise timeout, or make the input smaller",
	functions.DiskExceeded: "raise limits.disk",
	functions.ImageMissing: "check the image's name, and that the node can pull it or has it loaded",
	functions.Infra:        "check that the container engine runs on the node (docker info)",
}

// Hint says what to do next about a failure, in one sentence; empty when there
// is nothing to add. message is the engine's words, or the program's.
func Hint(class functions.Class, message string) string {
	if class.GPUFault() || class == functions.Infra {
		for _, h := range hints {
			if strings.Contains(message, h.text) {
				return h.hint
			}
		}
	}
	return classHints[class]
}
