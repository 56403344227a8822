package runtime

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
)

// The words around a hook's stderr, by engine and version.
var hookTexts = map[string]string{
	"docker 20.10, runc 1.1": "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running hook #0: error running hook: exit status 1, stdout: , stderr: %: unknown",
	"docker 28.5, runc 1.1":  "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running hook #0: error running hook: exit status 1, stdout: , stderr: %: unknown",
	"runc 1.0":               "OCI runtime create failed: container_linux.go:380: starting container process caused: process_linux.go:545: container init caused: Running hook #0:: error running hook: exit status 1, stdout: , stderr: %: unknown",
	"runc 1.2":               "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running prestart hook #0: exit status 1, stdout: , stderr: %",
	"crun":                   "OCI runtime create failed: error executing hook `/usr/bin/nvidia-container-runtime-hook` (exit code: 1): %",
}

// What a hook prints.
var hookCases = []struct {
	stderr string
	want   functions.Class
}{
	{`nvidia-container-cli: initialization error: nvml error: driver not loaded`, functions.GPUHost},
	{`nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file: no such file or directory`, functions.GPUHost},
	{`couldn't find binary nvidia-container-cli in PATH: exec: "nvidia-container-cli": executable file not found in $PATH`, functions.GPUHost},
	{`nvidia-container-cli: mount error: failed to add device rules: unable to find any existing device filters attached to the cgroup: bpf_prog_query(BPF_CGROUP_DEVICE) failed: permission denied`, functions.GPUHost},
	{`nvidia-container-cli: initialization error: driver rpc error: timed out`, functions.GPUHost},
	{`nvidia-container-cli: initialization error: nvcgo rpc error: timed out`, functions.GPUHost},
	{`nvidia-container-cli: initialization error: driver rpc error: failed to process request`, functions.GPUHost},
	{`nvidia-container-cli: initialization error: cuda error: unknown error`, functions.GPUHost},
	{`nvidia-container-cli: ldcache error: process /sbin/ldconfig failed with error code: 1`, functions.GPUHost},
	{`nvidia-container-cli: detection error: nvml error: unknown error`, functions.GPUDevice},
	{`nvidia-container-cli: device error: GPU-5a2c: unknown device`, functions.GPUDevice},
	{`nvidia-container-cli.real: device error: 7: unknown device`, functions.GPUDevice},
	{`nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.4, please update your driver to a newer version, or use an earlier cuda container`, functions.GPUImage},
	{`nvidia-container-cli: requirement error: invalid expression`, functions.GPUImage},
	{`invoking the NVIDIA Container Runtime Hook directly (e.g. specifying the docker --gpus flag) is not supported. Please use the NVIDIA Container Runtime (e.g. specify the --runtime=nvidia flag) instead`, functions.GPUHost},
	{`cannot read libcuda.so`, functions.GPUUnknown},
	{``, functions.GPUUnknown},
}

func TestClassifyLaunchHook(t *testing.T) {
	for engine, around := range hookTexts {
		for _, c := range hookCases {
			want := c.want
			if engine == "crun" && want == functions.GPUUnknown {
				want = functions.GPUHost // crun names the hook
			}
			message := strings.ReplaceAll(around, "%", c.stderr)
			if got := ClassifyLaunch(message, false, true); got != want {
				t.Errorf("%s: ClassifyLaunch(%q, gpu) = %s, want %s", engine, c.stderr, got, want)
			}
			if got := ClassifyLaunch(message, false, false); got.GPUFault() {
				t.Errorf("%s: ClassifyLaunch(%q, cpu) = %s: a CPU container has no GPU fault", engine, c.stderr, got)
			}
		}
	}
}

