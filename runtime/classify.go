package runtime

import (
	"regexp"

	"github.com/spillway/spillway/functions"
)

// rule gives a class to every text that its pattern finds.
type rule struct {
	class   functions.Class
	pattern *regexp.Regexp
}

// gpuLaunchRules name the causes of a failed launch that only a GPU container
// can meet. The first that matches wins: the narrow ones stand first, and the
// hook of no known owner last. The texts are those of Docker 20.10 to 29, runc
// 1.0 to 1.2, crun, containerd 1.6 to 2.x, nvidia-container-cli and the CDI
// library; HTTP status and exit code say nothing, because Docker derives both
// from words in the same text.
var gpuLaunchRules = []rule{
	{functions.GPUHost, regexp.MustCompile(`could not select device driver|dropped the request for devices|(?i:unknown (or invalid )?runtime)|runtime nvidia was not found`)},
	{functions.GPUImage, regexp.MustCompile(`requirement error: (unsatisfied|invalid)`)},
	{functions.GPUDevice, regexp.MustCompile(`nvidia-container-cli(\.real)?: device error|unknown device\b|unresolvable CDI devices` +
		`|failed to stat CDI host device|stale CDI specification|adding custom device "/dev/(nvidia|dri)|detection error: nvml error|GPU is lost`)},
	{functions.GPUHost, regexp.MustCompile(`(?i)nvidia-container-(cli|runtime)|nvidia container runtime|nvidia-ctk|nvidia-cdi-hook|libnvidia` +
		`|CDI device injection failed|could not apply required modification to OCI|nvml|setting GPU memory limits|nvcgo rpc error|driver rpc error`)},
	{functions.GPUUnknown, regexp.MustCompile(`(?i)running (prestart |createRuntime |createContainer )?hook|error executing hook`)},
}

// launchRules name the causes that have nothing to do with a GPU.
var launchRules = []rule{
	{functions.BadEntry, regexp.MustCompile(`executable file .*not found in \$PATH|chdir to cwd|exec format error|no command specified` +
		`|unable to find user|no matching entries in passwd file`)},
	{functions.ImageMissing, regexp.MustCompile(`(?i)no such image|manifest unknown|manifest for .* not found|pull access denied|repository does not exist` +
		`|^image \S+ (is not|cannot be)`)},
	{functions.Infra, regexp.MustCompile(`(?i)already in use|no space left|cannot connect to the docker daemon|error during connect|connection refused` +
		`|connection reset by peer|container engine does not answer|network \S+ not found|failed to create endpoint|bind source path does not exist` +
		`|^((post|get) "[^"]*": )?context (canceled|deadline exceeded)$`)}, // the create's own; a start's is hung
}

// reachedExec is what runc says when it stood before the program itself: every
// hook has succeeded by then. What follows is the user's text and no evidence.
var reachedExec = regexp.MustCompile(`(unable to start container process|starting container process caused): exec: `)

// ClassifyLaunch says what a failed Create or Start means, from the engine's
// own words. hung: no answer before the deadline. gpu: the container asked for
// a GPU; without one no rule about GPUs applies.
//
// A GPU launch that failed in a way we do not know is GPUUnknown, because the
// CPU attempt that follows is the test: the same error again proves it innocent.
func ClassifyLaunch(message string, hung, gpu bool) functions.Class {
	if hung {
		if gpu {
			return functions.GPUHung
		}
		return functions.Infra
	}
	evidence, atExec := message, false
	if at := reachedExec.FindStringIndex(message); at != nil {
		evidence, atExec = message[:at[0]], true
	}
	if gpu {
		if class, ok := match(gpuLaunchRules, evidence); ok {
			return class
		}
	}
	if atExec {
		return functions.BadEntry
	}
	if class, ok := match(launchRules, evidence); ok {
		return class
	}
	if gpu {
		return functions.GPUUnknown
	}
	return functions.Infra
}

// gpuRunRules name what programs print when the GPU is the cause: CUDA's error
// texts and names, and those of PyTorch and ffmpeg that hide them.
var gpuRunRules = []rule{
	{functions.GPUMemory, regexp.MustCompile(`CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|CUDA error: out of memory|cudaErrorMemoryAllocation` +
		`|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|OpenEncodeSessionEx failed: out of memory`)},
	{functions.GPULost, regexp.MustCompile(`uncorrectable ECC error|CUDA_ERROR_ECC_UNCORRECTABLE|GPU is lost|fallen off the bus` +
		`|CUDA_ERROR_SYSTEM_NOT_READY|system not yet initialized`)},
	{functions.GPUMissing, regexp.MustCompile(`no CUDA-capable device is detected|CUDA_ERROR_NO_DEVICE|No CUDA GPUs are available|Found no NVIDIA driver` +
		`|No CUDA capable devices found|Cannot load (libcuda|cuInit|libnvidia)|libcuda\.so\.1: cannot open|Failed to initialize NVML` +
		`|CUDA_ERROR_UNKNOWN|CUDA unknown error|CUDA_ERROR_DEVICE_UNAVAILABLE|device\(s\) is/are busy or unavailable`)},
	{functions.GPUUnsuited, regexp.MustCompile(`driver version is insufficient|driver on your system is too old|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH` +
		`|forward compatibility was attempted on non supported HW|does not support the required nvenc API version` +
		`|no kernel image is available|CUDA_ERROR_NO_BINARY_FOR_GPU|No capable devices found`)},
}

// The exit codes that carry a meaning: sysexits.h, the shell's and ours.
const (
	exitUsage    = 64
	exitData     = 65
	exitNoInput  = 66
	exitTempFail = 75
	exitConfig   = 78
	exitDeclined = 79 // ours: the program cannot use the device that it was given
	exitEngine   = 125
	exitCannot   = 126
	exitNotFound = 127
	exitSignal   = 128      // plus the signal's number
	lastSignal   = 64       // SIGRTMAX
	exitFileSize = 128 + 25 // SIGXFSZ
)

// ClassifyRun says what the exit of a container that ran means; the empty class
// is success. gpu: it held a GPU; without one, stderrTail is not looked at, for
// a CPU program that prints "CUDA out of memory" is simply wrong. deadline: the
// node stopped it for running past its limit; its code then says only how it
// took the signal, and a program may leave half its work with code 0.
func ClassifyRun(exit Exit, gpu bool, stderrTail string, deadline bool) functions.Class {
	code := exit.Code
	switch {
	case exit.OOMKilled && code != 0: // with code 0 a child was killed and the program coped
		return functions.OutOfMemory
	case deadline:
		return functions.TimedOutRun
	case code == 0:
		return ""
	case code == exitDeclined && gpu:
		return functions.Declined
	case code == exitUsage, code == exitData, code == exitNoInput, code == exitConfig:
		return functions.Permanent
	case code == exitTempFail:
		return functions.TempFail
	}
	if gpu { // before 127: that is also the loader's code for a missing libcuda
		if class, ok := match(gpuRunRules, stderrTail); ok {
			return class
		}
	}
	switch {
	case code == exitEngine:
		return functions.Infra
	case code == exitCannot, code == exitNotFound:
		return functions.BadEntry
	case code == exitFileSize:
		return functions.DiskExceeded
	case code > exitSignal && code <= exitSignal+lastSignal:
		return functions.Crashed
	}
	return functions.ExitError
}

func match(rules []rule, text string) (functions.Class, bool) {
	for _, r := range rules {
		if r.pattern.MatchString(text) {
			return r.class, true
		}
	}
	return "", false
}
