package gpusim

// Kind is a way in which a GPU host fails.
type Kind string

// The kinds. The class that each one has for the scheduler is beside it.
const (
	NoToolkit   Kind = "no-toolkit"  // gpu_host: the engine knows no GPUs
	NoDevice    Kind = "device"      // gpu_device: the engine does not find the device
	Requirement Kind = "requirement" // gpu_image: the image needs a newer driver
	Hook        Kind = "hook"        // gpu_unknown: a hook fails and says nothing
	Hang        Kind = "hang"        // gpu_hung: the launch is never answered
	Slow        Kind = "slow"        // =DURATION: the launch takes so much longer, and goes on

	OutOfMemory Kind = "oom"      // gpu_memory
	Lost        Kind = "lost"     // gpu_lost, and the readings say so until the fault is taken away
	Missing     Kind = "missing"  // gpu_missing: the program sees no device
	Unsuited    Kind = "unsuited" // gpu_unsuited: the program needs a newer driver
	Declined    Kind = "declined" // declined: exit code 79

	Foreign Kind = "foreign" // =SIZE: somebody else's process holds so much memory
	Stale   Kind = "stale"   // the probe says nothing
)

// stage is where a fault strikes.
type stage int

const (
	onLaunch  stage = iota + 1 // the container does not start
	onRun                      // it starts, and ends at once
	onReading                  // the reading is not what it should be
)

// kind is how a Kind shows itself. In says, %s is the first device of the launch.
type kind struct {
	stage stage
	says  string // by the engine, or by the program on its standard error
	code  int    // with which the program ends
}

// hookFailed is what an engine puts before the words of a failed hook.
const hookFailed = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: " +
	"error during container init: error running hook #0: error running hook: exit status 1, stdout: , stderr: "

var kinds = map[Kind]kind{
	NoToolkit:   {stage: onLaunch, says: `could not select device driver "" with capabilities: [[gpu compute utility video]]`},
	NoDevice:    {stage: onLaunch, says: hookFailed + "nvidia-container-cli: device error: %s: unknown device: unknown"},
	Requirement: {stage: onLaunch, says: hookFailed + "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=99.0, please update your driver to a newer version, or use an earlier cuda container: unknown"},
	Hook:        {stage: onLaunch, says: hookFailed + ": unknown"},
	Hang:        {stage: onLaunch},
	Slow:        {stage: onLaunch},

	OutOfMemory: {stage: onRun, says: "RuntimeError: CUDA out of memory", code: 1},
	Lost:        {stage: onRun, says: "RuntimeError: CUDA error: uncorrectable ECC error encountered: GPU is lost", code: 1},
	Missing:     {stage: onRun, says: "RuntimeError: no CUDA-capable device is detected", code: 1},
	Unsuited:    {stage: onRun, says: "RuntimeError: CUDA driver version is insufficient for CUDA runtime version", code: 1},
	Declined:    {stage: onRun, says: "this program cannot use the device that it was given", code: 79},

	Foreign: {stage: onReading},
	Stale:   {stage: onReading},
}

// order is how kinds are listed to people.
var order = []Kind{NoToolkit, NoDevice, Requirement, Hook, Hang, Slow, OutOfMemory, Lost, Missing, Unsuited, Declined, Foreign, Stale}