func TestClassifyLaunch(t *testing.T) {
	const runc = "failed to create shim task: OCI runtime create failed: runc create failed: "
	for _, c := range []struct {
		message  string
		gpu, cpu functions.Class
	}{
		// The daemon's own words about GPUs.
		{`could not select device driver "" with capabilities: [[gpu]]`, functions.GPUHost, functions.Infra},
		{`could not select device driver "nvidia" with capabilities: [[gpu compute utility video]]`, functions.GPUHost, functions.Infra},
		{`could not select device driver "cdi" with capabilities: []`, functions.GPUHost, functions.Infra},
		{`error gathering device information while adding custom device "/dev/nvidia0": no such file or directory`, functions.GPUDevice, functions.Infra},
		{`Unknown runtime specified nvidiaX`, functions.GPUHost, functions.Infra},
		{`unknown or invalid runtime name: nvidia`, functions.GPUHost, functions.Infra},
		{`exec: "nvidia-container-runtime-hook": executable file not found in $PATH`, functions.GPUHost, functions.BadEntry},
		{`cannot set both Count and DeviceIDs on device request`, functions.GPUUnknown, functions.Infra},
		{`could not apply required modification to OCI specification: error modifying OCI spec: failed to inject CDI devices: unresolvable CDI devices nvidia.com/gpu=9`, functions.GPUDevice, functions.Infra},
		{`could not apply required modification to OCI specification: no specification`, functions.GPUHost, functions.Infra},
		{`CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=77`, functions.GPUDevice, functions.Infra},
		{`CDI device injection failed: no registry`, functions.GPUHost, functions.Infra},
		{`failed to inject devices: failed to stat CDI host device "/dev/nvidia0": no such file or directory`, functions.GPUDevice, functions.Infra},
		{runc + `unable to start container process: error during container init: error running createContainer hook #0: setting GPU memory limits is only supported in cgroup v2`, functions.GPUHost, functions.Infra},

		// The user's program.
		{runc + `unable to start container process: exec: "/no/such": stat /no/such: no such file or directory: unknown`, functions.BadEntry, functions.BadEntry},
		{runc + `unable to start container process: exec: "/etc": permission denied: unknown`, functions.BadEntry, functions.BadEntry},
		{runc + `unable to start container process: exec: "train": executable file not found in $PATH: unknown`, functions.BadEntry, functions.BadEntry},
		{`OCI runtime create failed: container_linux.go:380: starting container process caused: exec: "train": executable file not found in $PATH: unknown`, functions.BadEntry, functions.BadEntry},
		{runc + `unable to start container process: exec: "nvidia-smi": executable file not found in $PATH: unknown`, functions.BadEntry, functions.BadEntry},
		{runc + `unable to start container process: exec: "nvidia-container-cli: device error: 0: unknown device": stat: no such file or directory`, functions.BadEntry, functions.BadEntry},
		{runc + `unable to start container process: exec: "error running hook #0: could not select device driver": executable file not found in $PATH`, functions.BadEntry, functions.BadEntry},
		{`no command specified`, functions.BadEntry, functions.BadEntry},

		// The image, and the machine.
		{`No such image: nowhere:latest`, functions.ImageMissing, functions.ImageMissing},
		{`no such image: nowhere:latest`, functions.ImageMissing, functions.ImageMissing},
		{`pull access denied for nowhere, repository does not exist or may require 'docker login': denied`, functions.ImageMissing, functions.ImageMissing},
		{`manifest for alpine:nope not found: manifest unknown: manifest unknown`, functions.ImageMissing, functions.ImageMissing},
		{`write /var/lib/docker/x: no space left on device`, functions.Infra, functions.Infra},
		{`Conflict. The container name "/a" is already in use by container "b"`, functions.Infra, functions.Infra},
		{`Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?`, functions.Infra, functions.Infra},

		{`error during connect: Post "http://%2Fvar%2Frun%2Fdocker.sock/v1.41/containers/a/start": EOF`, functions.Infra, functions.Infra},
		{`failed to create endpoint a on network bridge: adding interface veth9c36b3e to bridge docker0 failed: could not find bridge docker0: route ip+net: no such network interface`, functions.Infra, functions.Infra},
		{`Post "http://%2Fvar%2Frun%2Fdocker.sock/v1.41/containers/create?name=a": context deadline exceeded`, functions.Infra, functions.Infra},
		{`context canceled`, functions.Infra, functions.Infra},
		{`network bridge not found`, functions.Infra, functions.Infra},
		{`invalid mount config for type "bind": bind source path does not exist: /srv/in`, functions.Infra, functions.Infra},

		// Nothing that we know.
		{`a text that no one has seen`, functions.GPUUnknown, functions.Infra},
		{``, functions.GPUUnknown, functions.Infra},
	} {
		if got := ClassifyLaunch(c.message, false, true); got != c.gpu {
			t.Errorf("ClassifyLaunch(%q, gpu) = %s, want %s", c.message, got, c.gpu)
		}
		if got := ClassifyLaunch(c.message, false, false); got != c.cpu {
			t.Errorf("ClassifyLaunch(%q, cpu) = %s, want %s", c.message, got, c.cpu)
		}
	}
}

