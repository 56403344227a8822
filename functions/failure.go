package functions

import (
	"encoding/json"
	"slices"
)

// Class says what kind of failure it was. The class alone decides what follows:
// see package scheduler, respawn.go. It is also the stable code that clients,
// metrics and webhooks see.
type Class string

const (
	// A GPU launch failed for a cause that a CPU container does not share.
	GPUHost    Class = "gpu_host"    // the host cannot attach any GPU: toolkit, driver or its set-up
	GPUDevice  Class = "gpu_device"  // this device is gone or sick
	GPUImage   Class = "gpu_image"   // the image needs a newer driver or CUDA than the host has
	GPUUnknown Class = "gpu_unknown" // a GPU launch failed in a way we do not know
	GPUHung    Class = "gpu_hung"    // the engine did not answer the GPU launch in time

	// The container ran with a GPU and failed because of it.
	GPUMemory   Class = "gpu_memory"   // CUDA out of memory
	GPULost     Class = "gpu_lost"     // the device failed under the task
	GPUMissing  Class = "gpu_missing"  // the container did not see its device
	GPUUnsuited Class = "gpu_unsuited" // driver or architecture does not suit the program
	Declined    Class = "declined"     // exit 79: the program cannot use this device

	// The function's own fault. None of these ever changes the device.
	ExitError    Class = "exit_error"     // non-zero exit
	Permanent    Class = "permanent"      // exit 64, 65, 66 or 78: trying again cannot help
	TempFail     Class = "temporary"      // exit 75: the program asks to be tried again
	BadEntry     Class = "bad_entrypoint" // exit 126, 127, or the engine could not exec it
	OutOfMemory  Class = "out_of_memory"  // killed by the kernel for host memory
	Crashed      Class = "crashed"        // killed by a signal that is not ours
	TimedOutRun  Class = "timeout"        // ran past its limit
	DiskExceeded Class = "disk_exceeded"  // wrote more than its limit
	BadOutput    Class = "bad_output"     // result.json is not JSON, or an output name is not allowed
	ImageMissing Class = "image_missing"  // the image is not on the node and cannot be pulled

	// The platform's fault; tried again elsewhere or later, without counting.
	Infra     Class = "infrastructure" // engine, disk or network of the node
	InputGone Class = "input_gone"     // an input object no longer exists, or changed; final
	Store     Class = "store"          // the object store does not answer
	NodeLost  Class = "node_lost"      // the node stopped answering
	Refused   Class = "refused"        // the node had no room after all

	// Neither.
	CanceledByUser Class = "canceled"
	QueueExpired   Class = "queue_timeout"  // waited longer than queue_timeout
	UploadExpired  Class = "upload_expired" // the upload never came
)

// launchGPU and runGPU are the classes that a CPU container cannot share.
var (
	launchGPU = []Class{GPUHost, GPUDevice, GPUImage, GPUUnknown, GPUHung}
	runGPU    = []Class{GPUMemory, GPULost, GPUMissing, GPUUnsuited, Declined}
	platform  = []Class{Infra, Store, NodeLost, Refused}
)

// GPULaunch reports whether c is a failed GPU launch.
func (c Class) GPULaunch() bool { return slices.Contains(launchGPU, c) }

// GPUFault reports whether c is a cause that a CPU container would not share.
func (c Class) GPUFault() bool { return c.GPULaunch() || slices.Contains(runGPU, c) }

// Platform reports whether c is our fault and not the function's.
func (c Class) Platform() bool { return slices.Contains(platform, c) }

// Failure is why an attempt, or in the end the task, did not succeed.
type Failure struct {
	Class    Class  `json:"class"`
	Message  string `json:"message"`             // what happened, in the words of whoever saw it
	Hint     string `json:"hint,omitempty"`      // what to do next
	Phase    Phase  `json:"phase,omitempty"`     // where it happened
	ExitCode int    `json:"exit_code,omitempty"` // of the container; meaningful when it ran
	Type     string `json:"type,omitempty"`      // error.type of the function's own result.json

	Body json.RawMessage `json:"body,omitempty"` // what a lambda function itself answered as its error, up to MostErrorBody
}

// MostErrorBody is the largest error document of a function that is kept as it is.
const MostErrorBody = 16 * KiB

// Phase is a stretch of an attempt with its own limit and its own duration.
type Phase string

const (
	PhaseUploadWait Phase = "awaiting_upload"
	PhaseQueue      Phase = "queue"
	PhaseStage      Phase = "stage"  // inputs to the node
	PhasePull       Phase = "pull"   // image to the node
	PhaseLaunch     Phase = "launch" // create and start
	PhaseRun        Phase = "run"
	PhaseCollect    Phase = "collect" // outputs to the store
)
