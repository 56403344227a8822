package media

import (
	"os/exec"
	"strings"

	"github.com/spillway/spillway/functions/catalog/task"
)

// RequireDevice makes sure that an attempt that was given a GPU can use it: it
// opens the device as decoding would, and does nothing else. Without it a
// GPU attempt whose work happens to need no decoder would quietly run on the CPU
// and hold a slot for nothing.
func RequireDevice(d task.Device) error {
	if d != task.GPU {
		return nil
	}
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		return err
	}
	cmd := exec.Command("ffmpeg", "-v", "error", "-nostdin", "-hide_banner", "-init_hw_device", "cuda=gpu",
		"-f", "lavfi", "-i", "color=size=64x64:duration=0.04", "-frames:v", "1", "-f", "null", "-")
	_, stderr, err := run(cmd)
	if err == nil {
		return nil
	}
	return task.NoDevice("DeviceUnusable", "the GPU cannot be used here: %s", first(stderr))
}

// deviceFault reports whether ffmpeg's words blame the device. Its exit code is 1
// for every cause, so the words are all there is: its CUDA calls name CUDA in
// each message (libavutil/cuda_check.h), its libraries are cuda, cuvid and nvcuvid.
func deviceFault(stderr string) bool {
	s := strings.ToLower(stderr)
	return strings.Contains(s, "cuda") || strings.Contains(s, "cuvid")
}

// first is the line that names the cause: ffmpeg ends with what followed from it.
func first(s string) string {
	l, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return last(l)
}

// decodeArgs are ffmpeg's options, before the input, to decode on the device.
func decodeArgs(d task.Device) []string {
	if d == task.GPU {
		return []string{"-hwaccel", "cuda"}
	}
	return nil
}