func TestClassifyLaunchHung(t *testing.T) {
	if got := ClassifyLaunch("context deadline exceeded", true, true); got != functions.GPUHung {
		t.Errorf("hung with a GPU = %s, want %s", got, functions.GPUHung)
	}
	if got := ClassifyLaunch("context deadline exceeded", true, false); got != functions.Infra {
		t.Errorf("hung without a GPU = %s, want %s", got, functions.Infra)
	}
}

func TestClassifyRunCode(t *testing.T) {
	for _, c := range []struct {
		name     string
		exit     Exit
		deadline bool
		gpu, cpu functions.Class
	}{
		{"success", Exit{}, false, "", ""},
		{"a child was killed for memory and the program coped", Exit{OOMKilled: true}, false, "", ""},
		{"stopped at the deadline, took the signal with 0", Exit{}, true, functions.TimedOutRun, functions.TimedOutRun},
		{"stopped at the deadline, took the signal with 255", Exit{Code: 255}, true, functions.TimedOutRun, functions.TimedOutRun},
		{"killed after the deadline", Exit{Code: 137}, true, functions.TimedOutRun, functions.TimedOutRun},
		{"terminated after the deadline", Exit{Code: 143}, true, functions.TimedOutRun, functions.TimedOutRun},
		{"killed for memory", Exit{Code: 137, OOMKilled: true}, false, functions.OutOfMemory, functions.OutOfMemory},
		{"shell whose child was killed for memory", Exit{Code: 1, OOMKilled: true}, false, functions.OutOfMemory, functions.OutOfMemory},
		{"killed by someone", Exit{Code: 137}, false, functions.Crashed, functions.Crashed},
		{"segmentation fault", Exit{Code: 139}, false, functions.Crashed, functions.Crashed},
		{"wrote too large a file", Exit{Code: 153}, false, functions.DiskExceeded, functions.DiskExceeded},
		{"usage", Exit{Code: 64}, false, functions.Permanent, functions.Permanent},
		{"data", Exit{Code: 65}, false, functions.Permanent, functions.Permanent},
		{"no input", Exit{Code: 66}, false, functions.Permanent, functions.Permanent},
		{"configuration", Exit{Code: 78}, false, functions.Permanent, functions.Permanent},
		{"try again", Exit{Code: 75}, false, functions.TempFail, functions.TempFail},
		{"declined", Exit{Code: 79}, false, functions.Declined, functions.ExitError},
		{"engine", Exit{Code: 125}, false, functions.Infra, functions.Infra},
		{"not executable", Exit{Code: 126}, false, functions.BadEntry, functions.BadEntry},
		{"not found", Exit{Code: 127}, false, functions.BadEntry, functions.BadEntry},
		{"one", Exit{Code: 1}, false, functions.ExitError, functions.ExitError},
		{"128 is no signal", Exit{Code: 128}, false, functions.ExitError, functions.ExitError},
		{"255 is no signal", Exit{Code: 255}, false, functions.ExitError, functions.ExitError},
	} {
		if got := ClassifyRun(c.exit, true, "", c.deadline); got != c.gpu {
			t.Errorf("%s: with a GPU %q, want %q", c.name, got, c.gpu)
		}
		if got := ClassifyRun(c.exit, false, "", c.deadline); got != c.cpu {
			t.Errorf("%s: without a GPU %q, want %q", c.name, got, c.cpu)
		}
	}
}

func TestClassifyRunText(t *testing.T) {
	for _, c := range []struct {
		stderr string
		want   functions.Class
	}{
		{"Cannot load libcuda.so.1", functions.GPUMissing},
		{"Cannot load cuInit", functions.GPUMissing},
		{"dl_fn->cuda_dl->cuInit(0) failed -> CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected", functions.GPUMissing},
		{"dl_fn->cuda_dl->cuInit(0) failed -> CUDA_ERROR_SYSTEM_NOT_READY: system not yet initialized", functions.GPULost},
		{"No CUDA capable devices found", functions.GPUMissing},
		{"dl_fn->cuda_dl->cuCtxCreate(&ctx->cu_context_internal, 4, cu_device) failed -> CUDA_ERROR_OUT_OF_MEMORY: out of memory\nNo capable devices found", functions.GPUMemory},
		{"failed -> CUDA_ERROR_DEVICE_UNAVAILABLE: CUDA-capable device(s) is/are busy or unavailable", functions.GPUMissing},
		{"OpenEncodeSessionEx failed: out of memory (10): (no details)", functions.GPUMemory},
		{"OpenEncodeSessionEx failed: unsupported device (2): (no details)\nNo capable devices found", functions.GPUUnsuited},
		{"Driver does not support the required nvenc API version. Required: 11.1 Found: 5.0", functions.GPUUnsuited},
		{"Cannot load libnvidia-encode.so.1", functions.GPUMissing},
		{"torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB", functions.GPUMemory},
		{"RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", functions.GPUMemory},
		{"RuntimeError: No CUDA GPUs are available", functions.GPUMissing},
		{"RuntimeError: Found no NVIDIA driver on your system.", functions.GPUMissing},
		{"Failed to initialize NVML: Unknown Error", functions.GPUMissing},
		{"./a: error while loading shared libraries: libcuda.so.1: cannot open shared object file: No such file or directory", functions.GPUMissing},
		{"CUDA error: uncorrectable ECC error encountered", functions.GPULost},
		{"Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.  Reboot the system to recover this GPU", functions.GPULost},
		{"CUDA driver version is insufficient for CUDA runtime version", functions.GPUUnsuited},
		{"forward compatibility was attempted on non supported HW", functions.GPUUnsuited},
		{"CUDA error: no kernel image is available for execution on the device", functions.GPUUnsuited},
		{"CUDA error: an illegal memory access was encountered", functions.ExitError},
		{"CUDA error: device-side assert triggered", functions.ExitError},
		{"CUDA error: unspecified launch failure", functions.ExitError},
		{"ValueError: no such column", functions.ExitError},
	} {
		tail := "loading model\n" + c.stderr + "\n"
		if got := ClassifyRun(Exit{Code: 1}, true, tail, false); got != c.want {
			t.Errorf("ClassifyRun(1, gpu, %q) = %s, want %s", c.stderr, got, c.want)
		}
		if got := ClassifyRun(Exit{Code: 1}, false, tail, false); got != functions.ExitError {
			t.Errorf("ClassifyRun(1, cpu, %q) = %s, want %s", c.stderr, got, functions.ExitError)
		}
		if got := ClassifyRun(Exit{}, true, tail, false); got != "" {
			t.Errorf("ClassifyRun(0, gpu, %q) = %s: a program that succeeded has no fault", c.stderr, got)
		}
	}
	if got := ClassifyRun(Exit{Code: 127}, true, "libcuda.so.1: cannot open shared object file", false); got != functions.GPUMissing {
		t.Errorf("a missing libcuda stops the loader with 127: %s, want %s", got, functions.GPUMissing)
	}
}

// What a program or an image says must never make a CPU attempt a GPU fault, and
// only success has no class.
func TestClassifyNeverBlamesAGPUThatWasNotHeld(t *testing.T) {
	words := rapid.SampledFrom([]string{"CUDA out of memory", "nvidia-container-cli: device error", "unknown device", "Running hook #0", "exec: ",
		"unable to start container process: exec: ", "could not select device driver", "\n", "x"})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(words).Draw(t, "text"), " ")
		exit := Exit{Code: rapid.IntRange(0, 255).Draw(t, "code"), OOMKilled: rapid.Bool().Draw(t, "oom")}
		deadline := rapid.Bool().Draw(t, "deadline")
		if c := ClassifyLaunch(text, rapid.Bool().Draw(t, "hung"), false); c.GPUFault() || c == "" {
			t.Fatalf("launch: %q", c)
		}
		if c := ClassifyRun(exit, false, text, deadline); c.GPUFault() || (c == "") != (exit.Code == 0 && !deadline) {
			t.Fatalf("run of %+v: %q", exit, c)
		}
	})
}

func TestHint(t *testing.T) {
	if got := Hint(functions.GPUHost, `could not select device driver "" with capabilities: [[gpu]]`); !strings.Contains(got, "nvidia-container-toolkit") || !strings.Contains(got, "restart Docker") {
		t.Errorf("no toolkit: hint %q", got)
	}
	if got := Hint(functions.ExitError, "could not select device driver"); got != "" {
		t.Errorf("the program's own error needs no hint: %q", got)
	}
	for _, c := range hookCases {
		if Hint(c.want, c.stderr) == "" {
			t.Errorf("no hint for %s %q", c.want, c.stderr)
		}
	}
}
